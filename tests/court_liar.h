/* A party of trials (dispute_court.h) in a process of its own, whose run is altered: it has the case and the fault, and of
 * the dispute the messages that come through a socket pair. */
#ifndef TESTS_COURT_LIAR_H
#define TESTS_COURT_LIAR_H

#include "dispute_court.h"

struct liar {
    int descriptor;
    int process;
};
/* Starts `program` with these arguments (NULL-terminated), which has to call liar_serve. */
int liar_start(struct liar *liar, const char *program, char *const *arguments, bulla_error *error);
/* Waits for its end. 0 exit status, or BULLA_E_INTERNAL. */
int liar_stop(struct liar *liar, bulla_error *error);
/* It takes part in this trial of the court's answer from now on: side 0 proposer, 1 challenger. */
int liar_join(struct liar *liar, const struct court *court, uint64_t trial, int side, const struct dispute_fault *fault,
              struct trial_party *party, bulla_error *error);

/* The liar's process: serves standard input and output until they are closed. */
int liar_serve(struct dispute_case *c, bulla_error *error);

#endif
