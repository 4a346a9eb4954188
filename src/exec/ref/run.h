/* The reference run: a whole program over one sequence, one position after
 * another, one operation after another, in plain C and a single thread. It is
 * written to be read beside docs/canonical.md; every executor must equal it to
 * the bit, RANGE included.
 *
 * Only what is *evaluated* is computed: from the logits at `first_sampled` and
 * later, back through the inputs. A value needs its inputs at its own position;
 * `attend` at position t also needs the keys and values of all positions that t
 * sees. So each operation has a lowest position below which nothing needs it,
 * which does not depend on the tokens. */
#ifndef EXEC_REF_RUN_H
#define EXEC_REF_RUN_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"
#include "bulla/program.h"
#include "model/program_names.h"

/* docs/canonical.md, "evaluated": the lowest position at which each operation is, [operation_count]; UINT64_MAX: none. */
void reference_lowest(const bulla_program *program, uint64_t first_sampled, uint64_t *lowest);

struct reference_run;

/* `program` has its data and has passed bulla_program_check; it must outlive the
 * run. Positions below `first_sampled` have no logits. */
int reference_run_open(const bulla_program *program, uint64_t first_sampled, struct reference_run **run,
                       bulla_error *error);
void reference_run_close(struct reference_run *run); /* NULL is fine */

/* The next `count` tokens. `logits` (NULL: not wanted) gets [vocabulary] for each
 * of these positions that is at least first_sampled, in order. A position beyond
 * the context is BULLA_E_LIMIT, an id beyond the vocabulary BULLA_E_USAGE, both
 * before anything is computed. BULLA_E_RANGE names position and operation; the
 * logits of earlier positions are there, and no more can be appended. */
int reference_run_append(struct reference_run *run, const uint32_t *ids, size_t count, int32_t *logits,
                         bulla_error *error);
uint64_t reference_run_length(const struct reference_run *run); /* positions computed */

/* Whether RANGE was raised, and where. */
int reference_run_range(const struct reference_run *run, uint64_t *position, uint32_t *operation);

/* The lowest position at which this operation is evaluated; UINT64_MAX when no
 * logits depend on it. */
uint64_t reference_run_lowest(const struct reference_run *run, uint32_t operation);

/* A value of the program at one position. */
struct reference_value {
    enum program_value type;
    uint32_t elements;
    uint32_t heads;  /* of VALUE_HEADS, VALUE_KEYS and VALUE_VALUES */
    int32_t *x;      /* VALUE_VECTOR: [elements] */
    int8_t *q;       /* the others, q, q8, k8 or v8: [elements] */
    int64_t s;       /* VALUE_QUANTISED */
    int32_t *scales; /* s_q, t_k or k_v: [heads] */
};

/* The result of `operation` at `position`, which stays valid until the next call
 * on this run. Positions other than the last one are computed again from their
 * token and the cache. BULLA_E_USAGE where it is not evaluated or not there yet,
 * BULLA_E_RANGE where RANGE was raised before it or in it. */
int reference_run_value(struct reference_run *run, uint32_t operation, uint64_t position,
                        const struct reference_value **value, bulla_error *error);

#endif
