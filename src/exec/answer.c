#include "exec/answer.h"

enum { TABLE_EXP24 = 1 }; /* its number among a model's tensors (model/program_names.h) */

int answer_check(const bulla_program *program, const uint32_t *prompt, size_t prompt_count,
                 const bulla_sampling *sampling, bulla_error *error)
{
    if (prompt_count == 0)
        return bulla_fail(error, BULLA_E_USAGE, "the prompt is empty: an answer needs at least one token before it");
    if (prompt_count > program->context)
        return bulla_fail(error, BULLA_E_LIMIT, "the prompt has %zu tokens, more than the model's context of %u holds",
                          prompt_count, program->context);
    for (size_t i = 0; i < prompt_count; i++)
        if (prompt[i] >= program->vocabulary)
            return bulla_fail(error, BULLA_E_USAGE, "prompt token %zu is %u; the model's vocabulary ends at %u", i,
                              prompt[i], program->vocabulary - 1);
    return bulla_sampling_check(sampling, program->vocabulary, error);
}

uint64_t answer_limit(const bulla_program *program, size_t prompt_count, uint64_t max_tokens)
{
    uint64_t room = program->context - prompt_count;
    return max_tokens && max_tokens < room ? max_tokens : room;
}

int answer_sampler_open(const bulla_program *program, bulla_sampler **sampler, bulla_error *error)
{
    return bulla_sampler_open(program->vocabulary, program->data[TABLE_EXP24], sampler, error);
}

uint32_t answer_good_rows(const bulla_piece *piece, uint64_t first)
{
    if (piece->code == BULLA_OK)
        return piece->count - piece->logits_from;
    return piece->range_position > first ? (uint32_t)(piece->range_position - first) : 0;
}

uint32_t answer_propose(struct speculation *speculation, const bulla_tokenizer *tokenizer, uint64_t room,
                        uint32_t *ids)
{
    uint32_t proposed = speculation_propose(speculation, room, ids);
    for (uint32_t i = 0; tokenizer && i < proposed; i++)
        if (bulla_tokenizer_is_end(tokenizer, ids[i]))
            proposed = i;
    return proposed;
}

int answer_append_text(const bulla_tokenizer *tokenizer, bulla_text_stream *stream, uint32_t token, struct buffer *text,
                       bulla_error *error)
{
    const uint8_t *bytes;
    size_t length = 0, used = 0, before = text->length;
    if (token < bulla_tokenizer_vocabulary(tokenizer))
        bulla_tokenizer_token_bytes(tokenizer, token, &bytes, &length);
    size_t capacity = 4 + 3 * length;
    char *room = (char *)buffer_extend(text, capacity);
    if (!room)
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory for the text of an answer's token");
    if (length > 0)
        used = bulla_text_stream_push(tokenizer, stream, token, room, capacity);
    buffer_cut(text, before + used);
    return BULLA_OK;
}
