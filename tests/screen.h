/* A terminal's screen in memory, for tests of what draws on one: takes the
 * bytes that a program writes and knows which character stands where. It does
 * what xterm does with the few sequences that Bulla writes, and fails on others. */
#ifndef TESTS_SCREEN_H
#define TESTS_SCREEN_H

#include <stddef.h>
#include <stdint.h>

enum { SCREEN_ROWS = 24, SCREEN_COLUMNS = 80, SCREEN_CELL = 64 };

struct screen {
    int rows, columns;
    char cells[SCREEN_ROWS][SCREEN_COLUMNS][SCREEN_CELL];
    uint8_t widths[SCREEN_ROWS][SCREEN_COLUMNS]; /* 0: blank, or the second half of a wide character */
    int row, column;
    int wraps;          /* the last column was written: the next character goes to the next row */
    int scrolled;       /* rows that left at the top */
    const char *problem; /* NULL, or what was not understood */
};

void screen_begin(struct screen *screen, int rows, int columns);
void screen_write(struct screen *screen, const void *bytes, size_t length);
/* The text of a row without blanks at its end. */
void screen_row(const struct screen *screen, int row, char *text, size_t capacity);

#endif
