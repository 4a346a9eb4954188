/* The server's evidence with an attester that the test plays: quotes are shared by those who wait, floods are bounded, the
 * standing evidence is renewed and found again. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/merkle.h"
#include "bulla/verify.h"
#include "folder.h"
#include "trust/attestation_internal.h"

/* ---- An attester that takes as long as the test wants ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int holds;         /* quotes wait while it is set */
    unsigned begun, made;
    int fails, lacks;
    const char *extra; /* members beside sim's */
    uint8_t last[ATTESTER_DATA];
} slow = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int slow_open(const struct attester_options *options, void **state, bulla_error *error)
{
    return attester_sim.open(options, state, error);
}

static int slow_quote(void *state, const uint8_t report_data[ATTESTER_DATA], struct buffer *document, bulla_error *error)
{
    pthread_mutex_lock(&slow.lock);
    slow.begun++;
    pthread_cond_broadcast(&slow.changed);
    while (slow.holds)
        pthread_cond_wait(&slow.changed, &slow.lock);
    slow.made++;
    memcpy(slow.last, report_data, sizeof slow.last);
    int fails = slow.fails;
    const char *extra = slow.extra;
    pthread_mutex_unlock(&slow.lock);
    if (fails)
        return bulla_fail(error, BULLA_E_IO, "the device is on fire");
    int code = attester_sim.quote(state, report_data, document, error);
    if (code == BULLA_OK && extra) {
        buffer_cut(document, document->length - 1);
        buffer_append_format(document, ",%s}", extra);
    }
    return code;
}

static void slow_close(void *state)
{
    attester_sim.close(state);
}

static int slow_lack(const struct attester_options *options, bulla_error *error)
{
    return slow.lacks ? bulla_fail(error, BULLA_E_LIMIT, "its log is too long") : BULLA_OK;
}

static const struct attester played = {.name = "slow", .title = "SIMULATED", .is_simulated = 1, .open = slow_open,
                                       .quote = slow_quote, .close = slow_close, .find_lack = slow_lack};

static void hold(int holds)
{
    pthread_mutex_lock(&slow.lock);
    slow.holds = holds;
    pthread_cond_broadcast(&slow.changed);
    pthread_mutex_unlock(&slow.lock);
}

static void wait_begun(unsigned count)
{
    pthread_mutex_lock(&slow.lock);
    while (slow.begun < count)
        pthread_cond_wait(&slow.changed, &slow.lock);
    pthread_mutex_unlock(&slow.lock);
}

/* ---- Askers ---- */

struct asker {
    uint8_t nonce[32];
    char *document;
    size_t length;
    int code;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned answered;
} answers = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void on_done(void *context, struct attestation_ends *ends, const char *middle, size_t length, const bulla_error *error)
{
    struct asker *asker = context;
    struct buffer document = {0};
    assert_true(!ends == !!error && !middle == !!error);
    asker->code = error ? error->code : BULLA_OK;
    if (ends) {
        size_t head_length, tail_length;
        const void *head = attestation_ends_head(ends, &head_length), *tail = attestation_ends_tail(ends, &tail_length);
        buffer_append(&document, head, head_length);
        buffer_append(&document, middle, length);
        buffer_append(&document, tail, tail_length);
        asker->document = (char *)document.data;
        asker->length = document.length;
    }
    pthread_mutex_lock(&answers.lock);
    answers.answered++;
    pthread_cond_broadcast(&answers.changed);
    pthread_mutex_unlock(&answers.lock);
}

static void wait_answered(unsigned count)
{
    pthread_mutex_lock(&answers.lock);
    while (answers.answered < count)
        pthread_cond_wait(&answers.changed, &answers.lock);
    pthread_mutex_unlock(&answers.lock);
}

static void ask(struct attestation *attestation, struct asker *asker, unsigned number)
{
    bulla_error error = {0};
    memset(asker, 0, sizeof *asker);
    memcpy(asker->nonce, &number, sizeof number);
    assert_ok(attestation_quote(attestation, asker->nonce, on_done, asker, &error), error);
}

static const char accepted[] = "{\"type\":\"sim\",\"allow_simulated\":true}";

