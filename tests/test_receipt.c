/* Receipts: written, signed, read back; nothing in one can be changed; chains by a second way of computing them. */
#include "test.h"

#include "authority.h"
#include "base/hash.h"
#include "base/memory.h"
#include "trust/checkpoint.h"
#include "trust/receipt.h"

static EVP_PKEY *key;

static int make_key(void **state)
{
    key = authority_key("Ed25519");
    return 0;
}

static int free_key(void **state)
{
    EVP_PKEY_free(key);
    return 0;
}

static const struct receipt_choice two_choices[] = {{12, {1, 2, 3}, "stop"}, {7, {4, 5, 6}, "length"}};

static struct receipt some_receipt(void)
{
    struct receipt receipt = {.id = {0xab}, .time = 1800000000, .backend = "native", .program_version = 1, .prompt_tokens = 30,
                              .output_tokens = 19, .parameters_text = "{\"max_tokens\":64,\"seed\":\"18446744073709551615\"}",
                              .choices = two_choices, .choice_count = 2, .retention = "none"};
    size_t length = RECEIPT_KEY;
    memset(receipt.model_root, 0x11, 32);
    memset(receipt.tokenizer, 0x22, 32);
    memset(receipt.request, 0x33, 32);
    memset(receipt.evidence, 0x44, 32);
    assert_int_equal(EVP_PKEY_get_raw_public_key(key, receipt.key, &length), 1);
    return receipt;
}

/* Reads a signed receipt; whether its signature holds. */
static int reads(const char *text, size_t length, struct arena *arena, struct receipt *receipt, int *holds)
{
    struct buffer signed_part = {0};
    uint8_t signature[RECEIPT_SIGNATURE];
    bulla_error error = {0};
    const struct json *value = json_parse(text, length, "receipt", arena, &error);
    int code = value ? receipt_read(value, arena, receipt, &signed_part, signature, &error) : error.code;
    *holds = code == BULLA_OK && receipt_signature_holds(receipt, &signed_part, signature);
    buffer_free(&signed_part);
    return code;
}

static void a_receipt_comes_back(void **state)
{
    struct receipt receipt = some_receipt(), found;
    struct buffer text = {0}, canonical = {0};
    struct arena arena = {0};
    bulla_error error = {0};
    int holds;
    assert_ok(receipt_sign(&receipt, key, &text, &error), error);
    assert_int_equal(reads((const char *)text.data, text.length, &arena, &found, &holds), BULLA_OK);
    assert_true(holds);
    assert_memory_equal(found.id, receipt.id, RECEIPT_ID);
    assert_int_equal(found.time, receipt.time);
    assert_string_equal(found.backend, "native");
    assert_null(found.engine);
    assert_memory_equal(found.model_root, receipt.model_root, 32);
    assert_memory_equal(found.request, receipt.request, 32);
    assert_memory_equal(found.evidence, receipt.evidence, 32);
    assert_int_equal(found.choice_count, 2);
    assert_int_equal(found.choices[1].tokens, 7);
    assert_string_equal(found.choices[1].finish, "length");
    assert_string_equal(json_get(found.parameters, "seed")->text, "18446744073709551615");
    /* What is written is canonical already. */
    json_write_canonical(&canonical, json_parse((const char *)text.data, text.length, "receipt", &arena, &error));
    assert_int_equal(canonical.length, text.length);
    assert_memory_equal(canonical.data, text.data, text.length);
    arena_free(&arena);
    buffer_free(&text);
    buffer_free(&canonical);
}

/* A byte of it, anywhere: it is refused, or its signature does not hold. */
static void every_byte_counts(void **state)
{
    struct receipt receipt = some_receipt(), found;
    struct buffer text = {0};
    bulla_error error = {0};
    size_t tried = 0;
    assert_ok(receipt_sign(&receipt, key, &text, &error), error);
    for (size_t at = 0; at < text.length; at++)
        for (int bit = 0; bit < 8; bit++, tried++) {
            struct arena arena = {0};
            int holds;
            text.data[at] ^= (uint8_t)(1 << bit);
            if (reads((const char *)text.data, text.length, &arena, &found, &holds) == BULLA_OK && holds)
                fail_msg("byte %zu, bit %d does not count", at, bit);
            text.data[at] ^= (uint8_t)(1 << bit);
            arena_free(&arena);
        }
    print_message("%zu bits changed\n", tried);
    buffer_free(&text);
}

