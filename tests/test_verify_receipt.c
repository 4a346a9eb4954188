/* Receipt documents verified: a whole one passes, and of each thing that is changed exactly the check that is about it
 * fails. */
#include "test.h"

#include <openssl/evp.h>

#include "authority.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/merkle.h"
#include "evidence_document.h"
#include "trust/binding.h"
#include "trust/checkpoint.h"
#include "trust/receipt.h"

enum { CHOICES = 2, LEAVES = 3, LEAF = 1 };

static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"temperature\":0}";
static const uint32_t prompt[] = {1, 2, 300};
static const char policy[] = "{\"type\":\"sim\",\"allow_simulated\":true,"
                             "\"models\":\"1111111111111111111111111111111111111111111111111111111111111111\"}";

struct step {
    enum receipt_part part;
    uint32_t ids[2];
    size_t count;
    const char *bytes;
    size_t length;
};

static struct step steps[CHOICES][6] = {
    {{RECEIPT_REASONING, {5}, 1, "hm", 2}, {RECEIPT_CONTENT, {6, 7}, 2, "Par\"is", 6}, {RECEIPT_CONTENT, {8}, 1, "!", 1},
     {RECEIPT_FINISH, {9}, 1, "stop\0END", 8}},
    {{RECEIPT_CONTENT, {10}, 1, "Let me see", 10}, {RECEIPT_TOOL_CALL, {11}, 1, "f\0call_a", 8},
     {RECEIPT_ARGUMENTS, {0}, 0, "{}", 2}, {RECEIPT_FINISH, {0}, 0, "tool_calls", 10}}};

/* Who signs, and what a test changes. */
struct machine {
    EVP_PKEY *receipts, *others, *log, *witness;
    char log_key[200], other_log_key[200], witness_key[200], same_witness_key[200], log_witness_key[200];
    int is_signed_twice; /* the checkpoint: by each key once more, under other names */
    struct receipt receipt;
    struct receipt_choice choices[CHOICES];
    EVP_PKEY *signs; /* `receipts` */
    void (*change)(struct machine *machine); /* before it is signed; NULL: nothing */
};

static struct machine machine;

static void get_public(EVP_PKEY *key, uint8_t bytes[32])
{
    size_t length = 32;
    assert_int_equal(EVP_PKEY_get_raw_public_key(key, bytes, &length), 1);
}

static struct note_key name_key(EVP_PKEY *key, const char *name, enum note_algorithm algorithm)
{
    struct note_key named = {.algorithm = algorithm};
    strcpy(named.name, name);
    get_public(key, named.key);
    return named;
}

static void write_key(EVP_PKEY *key, const char *name, enum note_algorithm algorithm, char text[200])
{
    const struct note_key named = name_key(key, name, algorithm);
    struct buffer out = {0};
    note_key_write(&named, &out);
    snprintf(text, 200, "%s", (const char *)out.data);
    buffer_free(&out);
}

static int make_machine(void **state)
{
    machine.receipts = authority_key("Ed25519");
    machine.others = authority_key("Ed25519");
    machine.log = authority_key("Ed25519");
    machine.witness = authority_key("Ed25519");
    write_key(machine.log, "example.com/log", NOTE_ED25519, machine.log_key);
    write_key(machine.others, "example.com/log", NOTE_ED25519, machine.other_log_key);
    write_key(machine.witness, "witness.one", NOTE_COSIGNATURE, machine.witness_key);
    write_key(machine.witness, "witness.two", NOTE_COSIGNATURE, machine.same_witness_key);
    write_key(machine.log, "witness.log", NOTE_COSIGNATURE, machine.log_witness_key);
    return 0;
}

static int free_machine(void **state)
{
    EVP_PKEY_free(machine.receipts);
    EVP_PKEY_free(machine.others);
    EVP_PKEY_free(machine.log);
    EVP_PKEY_free(machine.witness);
    return 0;
}

/* ---- Making a document ---- */

static void write_hex(struct buffer *out, const uint8_t *bytes, size_t length)
{
    char text[200];
    hex_encode(bytes, length, text);
    buffer_append_format(out, "\"%s\"", text);
}

