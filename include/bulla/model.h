/* A model file: the canonical program with everything an answer depends on.
 *
 *     offset 0     header, 4,096 bytes: magic, versions, where the parts lie, the
 *                  model root, the source's digest, and a digest of the header
 *                  and the description
 *     4,096        the rooted region: its own header (1,024 bytes), operations,
 *                  tensor directory, tokenizer, chat template, tensors, each part
 *                  64-byte aligned
 *     after it     the description: JSON for people (architecture, source,
 *                  import settings, commitments for other proof systems)
 *
 * The model root is the Merkle root (base/merkle.h) over the rooted region in
 * leaves of 1,024 bytes. docs/model-file.md tables every field.
 */
#ifndef BULLA_MODEL_H
#define BULLA_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"
#include "bulla/program.h"
#include "bulla/tokenizer.h"

typedef struct bulla_model bulla_model;

/* Maps the file read-only, recomputes the model root with `threads` threads
 * (0: one a core), compares it with the header's, and checks the program. A file
 * with any byte changed is refused. The map stays until bulla_model_close. */
int bulla_model_open(const char *path, unsigned threads, bulla_model **model, bulla_error *error);
/* The same for a file that is open for reading: `name` stands for it in error sentences; the descriptor stays the
 * caller's and may be closed at once. */
int bulla_model_open_descriptor(int descriptor, const char *name, unsigned threads, bulla_model **model,
                                bulla_error *error);
/* The same without the model root, which is then only what the header claims: for a process that hands the descriptor
 * to another, has that one open the model in full, and uses nothing of it before the two roots are compared. */
int bulla_model_open_unrooted(int descriptor, const char *name, bulla_model **model, bulla_error *error);
/* The same without the model root and without a look at the tensors, which may be holes in the file: for whoever needs the
 * program's shape, the tokenizer and the chat template alone. */
int bulla_model_open_program(int descriptor, const char *name, bulla_model **model, bulla_error *error);
void bulla_model_close(bulla_model *model); /* NULL is fine */

const bulla_program *bulla_model_program(const bulla_model *model);
const bulla_tokenizer *bulla_model_tokenizer(const bulla_model *model);
/* The chat template's Jinja source; length 0 where the model has none. */
const char *bulla_model_chat_template(const bulla_model *model, size_t *length);
const uint8_t *bulla_model_root(const bulla_model *model);          /* 32 bytes */
const uint8_t *bulla_model_source_digest(const bulla_model *model); /* 32 bytes */
/* The description's JSON. */
const char *bulla_model_description(const bulla_model *model, size_t *length);

/* The map's pages may be dropped from memory; they are read again when touched. */
void bulla_model_release(const bulla_model *model);

/* `inspect --program`: {version, model_root, vocabulary, context, operations:
 * [...], tensors: [...]} as docs/program.md describes. Free with bulla_text_free. */
int bulla_model_program_json(const bulla_model *model, char **text, size_t *length, bulla_error *error);

#endif