/* Whether bulla verify's checks of a document pass, for this nonce. */
static int judge(const char *document, size_t length, const uint8_t *nonce)
{
    bulla_error error = {0};
    bulla_verdict *verdict;
    bulla_evidence_options options = {.policy = accepted, .policy_length = sizeof accepted - 1, .time = time(NULL),
                                      .nonce = nonce};
    assert_ok(bulla_verify_evidence(document, length, &options, &verdict, &error), error);
    int has_passed = bulla_verdict_passed(verdict);
    bulla_verdict_free(verdict);
    return has_passed;
}

/* ---- The attestation under test ---- */

static struct {
    atomic_uint renewed, failed, unquoted, old, lacks;
} told;

static void on_told(void *context, const struct attester *attester, enum attestation_event event, const uint8_t *hash,
                    const char *reason)
{
    assert_ptr_equal(context, &told);
    assert_ptr_equal(attester, &played);
    assert_true((event == ATTESTATION_RENEWED) == (hash != NULL));
    assert_true((event == ATTESTATION_RENEWED) == (reason == NULL));
    (*(event == ATTESTATION_RENEWED       ? &told.renewed
       : event == ATTESTATION_NOT_RENEWED ? &told.failed
       : event == ATTESTATION_NOT_QUOTED  ? &told.unquoted
       : event == ATTESTATION_LACKS       ? &told.lacks
                                          : &told.old))++;
}

static struct attestation *open_played(struct attestation_options options, int is_waited_for)
{
    struct attestation *attestation;
    bulla_error error = {0};
    slow.holds = slow.fails = 0;
    slow.begun = slow.made = 0;
    slow.extra = NULL;
    answers.answered = 0;
    told.renewed = told.failed = told.unquoted = told.old = told.lacks = 0;
    options.own = &played;
    options.told = on_told;
    options.context = &told;
    assert_ok(attestation_open(&options, &attestation, &error), error);
    while (is_waited_for && attestation_is_ready(attestation, &error) == 0)
        usleep(1000);
    assert_int_equal(error.code, BULLA_OK);
    return attestation;
}

static void one_asker_has_its_own_nonce(void **state)
{
    struct attestation *attestation = open_played((struct attestation_options){0}, 1);
    struct asker asker;
    ask(attestation, &asker, 7);
    wait_answered(1);
    assert_null(strstr(asker.document, "nonce_path"));
    assert_true(judge(asker.document, asker.length, asker.nonce));
    asker.nonce[0]++;
    assert_false(judge(asker.document, asker.length, asker.nonce));
    memory_free(asker.document);
    assert_int_equal(attestation_is_simulated(attestation), 1);
    attestation_close(attestation);
}

/* While one quote is made, all who come share the next; nobody gets one that was begun before. */
static void a_thousand_share_one_quote(void **state)
{
    enum { ASKERS = 1000 };
    struct attestation *attestation = open_played((struct attestation_options){0}, 1);
    struct asker *askers = calloc(ASKERS + 1, sizeof *askers);
    assert_int_equal(slow.made, 1);
    hold(1);
    ask(attestation, &askers[ASKERS], ASKERS);
    wait_begun(2);
    for (unsigned i = 0; i < ASKERS; i++)
        ask(attestation, &askers[i], i);
    hold(0);
    wait_answered(ASKERS + 1);
    assert_int_equal(slow.made, 3); /* the standing one's, the first asker's, and that of all others */
    assert_int_equal(attestation_quotes(attestation), 3);
    for (unsigned i = 0; i <= ASKERS; i++) {
        assert_int_equal(askers[i].code, BULLA_OK);
        assert_true(judge(askers[i].document, askers[i].length, askers[i].nonce));
        if (i + 1 < ASKERS)
            assert_false(judge(askers[i].document, askers[i].length, askers[i + 1].nonce));
    }
    for (unsigned i = 0; i <= ASKERS; i++)
        memory_free(askers[i].document);
    free(askers);
    attestation_close(attestation);
}