/* Whoever signs with another key has another receipt: the key is in it. */
static void the_key_is_the_receipts_own(void **state)
{
    EVP_PKEY *other = authority_key("Ed25519");
    struct receipt receipt = some_receipt(), found;
    struct buffer text = {0};
    struct arena arena = {0};
    bulla_error error = {0};
    int holds;
    assert_ok(receipt_sign(&receipt, other, &text, &error), error);
    assert_int_equal(reads((const char *)text.data, text.length, &arena, &found, &holds), BULLA_OK);
    assert_false(holds);
    arena_free(&arena);
    buffer_free(&text);
    EVP_PKEY_free(other);
}

static void malformed_receipts_are_refused(void **state)
{
    static const char *const changes[][2] = {
        {"\"bulla_receipt\":1", "\"bulla_receipt\":2"}, {"\"backend\":\"native\"", "\"backend\":7"},
        {"\"time\":1800000000", "\"time\":-1"}, {"\"time\":1800000000", "\"time\":1.5"},
        {"\"engine\":null", "\"engine\":[]"}, {"\"simulated\":false", "\"simulated\":0"},
        {"\"retention\":\"none\"", "\"retention\":null"}, {"\"prompt_tokens\":30", "\"prompt_tokens\":\"30\""},
        {"\"output_tokens\":19,", ""}, {"\"output_tokens\":19,", "\"output_tokens\":19,\"more\":1,"},
        {"\"finish\":\"stop\"", "\"finish\":null"}, {"\"tokens\":12", "\"tokens\":12,\"x\":1"},
        {"\"parameters\":{", "\"parameters\":[{"}, {"\"signature\":\"", "\"signature\":\"A"},
        {"\"signature\"", "\"sign\""}, {"\"receipt\":{", "\"receipt\":[],\"more\":{"}};
    struct receipt receipt = some_receipt(), found;
    struct buffer text = {0};
    bulla_error error = {0};
    assert_ok(receipt_sign(&receipt, key, &text, &error), error);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct buffer changed = {0};
        struct arena arena = {0};
        int holds;
        const char *whole = (const char *)text.data, *at = strstr(whole, changes[i][0]);
        assert_non_null(at);
        buffer_append(&changed, whole, (size_t)(at - whole));
        buffer_append_text(&changed, changes[i][1]);
        buffer_append_text(&changed, at + strlen(changes[i][0]));
        if (reads((const char *)changed.data, changed.length, &arena, &found, &holds) == BULLA_OK)
            fail_msg("%s instead of %s is taken", changes[i][1], changes[i][0]);
        arena_free(&arena);
        buffer_free(&changed);
    }
    buffer_free(&text);
}

static void put_u32(struct buffer *out, uint32_t value)
{
    buffer_append_u32(out, value);
}

/* The chain as docs/receipt.md has it, over bytes put together. */
static void chains_are_as_written(void **state)
{
    uint8_t salt[32], chain[32], expected[32], other[32];
    const uint32_t ids[] = {7, 49151};
    struct buffer bytes = {0};
    bulla_error error = {0};
    memset(salt, 0x5a, sizeof salt);
    assert_ok(receipt_chain_start(salt, 3, chain, &error), error);
    buffer_append_text(&bytes, "bulla-chain-v1");
    buffer_append(&bytes, salt, 32);
    put_u32(&bytes, 3);
    assert_ok(hash_sha256(bytes.data, bytes.length, expected, &error), error);
    assert_memory_equal(chain, expected, 32);
    assert_ok(receipt_chain_step(chain, RECEIPT_CONTENT, ids, 2, "Paris", 5, &error), error);
    buffer_clear(&bytes);
    buffer_append(&bytes, expected, 32);
    put_u32(&bytes, 1);
    put_u32(&bytes, 2);
    put_u32(&bytes, 7);
    put_u32(&bytes, 49151);
    buffer_append_u64(&bytes, 5);
    buffer_append_text(&bytes, "Paris");
    assert_ok(hash_sha256(bytes.data, bytes.length, expected, &error), error);
    assert_memory_equal(chain, expected, 32);
    /* Neither the border between steps nor what a part is can be moved. */
    uint8_t one[32], two[32];
    memcpy(one, chain, 32);
    memcpy(two, chain, 32);
    memcpy(other, chain, 32);
    assert_ok(receipt_chain_step(one, RECEIPT_CONTENT, ids, 1, "ab", 2, &error), error);
    assert_ok(receipt_chain_step(two, RECEIPT_CONTENT, ids, 1, "a", 1, &error), error);
    assert_ok(receipt_chain_step(two, RECEIPT_CONTENT, NULL, 0, "b", 1, &error), error);
    assert_ok(receipt_chain_step(other, RECEIPT_REASONING, ids, 1, "ab", 2, &error), error);
    assert_memory_not_equal(one, two, 32);
    assert_memory_not_equal(one, other, 32);
    buffer_free(&bytes);
}