static void make_salt(uint8_t salt[RECEIPT_SALT])
{
    memset(salt, 0x5a, RECEIPT_SALT);
}

/* Simulated evidence of this key and model, canonical. */
static void make_evidence(struct buffer *out)
{
    struct binding binding = {.model_count = 1};
    uint8_t report_data[REPORT_DATA_BYTES];
    struct buffer text = {0};
    struct arena arena = {0};
    bulla_error error = {0};
    char hex[2 * REPORT_DATA_BYTES + 1];
    get_public(machine.receipts, binding.receipt_key);
    memset(binding.tls_key, 1, 32);
    memset(binding.policy, 2, 32);
    memset(binding.nonce, 3, 32);
    memset(binding.models[0], 0x11, 32);
    assert_ok(binding_report_data(&binding, report_data, &error), error);
    hex_encode(report_data, sizeof report_data, hex);
    evidence_begin(&text, "sim");
    buffer_append_text(&text, ",\"binding\":");
    binding_write(&binding, &text);
    buffer_append_format(&text, ",\"report\":{\"measurement\":\"%064d\",\"report_data\":\"%s\"}}", 0, hex);
    json_write_canonical(out, json_parse((const char *)text.data, text.length, "evidence", &arena, &error));
    assert_true(out->length > 0);
    arena_free(&arena);
    buffer_free(&text);
}

static void fill_choices(const uint8_t salt[RECEIPT_SALT])
{
    bulla_error error = {0};
    for (size_t i = 0; i < CHOICES; i++) {
        struct receipt_choice *choice = &machine.choices[i];
        *choice = (struct receipt_choice){.finish = i ? "tool_calls" : "stop"};
        assert_ok(receipt_chain_start(salt, (uint32_t)i, choice->chain, &error), error);
        for (const struct step *step = steps[i]; step->part; step++) {
            assert_ok(receipt_chain_step(choice->chain, step->part, step->ids, step->count, step->bytes, step->length, &error),
                      error);
            choice->tokens += step->count;
        }
    }
}

static void fill_receipt(const struct buffer *evidence)
{
    struct receipt *receipt = &machine.receipt;
    uint8_t salt[RECEIPT_SALT];
    bulla_error error = {0};
    make_salt(salt);
    fill_choices(salt);
    *receipt = (struct receipt){.id = {0xab}, .time = 1800000000, .backend = "native", .is_simulated = 1,
                                .program_version = 1, .prompt_tokens = 3, .output_tokens = 7,
                                .parameters_text = "{\"n\":2,\"temperature\":0}", .choices = machine.choices,
                                .choice_count = CHOICES, .retention = "none"};
    memset(receipt->model_root, 0x11, 32);
    memset(receipt->policy, 2, 32);
    get_public(machine.receipts, receipt->key);
    assert_ok(receipt_request_hash(salt, body, strlen(body), receipt->request, &error), error);
    assert_ok(receipt_prompt_hash(salt, prompt, 3, receipt->prompt, &error), error);
    assert_ok(hash_sha256(evidence->data, evidence->length, receipt->evidence, &error), error);
    machine.signs = machine.receipts;
    if (machine.change)
        machine.change(&machine);
}

