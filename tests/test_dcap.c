/* Intel SGX and TDX: real quotes verify with the collateral of their time, and nothing that was changed does. */
#define _GNU_SOURCE
#include "test.h"

#include <openssl/bio.h>
#include <openssl/pem.h>

#include "base/json.h"
#include "base/memory.h"
#include "evidence_document.h"
#include "trust/certificates.h"

struct vector {
    const char *type, *quote, *collateral, *date;
    const char *measurement;            /* the policy's field, of `measurement_length` bytes at `at_measurement` */
    int at_measurement, measurement_length, at_report_data;
    const char *policy_more;
};

static const struct vector vectors[] = {
    {"sgx", "quote.bin", "collateral.json", "2025-06-20", "mrenclave", 48 + 64, 32, 48 + 320,
     ",\"tcb_status\":\"ConfigurationAndSWHardeningNeeded\",\"minimum_tcb_date\":20240313,"
     "\"minimum_tcb\":{\"sgx01\":11,\"pce\":13,\"qe\":10,\"evaluation\":17}"},
    {"tdx", "quote.bin", "collateral.json", "2025-06-20", "mrtd", 48 + 136, 48, 48 + 520,
     ",\"tcb_status\":\"UpToDate\",\"xfam\":\"e702060000000000\",\"td_attributes\":\"0000001000000000\","
     "\"minimum_tcb\":{\"tdx01\":6,\"tdx03\":3},\"allow_smt\":true"},
};
enum { VECTORS = sizeof vectors / sizeof *vectors };

/* A vector while one part of it is changed. */
struct sample {
    const struct vector *vector;
    char policy[1024];
    uint8_t *quote;
    size_t quote_length;
    struct arena arena;
    struct json *collateral;
};

/* The report data is what the policy asks for: these were not made for a Bulla server. */
static void write_policy(struct sample *sample)
{
    const struct vector *vector = sample->vector;
    char report_data[129], measurement[97];
    hex_encode(sample->quote + vector->at_report_data, 64, report_data);
    hex_encode(sample->quote + vector->at_measurement, (size_t)vector->measurement_length, measurement);
    snprintf(sample->policy, sizeof sample->policy, "{\"type\":\"%s\",\"report_data\":\"%s\",\"%s\":\"%s\"%s}",
             vector->type, report_data, vector->measurement, measurement, vector->policy_more);
}

static int sample_open(const struct vector *vector, struct sample *sample)
{
    const char *folder = evidence_folder(vector->type);
    bulla_error error = {0};
    size_t length;
    *sample = (struct sample){.vector = vector};
    if (!folder)
        return 0;
    sample->quote = evidence_file(folder, vector->quote, &sample->quote_length);
    char *text = (char *)evidence_file(folder, vector->collateral, &length);
    sample->collateral = json_parse(text, length, vector->collateral, &sample->arena, &error);
    assert_non_null(sample->collateral);
    memory_free(text);
    write_policy(sample);
    return 1;
}

static void sample_close(struct sample *sample)
{
    memory_free(sample->quote);
    arena_free(&sample->arena);
}

/* Whether the sample is accepted, with one member of its collateral replaced (`value`, JSON) where `member` is not
 * NULL. */
static int accepts(const struct sample *sample, const char *member, const struct buffer *value, int64_t time)
{
    struct buffer document = {0};
    evidence_begin(&document, sample->vector->type);
    evidence_add_bytes(&document, "quote", sample->quote, sample->quote_length);
    buffer_append_text(&document, ",\"collateral\":{");
    for (size_t i = 0; i < sample->collateral->length; i++) {
        const char *name = sample->collateral->keys[i];
        buffer_append_format(&document, "%s\"%s\":", i ? "," : "", name);
        if (member && strcmp(name, member) == 0)
            buffer_append(&document, value->data, value->length);
        else
            json_write(&document, sample->collateral->items[i]);
    }
    buffer_append_text(&document, "}}");
    bulla_verdict *verdict = evidence_judge(&document, sample->policy, time);
    int passed = bulla_verdict_passed(verdict);
    if (!member && !passed)
        print_message("%s: %s\n", sample->vector->type, evidence_failures(verdict));
    bulla_verdict_free(verdict);
    buffer_free(&document);
    return passed;
}

