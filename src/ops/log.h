/* The server's log: JSON objects, one a line, to a file or a descriptor.
 *
 * Nothing here waits for the sink: lines go into a bounded buffer, and a thread of the log's own writes them. A line
 * that finds the buffer full, memory short or the disk full is dropped and counted; the next line that gets
 * through is preceded by one that says how many are missing. No text of prompts or answers and no key ever comes here. */
#ifndef OPS_LOG_H
#define OPS_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "bulla/error.h"

struct log;

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_COUNT };

struct log_options {
    const char *path;      /* of a file that lines are appended to; NULL: `descriptor` */
    int descriptor;        /* stays the caller's */
    enum log_level level;  /* lines of later levels are left out */
    size_t most_bytes;     /* that wait for the sink, 0: 1 MiB */
};

int log_open(const struct log_options *options, struct log **log, bulla_error *error);
/* Lines that wait are written, for `milliseconds` at most. NULL is fine. */
void log_close(struct log *log, unsigned milliseconds);
/* Opens the path anew, after something has moved the file away. */
void log_reopen(struct log *log);
uint64_t log_dropped(struct log *log); /* lines, since it was opened */
/* "error", "warning", "info", "debug"; -1 for none of these. */
int log_level_parse(const char *name);

/* One line: log_line_begin writes time, level and event; the fields follow in order; log_line_end hands it
 * over. `log` may be NULL: then nothing is written. */
struct log_line {
    struct log *log; /* NULL where the level is left out */
    struct buffer text;
};

enum { LOG_TEXT_BYTES = 512 /* of a text; longer ones are cut */ };

void log_line_begin(struct log_line *line, struct log *log, enum log_level level, const char *event);
void log_line_text(struct log_line *line, const char *key, const char *text); /* NULL: the field is left out */
void log_line_number(struct log_line *line, const char *key, uint64_t number);
void log_line_seconds(struct log_line *line, const char *key, uint64_t nanoseconds); /* with six decimals */
void log_line_bool(struct log_line *line, const char *key, int value);
void log_line_end(struct log_line *line);

#endif