static void checkpoints_are_read_strictly(void **state)
{
    static const char right[] = "example.com/log\n7\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\nextension\n";
    static const char *const wrong[] = {
        "", "\n7\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n", "log\n", "log\n07\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n",
        "log\n-7\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n", "log\n7 \nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n",
        "log\n9223372036854775808\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n",
        "log\n7\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=", "log\n7\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVQ==\n",
        "log\n7\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVc\n", "log\n7\n\n"};
    struct checkpoint checkpoint;
    struct buffer written = {0};
    bulla_error error = {0};
    assert_ok(checkpoint_read(right, strlen(right), &checkpoint, &error), error);
    assert_int_equal(checkpoint.size, 7);
    assert_string_equal(checkpoint.origin, "example.com/log");
    checkpoint_write(&checkpoint, &written);
    assert_memory_equal(written.data, right, written.length);
    assert_int_equal(written.length, strlen(right) - strlen("extension\n"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (checkpoint_read(wrong[i], strlen(wrong[i]), &checkpoint, NULL) == BULLA_OK)
            fail_msg("checkpoint %zu is taken", i);
    buffer_free(&written);
}

static void checkpoints_need_their_signatures(void **state)
{
    EVP_PKEY *private_keys[3];
    struct note_key keys[3];
    static const char *const names[] = {"example.com/log", "witness.one", "witness.two"};
    struct checkpoint checkpoint = {.origin = "example.com/log", .size = 3}, found;
    struct buffer text = {0}, note = {0};
    bulla_error error = {0};
    for (int i = 0; i < 3; i++) {
        size_t length = NOTE_KEY_BYTES;
        keys[i] = (struct note_key){.algorithm = i ? NOTE_COSIGNATURE : NOTE_ED25519};
        strcpy(keys[i].name, names[i]);
        private_keys[i] = authority_key("Ed25519");
        assert_int_equal(EVP_PKEY_get_raw_public_key(private_keys[i], keys[i].key, &length), 1);
    }
    checkpoint_write(&checkpoint, &text);
    buffer_append_format(&note, "%s\n", (const char *)text.data);
    for (int i = 0; i < 2; i++)
        assert_ok(note_sign((const char *)text.data, text.length, &keys[i], private_keys[i], 5, &note, &error), error);
    const char *bytes = (const char *)note.data;
    assert_ok(checkpoint_open(bytes, note.length, keys, 3, 1, &found, &error), error);
    assert_int_equal(found.size, 3);
    assert_int_equal(checkpoint_open(bytes, note.length, keys, 3, 2, &found, NULL), BULLA_E_INPUT);
    const struct note_key swapped[] = {keys[1], keys[0]};
    assert_int_equal(checkpoint_open(bytes, note.length, swapped, 2, 0, &found, NULL), BULLA_E_INPUT);
    assert_int_equal(checkpoint_open(bytes, note.length, &keys[2], 1, 0, &found, NULL), BULLA_E_INPUT);
    struct note_key renamed = keys[0];
    strcpy(renamed.name, "example.com/gol");
    assert_int_equal(checkpoint_open(bytes, note.length, &renamed, 1, 0, &found, NULL), BULLA_E_INPUT);
    for (int i = 0; i < 3; i++)
        EVP_PKEY_free(private_keys[i]);
    buffer_free(&text);
    buffer_free(&note);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receipt_comes_back),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(the_key_is_the_receipts_own),
        cmocka_unit_test(malformed_receipts_are_refused),
        cmocka_unit_test(chains_are_as_written),
        cmocka_unit_test(checkpoints_are_read_strictly),
        cmocka_unit_test(checkpoints_need_their_signatures),
    };
    return cmocka_run_group_tests(tests, make_key, free_key);
}
