/* The controlling terminal on standard input and output: its modes, its size,
 * and its state put back however the program ends. There is one terminal and
 * one set of signal handlers in a process, so this module keeps state of its own. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

/* Whether standard input and output are a terminal that understands cursor movement. */
int terminal_is_there(void);

/* Remembers the terminal's state and catches signals: those that end the program put the state
 * back first; SIGINT only sets a flag; SIGTSTP puts the state back, stops, and takes it up again. */
int terminal_open(bulla_error *error);
void terminal_close(void); /* puts the state back; may be called twice */

/* For the line editor: every key comes as bytes, pastes in brackets. */
int terminal_begin_editing(bulla_error *error);
/* While an answer streams: nothing is echoed, Ctrl-C is SIGINT, what is typed waits. */
int terminal_begin_answering(bulla_error *error);

void terminal_size(int *columns, int *rows); /* 80 x 24 where the terminal does not know */

/* What terminal_read returns beside a count of bytes. */
enum { TERMINAL_END = 0, TERMINAL_TIMEOUT = -1, TERMINAL_RESIZED = -2, TERMINAL_RESUMED = -3, TERMINAL_FAILED = -4 };
/* Waits for bytes, `milliseconds` at most where that is not negative. A signal's news comes before bytes. */
long terminal_read(uint8_t *bytes, size_t capacity, int milliseconds, bulla_error *error);
/* All of it; BULLA_E_IO when the terminal is gone. */
int terminal_write(const void *bytes, size_t length, bulla_error *error);

/* Stops the program as Ctrl-Z does; returns when it is continued. */
void terminal_suspend(void);
/* Whether SIGINT came since the last call. */
int terminal_take_interrupt(void);

#endif