/* The member "log": a tree of three leaves, of which one is the receipt's. */
static void write_log(struct buffer *out, const struct buffer *receipt)
{
    uint8_t entry[32], leaves[LEAVES][32], path[64][32];
    struct checkpoint checkpoint = {.origin = "example.com/log", .size = LEAVES};
    const struct note_key log = name_key(machine.log, "example.com/log", NOTE_ED25519),
                          witness = name_key(machine.witness, "witness.one", NOTE_COSIGNATURE);
    struct buffer text = {0}, note = {0};
    bulla_error error = {0};
    unsigned length;
    assert_ok(hash_sha256(receipt->data, receipt->length, entry, &error), error);
    for (size_t i = 0; i < LEAVES; i++)
        assert_ok(merkle_leaf_hash(i == LEAF ? (const void *)entry : &i, i == LEAF ? sizeof entry : sizeof i, leaves[i], &error),
                  error);
    assert_ok(merkle_path(leaves[0], LEAVES, LEAF, path, &length, &error), error);
    assert_ok(merkle_root(leaves[0], LEAVES, checkpoint.root, &error), error);
    checkpoint_write(&checkpoint, &text);
    buffer_append_format(&note, "%s\n", (const char *)text.data);
    assert_ok(note_sign((const char *)text.data, text.length, &log, machine.log, 0, &note, &error), error);
    assert_ok(note_sign((const char *)text.data, text.length, &witness, machine.witness, 5, &note, &error), error);
    if (machine.is_signed_twice) {
        const struct note_key again = name_key(machine.witness, "witness.two", NOTE_COSIGNATURE),
                              log_again = name_key(machine.log, "witness.log", NOTE_COSIGNATURE);
        assert_ok(note_sign((const char *)text.data, text.length, &again, machine.witness, 5, &note, &error), error);
        assert_ok(note_sign((const char *)text.data, text.length, &log_again, machine.log, 5, &note, &error), error);
    }
    buffer_append_text(out, ",\"log\":{\"checkpoint\":");
    json_write_string(out, (const char *)note.data, note.length);
    buffer_append_format(out, ",\"index\":%d,\"path\":[", LEAF);
    for (unsigned i = 0; i < length; i++) {
        buffer_append_text(out, i ? "," : "");
        write_hex(out, path[i], 32);
    }
    buffer_append_text(out, "]}");
    buffer_free(&text);
    buffer_free(&note);
}

static void write_step(struct buffer *out, const struct step *step)
{
    buffer_append_format(out, "{\"ids\":[");
    for (size_t i = 0; i < step->count; i++)
        buffer_append_format(out, i ? ",%u" : "%u", step->ids[i]);
    buffer_append_format(out, "],\"part\":\"%s\",\"text\":", receipt_part_name(step->part));
    json_write_string(out, step->bytes, step->length);
    buffer_append_byte(out, '}');
}

static void write_transcript(struct buffer *out)
{
    uint8_t salt[RECEIPT_SALT];
    make_salt(salt);
    buffer_append_text(out, ",\"transcript\":{\"choices\":[");
    for (size_t i = 0; i < CHOICES; i++) {
        buffer_append_text(out, i ? ",{\"steps\":[" : "{\"steps\":[");
        for (const struct step *step = steps[i]; step->part; step++) {
            buffer_append_text(out, step == steps[i] ? "" : ",");
            write_step(out, step);
        }
        buffer_append_text(out, "]}");
    }
    buffer_append_text(out, "],\"prompt_ids\":[1,2,300],\"request\":\"");
    base64_append(out, (const uint8_t *)body, strlen(body));
    buffer_append_text(out, "\",\"salt\":");
    write_hex(out, salt, sizeof salt);
    buffer_append_byte(out, '}');
}

static void make_document(struct buffer *out)
{
    struct buffer evidence = {0}, receipt = {0};
    bulla_error error = {0};
    make_evidence(&evidence);
    fill_receipt(&evidence);
    assert_ok(receipt_sign(&machine.receipt, machine.signs, &receipt, &error), error);
    buffer_append_format(out, "{\"bulla_receipt\":1,\"evidence\":%s", (const char *)evidence.data);
    write_log(out, &receipt);
    buffer_append_format(out, ",\"signed\":%s", (const char *)receipt.data);
    write_transcript(out);
    buffer_append_byte(out, '}');
    assert_int_equal(out->error.code, BULLA_OK);
    buffer_free(&evidence);
    buffer_free(&receipt);
}

/* ---- Judging it ---- */

static bulla_receipt_options all_options(const char *keys[2])
{
    keys[0] = machine.log_key;
    keys[1] = machine.witness_key;
    return (bulla_receipt_options){.evidence = {.policy = policy, .policy_length = strlen(policy)}, .log_keys = keys,
                                   .log_key_count = 2, .witnesses = 1, .parameters = "{\"temperature\":0}",
                                   .parameters_length = strlen("{\"temperature\":0}")};
}

static bulla_verdict *judge_with(const struct buffer *document, const bulla_receipt_options *options)
{
    bulla_verdict *verdict;
    bulla_error error = {0};
    assert_ok(bulla_verify_receipt((const char *)document->data, document->length, options, &verdict, &error), error);
    return verdict;
}

