/* SIMULATED evidence (trust/evidence/sim.c): what anyone may write. Never found, only named. */
#include "base/hash.h"
#include "trust/attester.h"

static int open_sim(const struct attester_options *options, void **state, bulla_error *error)
{
    (void)options, (void)error;
    *state = NULL;
    return BULLA_OK;
}

/* The measurement is that of nothing: SHA-256 of the word. */
static int quote(void *state, const uint8_t report_data[ATTESTER_DATA], struct buffer *document, bulla_error *error)
{
    static const char word[] = "SIMULATED";
    uint8_t digest[HASH_SHA256_BYTES];
    char measurement[2 * HASH_SHA256_BYTES + 1], data[2 * ATTESTER_DATA + 1];
    (void)state;
    int code = hash_sha256(word, sizeof word - 1, digest, error);
    if (code != BULLA_OK)
        return code;
    hex_encode(digest, sizeof digest, measurement);
    hex_encode(report_data, ATTESTER_DATA, data);
    buffer_append_format(document, "{\"type\":\"sim\",\"report\":{\"measurement\":\"%s\",\"report_data\":\"%s\"}}", measurement,
                         data);
    return BULLA_OK;
}

static void close_sim(void *state)
{
    (void)state;
}

const struct attester attester_sim = {
    .name = "sim",
    .title = "SIMULATED",
    .is_simulated = 1,
    .open = open_sim,
    .quote = quote,
    .close = close_sim,
};