static void real_quotes_verify(void **state)
{
    struct sample sample;
    for (size_t i = 0; i < VECTORS; i++) {
        if (!sample_open(&vectors[i], &sample))
            skip();
        assert_true(accepts(&sample, NULL, NULL, evidence_time(vectors[i].date)));
        sample_close(&sample);
    }
}

/* Statements and lists of June 2025: before and after, nothing is accepted. */
static void real_quotes_are_of_their_time(void **state)
{
    static const char *const others[] = {"2025-06-19T09:00:00Z", "2025-07-20", "2026-06-20", "2020-01-01"};
    struct sample sample;
    for (size_t i = 0; i < VECTORS; i++) {
        if (!sample_open(&vectors[i], &sample))
            skip();
        struct buffer none = {0};
        for (size_t j = 0; j < sizeof others / sizeof *others; j++)
            assert_false(accepts(&sample, "", &none, evidence_time(others[j])));
        sample_close(&sample);
    }
}

/* ---- Every byte ---- */

/* Which of a byte's bits are flipped: one in reduced counts, all in full ones. */
static int is_flipped(size_t at, int bit)
{
    return test_count(bit == (int)(at % 8), 1) != 0;
}

/* Whether two texts hold the same certificates: PEM has room for changes that change nothing. */
static int holds_same_certificates(const uint8_t *a, const uint8_t *b, size_t length)
{
    struct certificates first = {0}, second = {0};
    bulla_error error = {0};
    int same = certificates_add(&first, CERTIFICATE, a, length, &error) == BULLA_OK &&
               certificates_add(&second, CERTIFICATE, b, length, &error) == BULLA_OK && first.count == second.count;
    for (size_t i = 0; same && i < first.count; i++)
        same = X509_cmp(first.list[i], second.list[i]) == 0;
    certificates_free(&first);
    certificates_free(&second);
    return same;
}

static size_t chain_start(const uint8_t *quote, size_t length)
{
    const uint8_t *at = memmem(quote, length, "-----BEGIN", 10);
    return at ? (size_t)(at - quote) : length;
}

/* What is signed is flipped byte by byte, the text of the certificates and the zeros behind in steps but for full
 * counts. */
static void every_byte_of_the_quote_counts(void **state)
{
    struct sample sample;
    for (size_t i = 0; i < VECTORS; i++) {
        if (!sample_open(&vectors[i], &sample))
            skip();
        size_t flipped = 0, meaningless = 0, chain = chain_start(sample.quote, sample.quote_length);
        uint8_t *before = memory_alloc(sample.quote_length, 1, NULL);
        memcpy(before, sample.quote, sample.quote_length);
        for (size_t at = 0; at < sample.quote_length; at += at < chain ? 1 : test_count(61, 1))
            for (int bit = 0; bit < 8; bit++) {
                if (!is_flipped(at, bit))
                    continue;
                sample.quote[at] ^= (uint8_t)(1 << bit);
                flipped++;
                if (accepts(&sample, "", NULL, evidence_time(vectors[i].date))) {
                    if (at < chain ||
                        !holds_same_certificates(before + chain, sample.quote + chain, sample.quote_length - chain))
                        fail_msg("%s: byte %zu, bit %d: accepted", vectors[i].type, at, bit);
                    meaningless++;
                }
                sample.quote[at] = before[at];
            }
        memory_free(before);
        sample_close(&sample);
        print_message("%s: %zu bits of the quote flipped, none accepted but %zu that change no certificate\n",
                      vectors[i].type, flipped, meaningless);
    }
}

/* A member's bytes: DER of each certificate of a chain, DER of a list, a signature, the text of a statement. */
struct part {
    struct buffer bytes;
    int is_text;
};

