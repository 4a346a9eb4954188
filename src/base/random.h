/* Random bytes from the operating system, good for secrets. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>

#include "bulla/error.h"

int random_bytes(void *bytes, size_t length, bulla_error *error);

#endif
