/* Standard input, read whole or line by line, within limits. */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include <stdio.h>

#include "base/buffer.h"

enum { INPUT_LIMIT = 64 << 20 };

/* All that is left of `file`, appended to `out`. More than INPUT_LIMIT bytes is BULLA_E_LIMIT. */
int input_read_all(FILE *file, struct buffer *out, bulla_error *error);
/* The next line into `out`, which is cleared first, without its newline (nor a carriage return before it).
 * *there is 0 at the end of the file. */
int input_read_line(FILE *file, struct buffer *out, int *there, bulla_error *error);
/* Takes one newline (and a carriage return before it) from the end. */
void input_drop_newline(struct buffer *text);

#endif