static void a_flood_is_bounded(void **state)
{
    enum { MOST = 5 };
    struct attestation *attestation = open_played((struct attestation_options){.most_waiting = MOST}, 1);
    struct asker askers[2 * MOST + 1];
    bulla_error error = {0};
    hold(1);
    ask(attestation, &askers[0], 0);
    wait_begun(2);
    for (unsigned i = 1; i <= MOST; i++)
        ask(attestation, &askers[i], i);
    assert_int_equal(attestation_quote(attestation, askers[0].nonce, on_done, NULL, &error), BULLA_E_LIMIT);
    hold(0);
    wait_answered(MOST + 1);
    for (unsigned i = 0; i <= MOST; i++)
        memory_free(askers[i].document);
    ask(attestation, &askers[0], 9); /* there is room again */
    wait_answered(MOST + 2);
    assert_true(judge(askers[0].document, askers[0].length, askers[0].nonce));
    memory_free(askers[0].document);
    attestation_close(attestation);
}

/* What evidence will not have is said once, and it is made. */
static void a_lack_is_told_once(void **state)
{
    for (int lacks = 0; lacks < 2; lacks++) {
        struct asker asker;
        slow.lacks = lacks;
        struct attestation *attestation = open_played((struct attestation_options){0}, 1);
        for (unsigned i = 0; i < 3; i++) {
            ask(attestation, &asker, i);
            wait_answered(i + 1);
            assert_int_equal(asker.code, BULLA_OK);
            memory_free(asker.document);
        }
        attestation_close(attestation);
        assert_int_equal(told.lacks, lacks);
        assert_int_equal(told.unquoted, 0);
    }
    slow.lacks = 0;
}

static void those_who_wait_at_the_end_are_told(void **state)
{
    struct attestation *attestation = open_played((struct attestation_options){0}, 1);
    struct asker askers[3];
    hold(1);
    ask(attestation, &askers[0], 0);
    wait_begun(2);
    ask(attestation, &askers[1], 1);
    ask(attestation, &askers[2], 2);
    pthread_t closer;
    assert_int_equal(pthread_create(&closer, NULL, (void *(*)(void *))(void (*)(void))attestation_close, attestation), 0);
    usleep(20000);
    hold(0);
    pthread_join(closer, NULL);
    assert_int_equal(answers.answered, 3);
    assert_int_equal(askers[0].code, BULLA_OK); /* its quote was under way */
    for (int i = 1; i <= 2; i++)
        assert_true(askers[i].code == BULLA_E_CANCELLED || askers[i].code == BULLA_OK);
    for (int i = 0; i < 3; i++)
        memory_free(askers[i].document);
}

static void a_failure_reaches_who_asked(void **state)
{
    struct attestation *attestation = open_played((struct attestation_options){0}, 1);
    struct asker asker;
    slow.fails = 1;
    ask(attestation, &asker, 1);
    wait_answered(1);
    assert_int_equal(asker.code, BULLA_E_IO);
    assert_null(asker.document);
    assert_int_equal(told.unquoted, 1);
    attestation_close(attestation);
}

static void without_a_first_quote_there_is_no_evidence(void **state)
{
    struct attestation *attestation;
    struct buffer document = {0};
    bulla_error error = {0};
    uint8_t hash[32];
    attestation = open_played((struct attestation_options){0}, 1);
    attestation_close(attestation);
    slow.fails = 1;
    struct attestation_options options = {.own = &played, .told = on_told, .context = &told};
    assert_ok(attestation_open(&options, &attestation, &error), error);
    while (attestation_is_ready(attestation, &error) == 0)
        usleep(1000);
    assert_int_equal(error.code, BULLA_E_IO);
    assert_string_equal(error.text, "the device is on fire");
    bulla_error_clear(&error);
    assert_int_equal(attestation_standing(attestation, hash, &document, &error), BULLA_E_UNSUPPORTED);
    attestation_close(attestation);
}

/* ---- The standing evidence ---- */

static void standing(struct attestation *attestation, uint8_t hash[32], struct buffer *document)
{
    bulla_error error = {0};
    uint8_t own[32];
    buffer_clear(document);
    assert_ok(attestation_standing(attestation, hash, document, &error), error);
    assert_ok(hash_sha256(document->data, document->length, own, &error), error);
    assert_memory_equal(hash, own, 32);
    assert_true(judge((char *)document->data, document->length, NULL));
}