/* The failed checks must be these. */
static void expect_with(const struct buffer *document, const bulla_receipt_options *options, const char *failures,
                        const char *what)
{
    bulla_verdict *verdict = judge_with(document, options);
    const char *found = evidence_failures(verdict);
    if (strcmp(found, failures) != 0)
        fail_msg("%s: these checks fail: \"%s\", expected \"%s\"", what, found, failures);
    assert_int_equal(bulla_verdict_passed(verdict), !*failures);
    bulla_verdict_free(verdict);
}

static void expect(const struct buffer *document, const char *failures, const char *what)
{
    const char *keys[2];
    bulla_receipt_options options = all_options(keys);
    expect_with(document, &options, failures, what);
}

static void replace(struct buffer *document, const char *found, const char *with)
{
    struct buffer changed = {0};
    const char *text = (const char *)document->data, *at = strstr(text, found);
    if (!at)
        fail_msg("the document has no %s", found);
    buffer_append(&changed, text, (size_t)(at - text));
    buffer_append_text(&changed, with);
    buffer_append_text(&changed, at + strlen(found));
    buffer_free(document);
    *document = changed;
}

static void a_whole_document_passes(void **state)
{
    static const char *const passing[] = {
        "receipt.signature", "receipt.request", "receipt.prompt", "receipt.chain.0", "receipt.chain.1", "receipt.tokens",
        "receipt.finish", "receipt.parameters", "receipt.evidence", "receipt.simulated", "receipt.policy", "log.checkpoint",
        "log.witnesses", "log.inclusion", "binding.report_data", "binding.receipt_key", "binding.model", "policy.models"};
    struct buffer document = {0};
    const char *keys[2];
    bulla_receipt_options options = all_options(keys);
    make_document(&document);
    bulla_verdict *verdict = judge_with(&document, &options);
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (strcmp(evidence_state(verdict, passing[i]), "pass") != 0)
            fail_msg("%s: %s", passing[i], evidence_state(verdict, passing[i]));
    assert_true(bulla_verdict_passed(verdict));
    bulla_verdict_free(verdict);
    buffer_free(&document);
}

/* ---- What is said, signed and logged, and is not so ---- */

static void change_key(struct machine *changed)
{
    get_public(changed->others, changed->receipt.key);
    changed->signs = changed->others;
}

static void change_signer(struct machine *changed)
{
    changed->signs = changed->others;
}

#define CHANGE(name, statement) \
    static void change_##name(struct machine *changed) \
    { \
        statement; \
    }
CHANGE(model, changed->receipt.model_root[0] ^= 1)
CHANGE(backend, changed->receipt.backend = "upstream")
CHANGE(evidence, changed->receipt.evidence[0] ^= 1)
CHANGE(no_evidence, memset(changed->receipt.evidence, 0, 32))
CHANGE(policy, changed->receipt.policy[31] ^= 1)
CHANGE(simulated, changed->receipt.is_simulated = 0)
CHANGE(request, changed->receipt.request[5] ^= 1)
CHANGE(prompt, changed->receipt.prompt[5] ^= 1)
CHANGE(prompt_tokens, changed->receipt.prompt_tokens = 4)
CHANGE(output_tokens, changed->receipt.output_tokens = 8)
CHANGE(tokens, changed->choices[1].tokens = 3)
CHANGE(shifted_tokens, changed->choices[0].tokens++; changed->choices[1].tokens--)
CHANGE(chain, changed->choices[0].chain[7] ^= 1)
CHANGE(other_chain, changed->choices[1].chain[7] ^= 1)
CHANGE(finish, changed->choices[0].finish = "length")
CHANGE(long_finish, changed->choices[0].finish = "stopping")
CHANGE(parameters, changed->receipt.parameters_text = "{\"n\":2,\"temperature\":1}")
CHANGE(no_parameters, changed->receipt.parameters_text = "{\"n\":2}")
CHANGE(choices, changed->receipt.choice_count = 1)

