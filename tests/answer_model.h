/* A model file around a random program whose tokens are bytes, some of them
 * ending an answer: for tests of what generates and converses. */
#ifndef TESTS_ANSWER_MODEL_H
#define TESTS_ANSWER_MODEL_H

#include "bulla/model.h"

/* Every `end_every`-th id ends an answer; 0: none. Opened from a temporary file that is gone already. */
int answer_model_open(uint64_t seed, int family, int strain, uint32_t end_every, const char *chat_template,
                      bulla_model **model, bulla_error *error);

/* The same file, to stay at `path`. */
int answer_model_write(const char *path, uint64_t seed, int family, int strain, uint32_t end_every,
                       const char *chat_template, bulla_error *error);

#endif
