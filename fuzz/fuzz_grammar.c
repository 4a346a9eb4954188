/* grammar_compile on any bytes; what compiles is walked at random: something is always allowed, what is allowed is
 * taken, what is not is refused, and whatever came out is well-formed UTF-8. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "grammar_samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct grammar_sample *sample, const struct grammar *grammar, struct grammar_sample_draws *draws)
{
    struct grammar_state *state;
    struct buffer text = {0};
    bulla_error error = {0};
    if (grammar_state_open(grammar, sample->vocabulary, &state, &error))
        abort();
    for (size_t step = 0; step < 120; step++) {
        const uint64_t *allowed;
        bulla_error refused = {0};
        if (grammar_state_allowed(state, &allowed, &error)) {
            if (error.code != BULLA_E_LIMIT)
                abort();
            break;
        }
        uint32_t other = (uint32_t)(grammar_sample_random(&draws->seed) % GRAMMAR_SAMPLE_IDS);
        uint32_t id = grammar_sample_draw(allowed, draws, step);
        if (!grammar_sample_is_allowed(allowed, other) && grammar_state_accept(state, other, &refused) != BULLA_E_USAGE)
            abort();
        if (id == GRAMMAR_SAMPLE_END && !grammar_state_is_complete(state))
            abort();
        if (grammar_state_accept(state, id, &error))
            abort();
        if (id == GRAMMAR_SAMPLE_END)
            break;
        const uint8_t *bytes;
        size_t length;
        bulla_tokenizer_token_bytes(sample->tokenizer, id, &bytes, &length);
        buffer_append(&text, bytes, length);
    }
    if (grammar_state_is_complete(state) && utf8_check((char *)text.data, text.length) != text.length)
        abort();
    buffer_free(&text);
    grammar_state_close(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grammar_sample sample;
    struct grammar *grammar;
    bulla_error error = {0};
    struct grammar_sample_draws draws = {.seed = size, .hint = (const char *)data, .hint_length = size};
    if (grammar_compile((const char *)data, size, &grammar, &error)) {
        if (error.code == BULLA_OK || error.code == BULLA_E_INTERNAL || grammar)
            abort();
        return 0;
    }
    if (grammar_sample_open(&sample, 0, -1, &error))
        abort();
    for (int i = 0; i < 2; i++)
        walk(&sample, grammar, &draws);
    grammar_sample_close(&sample);
    grammar_free(grammar);
    return 0;
}
