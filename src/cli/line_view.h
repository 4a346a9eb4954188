/* Drawing of a text with a cursor in it on the rows of a terminal. */
#ifndef CLI_LINE_VIEW_H
#define CLI_LINE_VIEW_H

#include <stddef.h>

#include "base/buffer.h"

/* One row of the terminal. */
struct line_row {
    size_t start, end;  /* bytes of the text, without the newline */
    const char *before; /* prompt, continuation or "" */
    int width;          /* columns taken, with `before` */
};

/* A text cut into rows. Freed by line_layout_free. */
struct line_layout {
    struct line_row *rows;
    size_t count;
    size_t cursor_row;
    int cursor_column;
};

struct line_view {
    const char *prompt, *continuation;
    int columns, rows; /* of the terminal */
    int *drawn;        /* widths of the rows that stand on the terminal, [rows] at least */
    size_t drawn_count;
    size_t cursor_row; /* of them */
    int cursor_column;
};

int line_view_layout(const struct line_view *view, const char *text, size_t length, size_t cursor,
                     struct line_layout *layout, bulla_error *error);
void line_layout_free(struct line_layout *layout);
/* The byte that stands at this row and column, or the nearest before it in the row. */
size_t line_layout_find(const struct line_layout *layout, const char *text, size_t row, int column);

/* Takes the size of a terminal; what was drawn is forgotten: the cursor stands at the start of an empty line. */
int line_view_begin(struct line_view *view, int columns, int rows, bulla_error *error);
void line_view_free(struct line_view *view);
/* The terminal has this size now and, where it got narrower, has broken its rows anew. */
int line_view_resize(struct line_view *view, int columns, int rows, bulla_error *error);
/* Replaces what was drawn. Of a text higher than the terminal the rows around the cursor are shown, or
 * where `whole` all, which scrolls. */
int line_view_draw(struct line_view *view, const char *text, size_t length, size_t cursor, int whole,
                   struct buffer *out, bulla_error *error);

#endif