static void what_is_signed_must_be_so(void **state)
{
    static const struct {
        void (*change)(struct machine *machine);
        const char *failures;
    } changes[] = {
        {change_key, "binding.receipt_key"},
        {change_signer, "receipt.signature"},
        {change_model, "binding.model policy.models"},
        {change_backend, "policy.models"},
        {change_evidence, "receipt.evidence"},
        {change_no_evidence, "receipt.evidence"},
        {change_policy, "receipt.policy"},
        {change_simulated, "receipt.simulated"},
        {change_request, "receipt.request"},
        {change_prompt, "receipt.prompt"},
        {change_prompt_tokens, "receipt.prompt"},
        {change_output_tokens, "receipt.tokens"},
        {change_tokens, "receipt.tokens"},
        {change_shifted_tokens, "receipt.tokens"},
        {change_chain, "receipt.chain.0"},
        {change_other_chain, "receipt.chain.1"},
        {change_finish, "receipt.finish"},
        {change_long_finish, "receipt.finish"},
        {change_parameters, "receipt.parameters"},
        {change_no_parameters, "receipt.parameters"},
        {change_choices, "receipt.transcript"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct buffer document = {0};
        char what[20];
        snprintf(what, sizeof what, "change %zu", i);
        machine.change = changes[i].change;
        make_document(&document);
        expect(&document, changes[i].failures, what);
        buffer_free(&document);
    }
    machine.change = NULL;
}

/* ---- What is changed afterwards ---- */

static void what_is_changed_is_found(void **state)
{
    static const char signature[] = "receipt.signature log.inclusion";
    static const struct {
        const char *found, *with, *failures;
    } changes[] = {
        /* Of the receipt: nothing in it can be changed. */
        {"\"adapter_root\":\"0", "\"adapter_root\":\"1", signature},
        {"\"chat_template\":\"0", "\"chat_template\":\"1", signature},
        {"\"engine\":null", "\"engine\":\"other\"", signature},
        {"\"id\":\"ab", "\"id\":\"ac", signature},
        {"\"program_version\":1", "\"program_version\":2", signature},
        {"\"retention\":\"none\"", "\"retention\":\"all\"", signature},
        {"\"time\":1800000000", "\"time\":1800000001", signature},
        {"\"tokenizer\":\"0", "\"tokenizer\":\"1", signature},
        {"\"n\":2", "\"n\":3", signature},
        {"\"prompt_tokens\":3", "\"prompt_tokens\":4", "receipt.signature receipt.prompt log.inclusion"},
        {"\"finish\":\"stop\"", "\"finish\":\"length\"", "receipt.signature receipt.finish log.inclusion"},
        {"\"bulla_receipt\":1,\"evidence\"", "\"bulla_receipt\":2,\"evidence\"", "receipt.format"},
        {"\"bulla_receipt\":1,\"evidence\"", "\"more\":1,\"bulla_receipt\":1,\"evidence\"", "receipt.format"},
        {"\"signed\":{", "\"signed\":{\"more\":1,", "receipt.format"},
        {"\"signed\":{", "\"log2\":{", "receipt.format"},
        /* Of the transcript: text, ids, their order, borders of steps. */
        {"Par\\\"is", "Rom\\\"is", "receipt.chain.0"},
        {"\"text\":\"!\"", "\"text\":\"\"", "receipt.chain.0"},
        {"[6,7]", "[7,6]", "receipt.chain.0"},
        {"[6,7]", "[6]", "receipt.chain.0 receipt.tokens"},
        {"{\"ids\":[8],\"part\":\"content\",\"text\":\"!\"},", "", "receipt.chain.0 receipt.tokens"},
        {"{\"ids\":[8]", "{\"ids\":[],\"part\":\"content\",\"text\":\"\"},{\"ids\":[8]", "receipt.chain.0"},
        {"\"part\":\"reasoning\"", "\"part\":\"content\"", "receipt.chain.0"},
        {"\"part\":\"reasoning\"", "\"part\":\"thought\"", "receipt.chain.0 receipt.tokens receipt.finish"},
        {",{\"ids\":[9],\"part\":\"finish\",\"text\":\"stop\\u0000END\"}", "",
         "receipt.chain.0 receipt.tokens receipt.finish"},
        {"stop\\u0000END", "stop", "receipt.chain.0"},
        {"stop\\u0000END", "length", "receipt.chain.0 receipt.finish"},
        {"f\\u0000call_a", "g\\u0000call_a", "receipt.chain.1"},
        {"\"{}\"", "\"[]\"", "receipt.chain.1"},
        {"\"tool_calls\"}]}", "\"tool_calls\"},{\"part\":\"content\",\"text\":\"x\"}]}", "receipt.chain.1"},
        {"\"ids\":[5]", "\"ids\":[-5]", "receipt.chain.0 receipt.tokens receipt.finish"},
        {"\"ids\":[5]", "\"ids\":[4294967296]", "receipt.chain.0 receipt.tokens receipt.finish"},
        {"\"ids\":[5]", "\"id\":[5]", "receipt.chain.0 receipt.tokens receipt.finish"},
        {"\"ids\":[5]", "\"ids\":5", "receipt.chain.0 receipt.tokens receipt.finish"},
        {"\"salt\":\"5a", "\"salt\":\"5b", "receipt.request receipt.prompt receipt.chain.0 receipt.chain.1"},
        {"\"salt\":\"5a", "\"salt\":\"a", "receipt.transcript"},
        {"\"request\":\"ey", "\"request\":\"fy", "receipt.request"},
        {"\"request\":\"ey", "\"request\":\"!y", "receipt.request"},
        {"[1,2,300]", "[1,2,301]", "receipt.prompt"},
        {"[1,2,300]", "[2,1,300]", "receipt.prompt"},
        {"[1,2,300]", "[1,2]", "receipt.prompt"},
        {"[1,2,300]", "[[1,2],[300]]", "receipt.prompt"},
        {"[1,2,300]", "[1,2,\"300\"]", "receipt.prompt"},
        {"\"transcript\":{", "\"transcript\":{\"more\":1,", "receipt.transcript"},
        /* Of the log. */
        {"\"index\":1", "\"index\":0", "log.inclusion"},
        {"\"index\":1", "\"index\":3", "log.inclusion"},
        {"\"index\":1", "\"index\":-1", "log.inclusion"},
        {"\"index\":1", "\"index\":1,\"more\":1", "log.inclusion"},
        {"example.com/log\\n3", "example.com/log\\n4", "log.checkpoint log.witnesses"}, /* the path is good there */
        {"\"checkpoint\":\"example.com/log", "\"checkpoint\":\"example.com/gol", "log.checkpoint log.witnesses"},
        {"\"checkpoint\":\"example.com/log\\n3", "\"checkpoint\":\"example.com/log\\nx", "log.inclusion"},
        {"\u2014 witness.one", "\u2014 witness.two", "log.witnesses"},
        {"\u2014 example.com/log", "\u2014 example.com/gol", "log.checkpoint"},
        /* Of the evidence. */
        {"\"measurement\":\"00", "\"measurement\":\"01", "receipt.evidence"},
        {"\"report_data\":\"", "\"report_data\":\"0", "receipt.evidence sim.report_data binding.report_data"},
        {"\"nonce\":\"03", "\"nonce\":\"04", "receipt.evidence binding.report_data"},
        {"\"type\":\"sim\"", "\"type\":\"mis\"", "receipt.evidence evidence.type"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct buffer document = {0};
        make_document(&document);
        replace(&document, changes[i].found, changes[i].with);
        expect(&document, changes[i].failures, changes[i].with);
        buffer_free(&document);
    }
}

/* The member's text with the comma before or behind it. */
static void drop_member(struct buffer *document, const char *name)
{
    struct buffer changed = {0};
    struct arena arena = {0};
    bulla_error error = {0};
    const struct json *whole = json_parse((const char *)document->data, document->length, "document", &arena, &error);
    buffer_append_byte(&changed, '{');
    for (size_t i = 0; i < whole->length; i++) {
        if (strcmp(whole->keys[i], name) == 0)
            continue;
        buffer_append_format(&changed, "%s\"%s\":", changed.length > 1 ? "," : "", whole->keys[i]);
        json_write_canonical(&changed, whole->items[i]);
    }
    buffer_append_byte(&changed, '}');
    arena_free(&arena);
    buffer_free(document);
    *document = changed;
}

/* What is not there is not checked, and says so; a policy that needs it does not pass. */
static void what_is_missing_is_not_checked(void **state)
{
    struct buffer document = {0}, evidence = {0};
    const char *keys[2];
    bulla_receipt_options options = all_options(keys);
    make_document(&document);
    drop_member(&document, "transcript");
    bulla_verdict *verdict = judge_with(&document, &options);
    assert_string_equal(evidence_state(verdict, "receipt.transcript"), "not checked");
    assert_string_equal(evidence_state(verdict, "receipt.chain.0"), "");
    assert_true(bulla_verdict_passed(verdict));
    bulla_verdict_free(verdict);
    options.request = body;
    options.request_length = strlen(body);
    expect_with(&document, &options, "receipt.request", "a request, without its salt");
    options.request = NULL;
    drop_member(&document, "log");
    expect_with(&document, &options, "log.inclusion", "a log's key, without the log");
    options.log_key_count = 0;
    options.witnesses = 0;
    verdict = judge_with(&document, &options);
    assert_string_equal(evidence_state(verdict, "log.inclusion"), "not checked");
    assert_true(bulla_verdict_passed(verdict));
    bulla_verdict_free(verdict);
    drop_member(&document, "evidence");
    expect_with(&document, &options, "policy", "no evidence");
    make_evidence(&evidence);
    options.evidence_document = (const char *)evidence.data;
    options.evidence_length = evidence.length;
    expect_with(&document, &options, "", "evidence beside the document");
    options.evidence.policy = NULL;
    expect_with(&document, &options, "policy", "no policy");
    options.parameters = NULL;
    verdict = judge_with(&document, &options);
    assert_string_equal(evidence_state(verdict, "receipt.parameters"), "not checked");
    bulla_verdict_free(verdict);
    buffer_free(&document);
    buffer_free(&evidence);
}

static void a_witness_counts_once(void **state)
{
    struct buffer document = {0};
    const char *keys[] = {machine.log_key, machine.witness_key, machine.witness_key, machine.same_witness_key,
                          machine.log_witness_key};
    bulla_receipt_options options = all_options(keys);
    keys[0] = machine.log_key;
    keys[1] = machine.witness_key;
    machine.is_signed_twice = 1;
    make_document(&document);
    options.log_key_count = sizeof keys / sizeof *keys;
    expect_with(&document, &options, "", "one witness, whose key is given several times");
    options.witnesses = 2;
    expect_with(&document, &options, "log.witnesses", "two witnesses are wanted, and one has signed under two names");
    machine.is_signed_twice = 0;
    buffer_free(&document);
}

/* A finish ends a choice, also one without a word. */
static void nothing_follows_a_finish(void **state)
{
    struct buffer document = {0};
    struct step kept[6];
    memcpy(kept, steps[1], sizeof kept);
    steps[1][4] = steps[1][3];
    steps[1][3] = (struct step){RECEIPT_FINISH, {0}, 0, "", 0};
    make_document(&document);
    expect(&document, "receipt.chain.1 receipt.finish", "a step after an empty finish");
    buffer_free(&document);
    memcpy(steps[1], kept, sizeof kept);
}

/* The verdict says when the evidence was judged. */
static void the_time_is_told(void **state)
{
    struct buffer document = {0};
    const char *keys[2];
    bulla_receipt_options options = all_options(keys);
    make_document(&document);
    for (int is_asked = 0; is_asked < 2; is_asked++) {
        options.evidence.time = is_asked ? 1900000000 : 0;
        bulla_verdict *verdict = judge_with(&document, &options);
        assert_string_equal(evidence_state(verdict, "receipt.time"), "not checked");
        const char *found = NULL;
        for (size_t i = 0; i < bulla_verdict_count(verdict); i++)
            if (strcmp(bulla_verdict_check(verdict, i).name, "receipt.time") == 0)
                found = bulla_verdict_check(verdict, i).found;
        assert_non_null(strstr(found, is_asked ? "2030-03-17T17:46:40Z, as was asked for" : "2027-01-15T08:00:00Z, when the receipt"));
        bulla_verdict_free(verdict);
    }
    buffer_free(&document);
}

static void what_is_expected_is_compared(void **state)
{
    struct buffer document = {0};
    const char *keys[2];
    bulla_receipt_options options = all_options(keys);
    bulla_verdict *verdict;
    make_document(&document);
    options.request = "other";
    options.request_length = 5;
    expect_with(&document, &options, "receipt.request", "another request");
    options = all_options(keys);
    keys[0] = machine.other_log_key;
    expect_with(&document, &options, "log.checkpoint", "another log's key of the same name");
    options = all_options(keys);
    keys[1] = machine.other_log_key;
    expect_with(&document, &options, "log.witnesses", "another witness");
    keys[0] = "no key";
    assert_int_equal(bulla_verify_receipt((const char *)document.data, document.length, &options, &verdict, NULL),
                     BULLA_E_INPUT);
    options = all_options(keys);
    options.parameters = "[]";
    options.parameters_length = 2;
    assert_int_equal(bulla_verify_receipt((const char *)document.data, document.length, &options, &verdict, NULL),
                     BULLA_E_USAGE);
    options = all_options(keys);
    options.log_key_count = 0; /* whose witnesses? */
    assert_int_equal(bulla_verify_receipt((const char *)document.data, document.length, &options, &verdict, NULL),
                     BULLA_E_USAGE);
    options = all_options(keys);
    options.evidence.tls_key = machine.receipt.key;
    expect_with(&document, &options, "binding.tls_key", "another server's TLS key");
    assert_int_equal(bulla_verify_receipt("{", 1, &options, &verdict, NULL), BULLA_E_INPUT);
    buffer_free(&document);
}

/* A bit of the document, anywhere: it is no document any more, or the verdict does not pass. Hex may be in upper case. */
static void every_bit_counts(void **state)
{
    struct buffer document = {0};
    const char *keys[2];
    bulla_receipt_options options = all_options(keys);
    size_t step = (size_t)test_count(13, 1), tried = 0;
    make_document(&document);
    size_t from = (size_t)(strstr((const char *)document.data, ",\"log\":") - (const char *)document.data);
    for (size_t bit = 0; bit < 8 * document.length; bit += step, tried++) {
        uint8_t mask = (uint8_t)(1 << bit % 8), *at = document.data + bit / 8, before = *at;
        bulla_verdict *verdict = NULL;
        int is_case = mask == 0x20 && bit / 8 >= from && ((before | 0x20) >= 'a' && (before | 0x20) <= 'f');
        *at ^= mask;
        if (!is_case &&
            bulla_verify_receipt((const char *)document.data, document.length, &options, &verdict, NULL) == BULLA_OK &&
            bulla_verdict_passed(verdict))
            fail_msg("bit %zu of byte %zu does not count: %.40s", bit % 8, bit / 8, (const char *)at);
        bulla_verdict_free(verdict);
        *at = before;
    }
    print_message("%zu bits changed\n", tried);
    buffer_free(&document);
}

static void short_memory_never_passes(void **state)
{
    struct buffer document = {0};
    const char *keys[2];
    bulla_receipt_options options = all_options(keys);
    bulla_verdict *verdict;
    make_document(&document);
    uint64_t count = memory_allocation_count();
    bulla_verdict_free(judge_with(&document, &options));
    count = memory_allocation_count() - count;
    for (uint64_t failing = 1; failing <= count; failing++) {
        memory_inject_failure(failing, 0);
        int code = bulla_verify_receipt((const char *)document.data, document.length, &options, &verdict, NULL);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK && bulla_verdict_passed(verdict))
            fail_msg("allocation %llu fails, and the verdict passes", (unsigned long long)failing);
        bulla_verdict_free(verdict);
    }
    assert_true(count > 10);
    buffer_free(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_document_passes),
        cmocka_unit_test(what_is_signed_must_be_so),
        cmocka_unit_test(what_is_changed_is_found),
        cmocka_unit_test(what_is_missing_is_not_checked),
        cmocka_unit_test(a_witness_counts_once), cmocka_unit_test(nothing_follows_a_finish),
        cmocka_unit_test(the_time_is_told), cmocka_unit_test(what_is_expected_is_compared),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(short_memory_never_passes),
    };
    return cmocka_run_group_tests(tests, make_machine, free_machine);
}
