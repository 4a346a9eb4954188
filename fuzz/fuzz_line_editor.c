/* The line editor under any bytes from a terminal of any size: the text stays UTF-8, the screen understands all
 * that is drawn, and shows what a drawing from scratch shows. The first two bytes are the size. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "cli/line_editor.h"
#include "screen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void show(struct screen *screen, struct buffer *drawing)
{
    screen_write(screen, drawing->data, drawing->length);
    buffer_clear(drawing);
    if (screen->problem || screen->wraps)
        abort();
}

/* Where nothing scrolled, both began in the first row. */
static void compare(const struct screen *screen, struct line_editor *editor, struct buffer *drawing)
{
    struct screen fresh;
    screen_begin(&fresh, screen->rows, screen->columns);
    line_editor_redraw(editor, drawing);
    show(&fresh, drawing);
    if (screen->scrolled)
        return;
    if (fresh.row != screen->row || fresh.column != screen->column)
        abort();
    for (int row = 0; row < screen->rows; row++) {
        char expected[SCREEN_COLUMNS * SCREEN_CELL], found[SCREEN_COLUMNS * SCREEN_CELL];
        screen_row(&fresh, row, expected, sizeof expected);
        screen_row(screen, row, found, sizeof found);
        if (strcmp(expected, found) != 0)
            abort();
    }
}

static void begin(struct line_editor *editor, struct screen *screen, struct buffer *drawing)
{
    screen_begin(screen, screen->rows, screen->columns);
    line_editor_begin(editor, screen->columns, screen->rows, drawing);
    show(screen, drawing);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer drawing = {0};
    if (size < 2 || size > 2000)
        return 0;
    struct line_editor *editor = line_editor_open("> ", "  ", NULL);
    if (!editor)
        abort();
    struct screen screen = {.rows = 1 + data[0] % SCREEN_ROWS, .columns = 8 + data[1] % (SCREEN_COLUMNS - 7)};
    begin(editor, &screen, &drawing);
    for (size_t at = 2; at < size;) {
        size_t used, length, piece = size - at > 16 ? 16 : size - at;
        enum line_event event = line_editor_feed(editor, data + at, piece, &used, &drawing);
        show(&screen, &drawing);
        const char *text = line_editor_text(editor, &length);
        if (event == LINE_FAILED || used == 0 || used > piece || utf8_check(text, length) != length)
            abort();
        at += used;
        if (event == LINE_MORE) {
            compare(&screen, editor, &drawing);
        } else {
            line_editor_remember(editor, text, length, NULL);
            begin(editor, &screen, &drawing);
        }
    }
    line_editor_close(editor);
    buffer_free(&drawing);
    return 0;
}
