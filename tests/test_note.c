/* Signed notes: a published one, our own, cosignatures, and everything that is wrong with one. */
#include "test.h"

#include "authority.h"
#include "trust/checkpoint.h"

/* The example of golang.org/x/mod/sumdb/note's documentation. */
static const char published_key[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
static const char published_text[] = "If you think cryptography is the answer to your problem,\n"
                                     "then you don't know what your problem is.\n";
static const char published_signature[] =
    "\xe2\x80\x94 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

static struct note_key read_key(const char *text)
{
    struct note_key key;
    bulla_error error = {0};
    assert_ok(note_key_read(text, strlen(text), &key, &error), error);
    return key;
}

static void a_published_note_opens(void **state)
{
    struct note_key key = read_key(published_key);
    struct buffer text = {0}, written = {0};
    struct note note;
    bulla_error error = {0};
    buffer_append_format(&text, "%s\n%s", published_text, published_signature);
    assert_ok(note_open((const char *)text.data, text.length, &key, 1, &note, &error), error);
    assert_int_equal(note.count, 1);
    assert_ptr_equal(note.signatures[0].key, &key);
    assert_int_equal(note.length, strlen(published_text));
    assert_memory_equal(note.text, published_text, note.length);
    note_key_write(&key, &written);
    assert_string_equal((const char *)written.data, published_key);
    /* Whoever does not know the key sees a note that nobody signed. */
    struct note_key other = key;
    strcpy(other.name, "another");
    assert_ok(note_open((const char *)text.data, text.length, &other, 1, &note, &error), error);
    assert_int_equal(note.count, 0);
    buffer_free(&text);
    buffer_free(&written);
}

static void make_key(const char *name, enum note_algorithm algorithm, EVP_PKEY **private_key, struct note_key *key)
{
    size_t length = NOTE_KEY_BYTES;
    *key = (struct note_key){.algorithm = algorithm};
    strcpy(key->name, name);
    *private_key = authority_key("Ed25519");
    assert_int_equal(EVP_PKEY_get_raw_public_key(*private_key, key->key, &length), 1);
}

static void our_notes_open(void **state)
{
    static const char text[] = "example.com/log\n7\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n";
    EVP_PKEY *private_keys[2];
    struct note_key keys[2];
    struct buffer out = {0};
    struct note note;
    bulla_error error = {0};
    make_key("example.com/log", NOTE_ED25519, &private_keys[0], &keys[0]);
    make_key("witness.example", NOTE_COSIGNATURE, &private_keys[1], &keys[1]);
    buffer_append_format(&out, "%s\n", text);
    assert_ok(note_sign(text, strlen(text), &keys[0], private_keys[0], 0, &out, &error), error);
    assert_ok(note_sign(text, strlen(text), &keys[1], private_keys[1], 1800000000, &out, &error), error);
    assert_ok(note_open((const char *)out.data, out.length, keys, 2, &note, &error), error);
    assert_int_equal(note.count, 2);
    assert_int_equal(note.signatures[1].time, 1800000000);
    /* Every bit of it counts; what comes out as another name or id is a signature of somebody else. */
    for (size_t at = 0; at < out.length; at++) {
        out.data[at] ^= 1;
        if (note_open((const char *)out.data, out.length, keys, 2, &note, NULL) == BULLA_OK && note.count == 2)
            fail_msg("byte %zu does not count", at);
        out.data[at] ^= 1;
    }
    for (size_t length = 0; length < out.length; length++)
        if (note_open((const char *)out.data, length, keys, 2, &note, NULL) == BULLA_OK && note.count == 2)
            fail_msg("%zu bytes of %zu are enough", length, out.length);
    /* A time that was not signed. */
    struct note_key swapped[2] = {keys[1], keys[0]};
    assert_ok(note_open((const char *)out.data, out.length, swapped, 2, &note, &error), error);
    assert_int_equal(note.count, 2);
    EVP_PKEY_free(private_keys[0]);
    EVP_PKEY_free(private_keys[1]);
    buffer_free(&out);
}

/* Witnesses are counted by their keys: neither a second name of one nor the log itself is another. */
static void a_witness_counts_once(void **state)
{
    static const char text[] = "example.com/log\n7\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n";
    EVP_PKEY *private_keys[2];
    struct note_key keys[4];
    struct buffer out = {0};
    struct checkpoint checkpoint;
    bulla_error error = {0};
    make_key("example.com/log", NOTE_ED25519, &private_keys[0], &keys[0]);
    make_key("witness.example", NOTE_COSIGNATURE, &private_keys[1], &keys[1]);
    keys[2] = keys[1];
    snprintf(keys[2].name, sizeof keys[2].name, "other.example");
    keys[3] = keys[0];
    keys[3].algorithm = NOTE_COSIGNATURE;
    buffer_append_format(&out, "%s\n", text);
    for (int i = 0; i < 4; i++)
        assert_ok(note_sign(text, strlen(text), &keys[i], private_keys[i == 1 || i == 2], 1, &out, &error), error);
    assert_ok(checkpoint_open((const char *)out.data, out.length, keys, 4, 1, &checkpoint, &error), error);
    assert_int_equal(checkpoint.size, 7);
    assert_int_equal(checkpoint_open((const char *)out.data, out.length, keys, 4, 2, &checkpoint, &error), BULLA_E_INPUT);
    assert_non_null(strstr(error.text, "1 known witnesses"));
    EVP_PKEY_free(private_keys[0]);
    EVP_PKEY_free(private_keys[1]);
    buffer_free(&out);
}

static void malformed_notes_are_refused(void **state)
{
    struct note_key key = read_key(published_key);
    struct note note;
    static const char *const cases[] = {
        "", "\n", "\n\n", "text\n", "text\n\n", "text\n\nline\n", "text\n\n\xe2\x80\x94 name\n", "text\n\n\xe2\x80\x94 name AAAA\n",
        "text\n\n\xe2\x80\x94 na+me AAAAAAAA\n", "text\n\n\xe2\x80\x94  AAAAAAAA\n", "text\n\n\xe2\x80\x94 name AAAAAAA\n",
        "text\n\n\xe2\x80\x94 name AAAAAAAA", "text\r\n\n\xe2\x80\x94 name AAAAAAAA\n", "te\xffxt\n\n\xe2\x80\x94 name AAAAAAAA\n",
        "text\n\n- name AAAAAAAA\n", "text\n\n\xe2\x80\x94 name AAAAAAAA \n"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bulla_error error = {0};
        if (note_open(cases[i], strlen(cases[i]), &key, 1, &note, &error) != BULLA_E_INPUT)
            fail_msg("case %zu is taken", i);
    }
    struct buffer twice = {0};
    bulla_error error = {0};
    buffer_append_format(&twice, "%s\n%s%s", published_text, published_signature, published_signature);
    assert_int_equal(note_open((const char *)twice.data, twice.length, &key, 1, &note, &error), BULLA_E_INPUT);
    assert_non_null(strstr(error.text, "twice"));
    buffer_free(&twice);
}

static void malformed_keys_are_refused(void **state)
{
    static const char *const cases[] = {
        "", "PeterNeumann", "PeterNeumann+c74f20a3", "PeterNeumann+c74f20a3+",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumenn+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T=",
        "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"};
    struct note_key key;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bulla_error error = {0};
        if (note_key_read(cases[i], strlen(cases[i]), &key, &error) != BULLA_E_INPUT)
            fail_msg("\"%s\" is taken", cases[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_published_note_opens),
        cmocka_unit_test(our_notes_open),
        cmocka_unit_test(a_witness_counts_once),
        cmocka_unit_test(malformed_notes_are_refused),
        cmocka_unit_test(malformed_keys_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