static atomic_ullong seconds_now;

static uint64_t clock_of_the_test(void)
{
    return UINT64_C(1000000000) * seconds_now;
}

/* The clock goes on, and somebody asks: the thread looks at it. */
static void pass_time(struct attestation *attestation, unsigned seconds)
{
    struct asker asker;
    seconds_now += seconds;
    unsigned before = answers.answered;
    ask(attestation, &asker, seconds);
    wait_answered(before + 1);
    memory_free(asker.document);
}

/* It is renewed before clients find it too old; where that fails it is too old when they do. */
static void standing_evidence_has_an_age(void **state)
{
    seconds_now = 1000000;
    struct attestation *attestation = open_played((struct attestation_options){.clock = clock_of_the_test}, 1);
    assert_int_equal(told.renewed, 1);
    pass_time(attestation, ATTESTATION_SECONDS - 1);
    assert_int_equal(told.renewed, 1);
    pass_time(attestation, 1);
    assert_int_equal(told.renewed, 2);
    pass_time(attestation, 8 * 3600); /* the machine slept */
    assert_int_equal(told.renewed, 3);
    assert_false(attestation_is_old(attestation));
    pthread_mutex_lock(&slow.lock);
    slow.fails = 1;
    pthread_mutex_unlock(&slow.lock);
    for (unsigned passed = 1; passed <= 2 * ATTESTATION_SECONDS; passed += 59)
        pass_time(attestation, passed == 1 ? 1 : 59);
    assert_true(told.failed > 10); /* it is tried again each minute or so */
    assert_int_equal(told.renewed, 3);
    assert_false(attestation_is_old(attestation));
    pass_time(attestation, 60);
    assert_true(attestation_is_old(attestation));
    struct buffer document = {0};
    uint8_t hash[32];
    standing(attestation, hash, &document); /* it can be had */
    buffer_free(&document);
    pthread_mutex_lock(&slow.lock);
    slow.fails = 0;
    pthread_mutex_unlock(&slow.lock);
    pass_time(attestation, 60);
    assert_int_equal(told.renewed, 4);
    assert_false(attestation_is_old(attestation));
    attestation_close(attestation);
}

static void it_is_renewed_and_found_again(void **state)
{
    struct attestation *attestation = open_played((struct attestation_options){.renewal_seconds = 1}, 1);
    struct buffer first = {0}, later = {0}, found = {0};
    uint8_t first_hash[32], hash[32];
    bulla_error error = {0};
    standing(attestation, first_hash, &first);
    while (told.renewed < 2)
        usleep(10000);
    standing(attestation, hash, &later);
    assert_memory_not_equal(hash, first_hash, 32);
    assert_ok(attestation_find(attestation, first_hash, &found, &error), error);
    assert_int_equal(found.length, first.length);
    assert_memory_equal(found.data, first.data, first.length);
    hash[0]++;
    assert_int_equal(attestation_find(attestation, hash, &found, &error), BULLA_E_INPUT);
    slow.fails = 1; /* the last one stays */
    while (told.failed < 1)
        usleep(10000);
    standing(attestation, hash, &later);
    attestation_close(attestation);
    buffer_free(&first);
    buffer_free(&later);
    buffer_free(&found);
}

static void only_so_many_are_kept(void **state)
{
    uint8_t models[1][32] = {{0}};
    struct attestation *attestation = open_played((struct attestation_options){0}, 1);
    struct buffer document = {0};
    uint8_t hashes[ATTESTATION_KEPT + 2][32];
    bulla_error error = {0};
    standing(attestation, hashes[0], &document);
    for (unsigned i = 1; i < ATTESTATION_KEPT + 2; i++) {
        models[0][0] = (uint8_t)i;
        assert_ok(attestation_set_models(attestation, (const uint8_t(*)[32])models, 1, &error), error);
        while (told.renewed <= i)
            usleep(200);
        standing(attestation, hashes[i], &document);
    }
    for (unsigned i = 0; i < ATTESTATION_KEPT + 2; i++) {
        bulla_error_clear(&error);
        assert_int_equal(attestation_find(attestation, hashes[i], &document, &error), i < 2 ? BULLA_E_INPUT : BULLA_OK);
    }
    /* The same models again: nothing is new. */
    assert_ok(attestation_set_models(attestation, (const uint8_t(*)[32])models, 1, &error), error);
    assert_int_equal(told.renewed, ATTESTATION_KEPT + 2);
    buffer_free(&document);
    attestation_close(attestation);
}