static void append_der(X509 *certificate, struct buffer *out)
{
    uint8_t *der = NULL;
    int length = i2d_X509(certificate, &der);
    assert_true(length > 0);
    buffer_append(out, der, (size_t)length);
    OPENSSL_free(der);
}

static void read_part(const struct json *value, struct part *part, size_t lengths[MOST_CERTIFICATES], size_t *count)
{
    struct certificates chain = {0};
    bulla_error error = {0};
    *part = (struct part){0};
    *count = 1;
    if (strncmp(value->text, "-----BEGIN", 10) == 0) {
        assert_ok(certificates_add_json(&chain, CERTIFICATE, value, &error), error);
        *count = chain.count;
        for (size_t i = 0; i < chain.count; i++) {
            size_t before = part->bytes.length;
            append_der(chain.list[i], &part->bytes);
            lengths[i] = part->bytes.length - before;
        }
        certificates_free(&chain);
        return;
    }
    part->is_text = value->text[0] == '{';
    if (part->is_text)
        buffer_append(&part->bytes, value->text, value->length);
    else
        assert_true(
            hex_decode(value->text, value->length, buffer_extend(&part->bytes, value->length / 2), value->length / 2));
    lengths[0] = part->bytes.length;
}

/* The part as the document has it: a text, hex, or certificates in base64. */
static void write_part(const struct part *part, const size_t *lengths, size_t count, int is_chain, struct buffer *out)
{
    size_t at = 0;
    buffer_clear(out);
    if (!is_chain) {
        struct buffer hex = {0};
        if (!part->is_text)
            hex_encode(part->bytes.data, part->bytes.length, (char *)buffer_extend(&hex, 2 * part->bytes.length + 1));
        json_write_string(out, (const char *)(part->is_text ? part->bytes.data : hex.data),
                          part->is_text ? part->bytes.length : 2 * part->bytes.length);
        buffer_free(&hex);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(out, i ? ",\"" : "[\"");
        base64_append(out, part->bytes.data + at, lengths[i]);
        buffer_append_byte(out, '"');
        at += lengths[i];
    }
    buffer_append_byte(out, ']');
}

static size_t flip_member(const struct sample *sample, const char *name, const struct json *value)
{
    struct part part;
    size_t lengths[MOST_CERTIFICATES], count, flipped = 0;
    struct buffer text = {0};
    int is_chain = strncmp(value->text, "-----BEGIN", 10) == 0;
    int64_t time = evidence_time(sample->vector->date);
    read_part(value, &part, lengths, &count);
    write_part(&part, lengths, count, is_chain, &text);
    assert_true(accepts(sample, name, &text, time));
    for (size_t at = 0; at < part.bytes.length; at += test_count(29, 1))
        for (int bit = 0; bit < 8; bit++) {
            if (!is_flipped(at, bit))
                continue;
            part.bytes.data[at] ^= (uint8_t)(1 << bit);
            write_part(&part, lengths, count, is_chain, &text);
            if (accepts(sample, name, &text, time))
                fail_msg("%s: \"%s\", byte %zu, bit %d: accepted", sample->vector->type, name, at, bit);
            part.bytes.data[at] ^= (uint8_t)(1 << bit);
            flipped++;
        }
    buffer_free(&part.bytes);
    buffer_free(&text);
    return flipped;
}

static void every_byte_of_the_collateral_counts(void **state)
{
    struct sample sample;
    for (size_t i = 0; i < VECTORS; i++) {
        if (!sample_open(&vectors[i], &sample))
            skip();
        for (size_t j = 0; j < sample.collateral->length; j++)
            print_message("%s: %zu bits of \"%s\" flipped, none accepted\n", vectors[i].type,
                          flip_member(&sample, sample.collateral->keys[j], sample.collateral->items[j]),
                          sample.collateral->keys[j]);
        sample_close(&sample);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_quotes_verify),
        cmocka_unit_test(real_quotes_are_of_their_time),
        cmocka_unit_test(every_byte_of_the_quote_counts),
        cmocka_unit_test(every_byte_of_the_collateral_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
