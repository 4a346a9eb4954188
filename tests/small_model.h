/* Model files of a few hundred KB around a program, with a tokenizer whose ids
 * are bytes. */
#ifndef TESTS_SMALL_MODEL_H
#define TESTS_SMALL_MODEL_H

#include "base/buffer.h"
#include "bulla/program.h"

/* A byte-level tokenizer's compiled block: id i stands for the byte i modulo 256, no merges. */
void small_tokenizer(uint32_t vocabulary, struct buffer *block);

/* Writes `program` with its data; tensors keep their order and names. `root` gets the model root. */
int small_model_write(const char *path, const bulla_program *program, const char *chat_template,
                      const char *description, uint8_t root[32], bulla_error *error);

#endif
