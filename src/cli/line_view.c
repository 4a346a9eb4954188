#include "cli/line_view.h"

#include <string.h>

#include "base/memory.h"
#include "cli/line_text.h"

enum { COLUMNS_MIN = 8 };

static int prompt_width(const char *prompt)
{
    return line_text_width(prompt, 0, strlen(prompt), 0);
}

void line_layout_free(struct line_layout *layout)
{
    memory_free(layout->rows);
    *layout = (struct line_layout){0};
}

static int begin_row(struct line_layout *layout, size_t *capacity, size_t start, const char *before,
                     bulla_error *error)
{
    if (layout->count == *capacity) {
        size_t wanted = *capacity ? 2 * *capacity : 8;
        struct line_row *rows = memory_resize(layout->rows, wanted, sizeof *rows, error);
        if (!rows)
            return BULLA_E_MEMORY;
        layout->rows = rows;
        *capacity = wanted;
    }
    layout->rows[layout->count++] =
        (struct line_row){.start = start, .end = start, .before = before, .width = prompt_width(before)};
    return BULLA_OK;
}

int line_view_layout(const struct line_view *view, const char *text, size_t length, size_t cursor,
                     struct line_layout *layout, bulla_error *error)
{
    size_t capacity = 0;
    *layout = (struct line_layout){0};
    int code = begin_row(layout, &capacity, 0, view->prompt, error);
    for (size_t at = 0; code == BULLA_OK;) {
        struct line_row *row = &layout->rows[layout->count - 1];
        int is_end = at == length, is_newline = !is_end && text[at] == '\n';
        size_t next = is_end || is_newline ? at + 1 : line_text_next(text, length, at);
        int width = is_end || is_newline ? 0 : line_text_width(text, at, next, row->width);
        /* The cursor needs a column of its own behind the last character. What is wider than the terminal
         * stands on a row by itself. */
        int is_full = row->width + width > view->columns || (width == 0 && at == cursor && row->width == view->columns);
        if (is_full && row->width > 0) {
            code = begin_row(layout, &capacity, at, "", error);
            continue;
        }
        if (at == cursor) {
            layout->cursor_row = layout->count - 1;
            layout->cursor_column = row->width;
        }
        if (is_end)
            break;
        row->width += width;
        row->end = is_newline ? at : next;
        at = next;
        if (is_newline)
            code = begin_row(layout, &capacity, at, view->continuation, error);
    }
    if (code != BULLA_OK)
        line_layout_free(layout);
    return code;
}

size_t line_layout_find(const struct line_layout *layout, const char *text, size_t row_index, int column)
{
    const struct line_row *row = &layout->rows[row_index];
    int at_column = prompt_width(row->before);
    size_t at = row->start;
    while (at < row->end) {
        size_t next = line_text_next(text, row->end, at);
        int width = line_text_width(text, at, next, at_column);
        if (at_column + width > column)
            break;
        at_column += width;
        at = next;
    }
    /* Behind the last character of a row that was broken stands the next row's first. */
    int is_broken = row_index + 1 < layout->count && layout->rows[row_index + 1].start == row->end;
    if (at == row->end && is_broken && at > row->start)
        at = line_text_previous(text, row->end, at);
    return at;
}

int line_view_begin(struct line_view *view, int columns, int rows, bulla_error *error)
{
    view->columns = columns < COLUMNS_MIN ? COLUMNS_MIN : columns;
    view->rows = rows < 1 ? 1 : rows;
    view->drawn_count = view->cursor_row = 0;
    view->cursor_column = 0;
    int *drawn = memory_resize(view->drawn, (size_t)view->rows, sizeof *drawn, error);
    if (!drawn)
        return BULLA_E_MEMORY;
    view->drawn = drawn;
    return BULLA_OK;
}

void line_view_free(struct line_view *view)
{
    memory_free(view->drawn);
    view->drawn = NULL;
}

int line_view_resize(struct line_view *view, int columns, int rows, bulla_error *error)
{
    size_t above = 0;
    columns = columns < COLUMNS_MIN ? COLUMNS_MIN : columns;
    for (size_t i = 0; i < view->cursor_row; i++)
        above += view->drawn[i] > columns ? (size_t)((view->drawn[i] + columns - 1) / columns) : 1;
    above += (size_t)(view->cursor_column / columns);
    int code = line_view_begin(view, columns, rows, error);
    view->cursor_row = above;
    return code;
}

/* Tabs as blanks: what a terminal's own tab stops are is not known. */
static void append_row(struct buffer *out, const char *text, const struct line_row *row)
{
    int column = prompt_width(row->before);
    buffer_append_text(out, row->before);
    for (size_t at = row->start; at < row->end;) {
        size_t next = line_text_next(text, row->end, at);
        int width = line_text_width(text, at, next, column);
        if (text[at] == '\t')
            buffer_append_format(out, "%*s", width, "");
        else
            buffer_append(out, text + at, next - at);
        column += width;
        at = next;
    }
}

static void append_move(struct buffer *out, size_t distance, char direction)
{
    if (distance > 0)
        buffer_append_format(out, "\x1b[%zu%c", distance, direction);
}

/* The rows to show: all, or as many as fit with the cursor's among them. */
static void choose_rows(const struct line_view *view, const struct line_layout *layout, int whole, size_t *first,
                        size_t *count)
{
    size_t room = (size_t)view->rows;
    *first = 0;
    *count = layout->count;
    if (whole || layout->count <= room)
        return;
    *count = room;
    if (layout->cursor_row >= room)
        *first = layout->cursor_row - room + 1;
}

int line_view_draw(struct line_view *view, const char *text, size_t length, size_t cursor, int whole,
                   struct buffer *out, bulla_error *error)
{
    struct line_layout layout;
    size_t first, count;
    int code = line_view_layout(view, text, length, cursor, &layout, error);
    if (code != BULLA_OK)
        return code;
    choose_rows(view, &layout, whole, &first, &count);
    append_move(out, view->cursor_row, 'A');
    buffer_append_text(out, "\r\x1b[J");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_append_text(out, "\r\n");
        append_row(out, text, &layout.rows[first + i]);
        if (i < (size_t)view->rows)
            view->drawn[i] = layout.rows[first + i].width;
    }
    view->drawn_count = count < (size_t)view->rows ? count : (size_t)view->rows;
    view->cursor_row = layout.cursor_row - first;
    view->cursor_column = layout.cursor_column;
    append_move(out, count - 1 - view->cursor_row, 'A');
    buffer_append_byte(out, '\r');
    append_move(out, (size_t)view->cursor_column, 'C');
    line_layout_free(&layout);
    return out->error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, out->error.code, "%s", out->error.text);
}
