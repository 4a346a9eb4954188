/* What one answer alone (exec/generate.h) and one among many (exec/scheduler.h) have in common. */
#ifndef EXEC_ANSWER_H
#define EXEC_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "bulla/engine.h"
#include "bulla/sampler.h"
#include "exec/speculate.h"

/* Whether an answer to this prompt can be begun: BULLA_E_USAGE or BULLA_E_LIMIT, naming what is wrong. */
int answer_check(const bulla_program *program, const uint32_t *prompt, size_t prompt_count,
                 const bulla_sampling *sampling, bulla_error *error);
/* Most tokens of the answer: prompt and answer together fill the context at most. max_tokens 0: no other limit. */
uint64_t answer_limit(const bulla_program *program, size_t prompt_count, uint64_t max_tokens);
int answer_sampler_open(const bulla_program *program, bulla_sampler **sampler, bulla_error *error);

/* Rows of a finished piece's logits, the first of them of position `first`, that come before any RANGE. */
uint32_t answer_good_rows(const bulla_piece *piece, uint64_t first);
/* Up to `room` tokens that may follow, none of them an end: nothing follows an end. `tokenizer` NULL: an end is a token
 * like any other. */
uint32_t answer_propose(struct speculation *speculation, const bulla_tokenizer *tokenizer, uint64_t room,
                        uint32_t *ids);
/* Appends the text that a token completes: whole characters, and nothing for an id that the vocabulary pads the
 * tokenizer's with. BULLA_E_MEMORY. */
int answer_append_text(const bulla_tokenizer *tokenizer, bulla_text_stream *stream, uint32_t token, struct buffer *text,
                       bulla_error *error);

#endif
