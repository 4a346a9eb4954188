/* Grammar-constrained decoding: which tokens may follow, so that an answer is what a JSON schema, a
 * tool call's form or a fixed text demands. What is allowed depends on the grammar, the vocabulary and
 * the tokens so far only, so an answer under a grammar is as exact as any other.
 *
 * A grammar is compiled from a specification, which is JSON:
 *
 *     {"schema": S}                a JSON text that the JSON Schema S (an object or a boolean) accepts
 *     {"object": true}             any JSON object
 *     {"literal": "text"}          these bytes
 *     {"sequence": [spec, ...]}    one after the other
 *     {"choice": [spec, ...]}      one of them
 *     {"repeat": spec, "min": m, "max": n}   m to n times; without "max" without end
 *     {"text": {"until": ["..."]}} any text that holds none of these strings; nothing must follow it but a
 *                                  literal that begins with one of them, or the end
 *
 * JSON is written without blanks beyond one space after ',' and ':' and, in any JSON, bounded runs of
 * white space, so that a model cannot go on for ever inside blanks. docs/structured-output.md lists the schema
 * keywords that are enforced; any other that would restrict is BULLA_E_UNSUPPORTED, naming the keyword and
 * where it stands (a JSON pointer). */
#ifndef EXEC_GRAMMAR_H
#define EXEC_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"
#include "bulla/tokenizer.h"

/* A vocabulary's bytes in an order that finds allowed tokens fast. Immutable: threads may share it. `tokenizer` must
 * outlive it. `vocabulary` is the program's (at least the tokenizer's; ids beyond it are never allowed). */
struct grammar_vocabulary;
int grammar_vocabulary_open(const bulla_tokenizer *tokenizer, uint32_t vocabulary, struct grammar_vocabulary **result,
                            bulla_error *error);
void grammar_vocabulary_close(struct grammar_vocabulary *vocabulary); /* NULL is fine */

/* A compiled grammar. Immutable: threads may share it. Bounded in time and memory whatever the specification:
 * what is too large, or costs more than GRAMMAR_MOST_WORK units of work (a tenth of a second at most), is
 * BULLA_E_LIMIT. */
enum { GRAMMAR_MOST_WORK = 100000000 };
struct grammar;
int grammar_compile(const char *specification, size_t length, struct grammar **grammar, bulla_error *error);
/* The same for several that may cost no more together: *work, 0 at first, is what was spent so far. */
int grammar_compile_within(const char *specification, size_t length, uint64_t *work, struct grammar **grammar,
                           bulla_error *error);
void grammar_free(struct grammar *grammar); /* NULL is fine */
size_t grammar_bytes(const struct grammar *grammar); /* memory that it takes */

/* Whether a specification can be compiled, for who does not run it. The last few that could are remembered. A zeroed
 * memory holds none; one thread. */
enum { GRAMMAR_REMEMBERED = 64, GRAMMAR_DIGEST_BYTES = 32 };
struct grammar_memory {
    uint8_t digests[GRAMMAR_REMEMBERED][GRAMMAR_DIGEST_BYTES];
    size_t count, next;
};
/* As grammar_compile_within. `memory` may be NULL. */
int grammar_check(struct grammar_memory *memory, const char *specification, size_t length, uint64_t *work,
                  bulla_error *error);

/* Where one answer stands. Both arguments must outlive it. */
struct grammar_state;
int grammar_state_open(const struct grammar *grammar, const struct grammar_vocabulary *vocabulary,
                       struct grammar_state **state, bulla_error *error);
void grammar_state_close(struct grammar_state *state); /* NULL is fine */

/* The ids that may come next, as a bit set of the vocabulary's ids (bit id & 63 of word id / 64), valid until
 * the next call with this state. The ids that end an answer (bulla_tokenizer_is_end) are allowed exactly where the text
 * so far is complete; other control tokens never. At least one id is always allowed. */
int grammar_state_allowed(struct grammar_state *state, const uint64_t **allowed, bulla_error *error);
/* The token that was taken; one that was not allowed is BULLA_E_USAGE and changes nothing. */
int grammar_state_accept(struct grammar_state *state, uint32_t token, bulla_error *error);
int grammar_state_is_complete(const struct grammar_state *state); /* whether the text so far is a whole one */
/* Whether nothing but an end may follow. */
int grammar_state_is_final(const struct grammar_state *state);

#endif