static void everything_is_bound(void **state)
{
    uint8_t tls[32], receipt[32], models[3][32], hash[32];
    static const char policy[] = "{ \"attestation\": {\"type\": \"sim\", \"allow_simulated\": true} }";
    memset(tls, 1, 32);
    memset(receipt, 2, 32);
    memset(models[0], 9, 32);
    memset(models[1], 3, 32);
    memset(models[2], 9, 32);
    struct attestation *attestation = open_played(
        (struct attestation_options){.tls_key = tls, .receipt_key = receipt, .policy = policy,
                                     .policy_length = sizeof policy - 1, .models = (const uint8_t(*)[32])models,
                                     .model_count = 3},
        1);
    struct buffer document = {0};
    struct binding binding;
    struct arena arena = {0};
    bulla_error error = {0};
    size_t length;
    standing(attestation, hash, &document);
    const struct json *value = json_parse((char *)document.data, document.length, "it", &arena, &error);
    assert_ok(binding_read(json_get(value, "binding"), &binding, &error), error);
    assert_memory_equal(binding.tls_key, tls, 32);
    assert_memory_equal(binding.receipt_key, receipt, 32);
    assert_int_equal(binding.model_count, 2);
    assert_memory_equal(binding.models[0], models[1], 32);
    assert_memory_equal(binding.models[1], models[0], 32);
    assert_memory_equal(binding.policy, attestation_policy_hash(attestation), 32);
    const char *published = attestation_policy(attestation, &length);
    assert_ok(hash_sha256(published, length, hash, &error), error);
    assert_memory_equal(hash, binding.policy, 32);
    arena_free(&arena);
    buffer_free(&document);
    attestation_close(attestation);
}

/* ---- Collateral ---- */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static const char *ask_and_wait(struct attestation *attestation, struct asker *asker)
{
    unsigned before = answers.answered;
    ask(attestation, asker, before);
    wait_answered(before + 1);
    return asker->document;
}

static void collateral_is_joined_and_read_again(void **state)
{
    struct asker asker;
    const char *path = in_folder("collateral");
    write_file(path, "{\"crls\":[\"one\"],\"zeta\":{\"b\":1,\"a\":2}}");
    struct attestation *attestation = open_played((struct attestation_options){.collateral = path}, 1);
    assert_non_null(strstr(ask_and_wait(attestation, &asker), "\"crls\":[\"one\"]"));
    assert_non_null(strstr(asker.document, "\"zeta\":{\"a\":2,\"b\":1}"));
    assert_true(judge(asker.document, asker.length, asker.nonce));
    memory_free(asker.document);
    write_file(path, "{\"certificates\":\"intermediate\"}");
    slow.extra = "\"certificates\":[\"leaf\"]";
    assert_non_null(strstr(ask_and_wait(attestation, &asker), "\"certificates\":[\"leaf\",\"intermediate\"]"));
    assert_null(strstr(asker.document, "crls"));
    memory_free(asker.document);
    write_file(path, "{\"certificates\":"); /* half written: what was there stays */
    assert_non_null(strstr(ask_and_wait(attestation, &asker), "\"intermediate\""));
    assert_int_equal(told.old, 1);
    memory_free(asker.document);
    write_file(path, "{\"report\":\"forged\"}");
    assert_null(ask_and_wait(attestation, &asker));
    attestation_close(attestation);
    static const char *const refused[] = {"[]", "{\"binding\":{}}", "{\"nonce_path\":{}}", "{\"type\":\"snp\"}", "{", ""};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        bulla_error error = {0};
        write_file(path, refused[i]);
        struct attestation_options options = {.attester = "sim", .collateral = path};
        assert_ok(attestation_open(&options, &attestation, &error), error);
        while (attestation_is_ready(attestation, &error) == 0)
            usleep(1000);
        assert_int_equal(error.code, BULLA_E_INPUT);
        attestation_close(attestation);
    }
}

