/* Random programs taken as far from sense as bulla_program_check allows: shifts
 * and constants at their edges, tensors full of extremes. */
#ifndef TESTS_ODD_PROGRAM_H
#define TESTS_ODD_PROGRAM_H

#include "random_program.h"

/* A random program whose records and data may be changed. */
struct program_copy {
    bulla_program *origin;
    bulla_program program;
    bulla_operation *operations; /* program's, writable */
    bulla_tensor *tensors;
};

int program_copy_new(uint64_t seed, int family, struct program_copy *copy, bulla_error *error);
void program_copy_free(struct program_copy *copy);

/* A copy made odd: few or many of its operations and tensors, as the seed says. */
int odd_program_new(uint64_t seed, struct program_copy *copy, bulla_error *error);

#endif
