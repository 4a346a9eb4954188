/* What the verbs that give a verdict share. */
#ifndef CLI_VERDICTS_H
#define CLI_VERDICTS_H

#include <stdint.h>

#include "bulla/verify.h"

enum { VERDICTS_LARGEST_DOCUMENT = 64 << 20 }; /* bytes of a file that is judged or belongs to one */

/* --time: a day or a moment in UTC; NULL: now. */
int verdicts_read_time(const char *text, int64_t *seconds, bulla_error *error);
/* To standard output. */
int verdicts_print(const bulla_verdict *verdict, int as_json, bulla_error *error);

#endif