/* ---- What goes into a certificate ---- */

static int intel_quote(void *state, const uint8_t report_data[ATTESTER_DATA], struct buffer *document, bulla_error *error)
{
    buffer_append_text(document, "{\"type\":\"sgx\",\"quote\":\"");
    base64_append(document, report_data, ATTESTER_DATA);
    buffer_append_text(document, "\"}");
    return BULLA_OK;
}

static struct buffer take_extension(const struct attester *attester, const char *collateral, int expected)
{
    uint8_t key[32];
    struct attestation *attestation;
    struct buffer extension = {0};
    bulla_error error = {0};
    memset(key, 0xab, sizeof key);
    struct attestation_options options = {.own = attester, .tls_key = key, .makes_extension = 1, .collateral = collateral};
    assert_ok(attestation_open(&options, &attestation, &error), error);
    while (attestation_is_ready(attestation, &error) == 0)
        usleep(1000);
    assert_int_equal(error.code, expected);
    if (error.code == BULLA_OK)
        assert_ok(attestation_extension(attestation, &extension, &error), error);
    attestation_close(attestation);
    return extension;
}

/* 60000([quote, {"pubkey-hash": bytes of [1, SHA-256 of the key]}]), the quote over the SHA-256 of the claims. */
static void an_intel_quote_is_over_the_key(void **state)
{
    static const char claims_hex[] = "a16b7075626b65792d6861736858248201" "5820abababababababababababababababababababababababababababababab"
                                     "abab";
    static const uint8_t zeros[32], before[] = {0xd9, 0xea, 0x60, 0x82, 0x58, 0x40}, between[] = {0x58, 0x33};
    const struct attester intel = {.name = "intel", .open = slow_open, .quote = intel_quote, .close = slow_close};
    uint8_t claims[51], hash[32];
    bulla_error error = {0};
    struct buffer extension = take_extension(&intel, NULL, BULLA_OK);
    assert_true(hex_decode(claims_hex, sizeof claims_hex - 1, claims, sizeof claims));
    assert_ok(hash_sha256(claims, sizeof claims, hash, &error), error);
    assert_int_equal(extension.length, sizeof before + 64 + sizeof between + sizeof claims);
    assert_memory_equal(extension.data, before, sizeof before);
    assert_memory_equal(extension.data + 6, hash, 32);
    assert_memory_equal(extension.data + 38, zeros, 32);
    assert_memory_equal(extension.data + 70, between, sizeof between);
    assert_memory_equal(extension.data + 72, claims, sizeof claims);
    buffer_free(&extension);
}

static void other_evidence_is_wrapped_where_it_fits(void **state)
{
    struct buffer extension = take_extension(&attester_sim, NULL, BULLA_OK), large = {0};
    assert_memory_equal(extension.data, "\x82\x78\x23" "application/vnd.bulla.evidence+json\x59", 39);
    size_t length = (size_t)(extension.data[39] << 8 | extension.data[40]);
    assert_int_equal(extension.length, 41 + length);
    assert_true(judge((char *)extension.data + 41, length, NULL));
    buffer_free(&extension);
    buffer_append_text(&large, "{\"event_log\":\"");
    memset(buffer_extend(&large, ATTESTATION_MOST_EXTENSION), 'A', ATTESTATION_MOST_EXTENSION);
    buffer_append_text(&large, "\"}");
    const char *path = in_folder("large");
    write_file(path, (const char *)large.data);
    extension = take_extension(&attester_sim, path, BULLA_E_LIMIT);
    assert_int_equal(extension.length, 0);
    buffer_free(&large);
}

/* ---- The tree ---- */

