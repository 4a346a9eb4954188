/* Text that a model or a file chose, for people to see. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Writes `text`, UTF-8 in whole characters, and flushes it. Where `file` is a terminal, control
 * characters other than newline and tab become U+FFFD: a model must not steer the terminal.
 * Returns 0 when the system refused; the stream's error flag is then set. */
int output_text(FILE *file, const char *text, size_t length);

/* Whether the stream is a terminal. */
int output_is_terminal(FILE *file);

/* "1,234,567" into `text`. */
enum { OUTPUT_NUMBER = 32 };
const char *output_number(uint64_t number, char text[OUTPUT_NUMBER]);
/* "98.4 MB" into `text`; powers of 1,000. */
const char *output_bytes(uint64_t bytes, char text[OUTPUT_NUMBER]);

#endif
