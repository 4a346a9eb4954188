/* What a fake scheduler (fake_scheduler.c) answers. */
#ifndef TESTS_FAKE_SCHEDULER_H
#define TESTS_FAKE_SCHEDULER_H

#include <stddef.h>
#include <stdint.h>

/* Token `number` of an answer to a 'g' prompt. */
uint32_t fake_scheduler_token(uint64_t seed, size_t number);

#endif