static void paths_lead_to_the_root(void **state)
{
    for (size_t count = 1; count <= 70; count++) {
        uint8_t nonces[70][32], leaves[70][32], root[32];
        struct nonce_tree tree;
        bulla_error error = {0};
        for (size_t i = 0; i < count; i++) {
            memset(nonces[i], (int)i + 1, 32);
            assert_ok(merkle_leaf_hash(nonces[i], 32, leaves[i], &error), error);
        }
        assert_ok(nonce_tree_make((const uint8_t(*)[32])nonces, count, &tree, &error), error);
        for (size_t i = 0; i < count; i++) {
            uint8_t path[64][32];
            unsigned length;
            struct buffer expected = {0}, written = {0};
            assert_ok(merkle_path(leaves[0], count, i, path, &length, &error), error);
            buffer_append_format(&expected, "{\"count\":%zu,\"index\":%zu,\"path\":[", count, i);
            for (unsigned k = 0; k < length; k++) {
                char hex[65];
                hex_encode(path[k], 32, hex);
                buffer_append_format(&expected, "%s\"%s\"", k ? "," : "", hex);
            }
            buffer_append_text(&expected, "]}");
            nonce_tree_write_path(&tree, i, &written);
            assert_string_equal((char *)written.data, (char *)expected.data);
            buffer_free(&expected);
            buffer_free(&written);
        }
        assert_ok(merkle_root(leaves[0], count, root, &error), error);
        assert_memory_equal(nonce_tree_root(&tree), root, 32);
        nonce_tree_free(&tree);
    }
}

static void without_an_attester(void **state)
{
    struct attestation *attestation;
    struct attestation_options options = {.attester = "none"};
    bulla_error error = {0};
    uint8_t hash[32] = {0};
    assert_ok(attestation_open(&options, &attestation, &error), error);
    assert_int_equal(attestation_is_ready(attestation, &error), 1);
    assert_null(attestation_attester(attestation));
    assert_int_equal(attestation_is_simulated(attestation), 0);
    assert_int_equal(attestation_standing(attestation, hash, NULL, &error), BULLA_E_UNSUPPORTED);
    bulla_error_clear(&error);
    assert_int_equal(attestation_quote(attestation, hash, on_done, NULL, &error), BULLA_E_UNSUPPORTED);
    attestation_close(attestation);
    bulla_error_clear(&error);
    options.attester = "magic";
    assert_int_equal(attestation_open(&options, &attestation, &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "sim"));
    bulla_error_clear(&error);
    options = (struct attestation_options){.attester = "sim", .policy = "{\"colour\":1}", .policy_length = 12};
    assert_int_equal(attestation_open(&options, &attestation, &error), BULLA_E_INPUT);
}

static void memory_runs_short(void **state)
{
    for (unsigned n = 1; n < 60; n++) {
        struct attestation *attestation;
        struct attestation_options options = {.attester = "sim", .policy = accepted, .policy_length = sizeof accepted - 1,
                                              .most_waiting = 4};
        bulla_error error = {0};
        memory_inject_failure(n, 1);
        int code = attestation_open(&options, &attestation, &error);
        while (code == BULLA_OK && attestation_is_ready(attestation, &error) == 0)
            usleep(100);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK)
            attestation_close(attestation);
        else
            assert_int_equal(code, BULLA_E_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_asker_has_its_own_nonce),
        cmocka_unit_test(a_thousand_share_one_quote),
        cmocka_unit_test(a_flood_is_bounded),
        cmocka_unit_test(standing_evidence_has_an_age),
        cmocka_unit_test(a_lack_is_told_once),
        cmocka_unit_test(those_who_wait_at_the_end_are_told),
        cmocka_unit_test(a_failure_reaches_who_asked),
        cmocka_unit_test(without_a_first_quote_there_is_no_evidence),
        cmocka_unit_test(it_is_renewed_and_found_again),
        cmocka_unit_test(only_so_many_are_kept),
        cmocka_unit_test(everything_is_bound),
        cmocka_unit_test(collateral_is_joined_and_read_again),
        cmocka_unit_test(an_intel_quote_is_over_the_key),
        cmocka_unit_test(other_evidence_is_wrapped_where_it_fits),
        cmocka_unit_test(paths_lead_to_the_root),
        cmocka_unit_test(without_an_attester),
        cmocka_unit_test(memory_runs_short),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
