#include "screen.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

void screen_begin(struct screen *screen, int rows, int columns)
{
    memset(screen, 0, sizeof *screen);
    screen->rows = rows;
    screen->columns = columns;
}

static void clear_cell(struct screen *screen, int row, int column)
{
    memset(screen->cells[row][column], 0, SCREEN_CELL);
    screen->widths[row][column] = 0;
}

static void clear_from(struct screen *screen, int row, int column)
{
    for (; row < screen->rows; row++, column = 0)
        for (; column < screen->columns; column++)
            clear_cell(screen, row, column);
}

static void line_feed(struct screen *screen)
{
    screen->wraps = 0;
    if (screen->row + 1 < screen->rows) {
        screen->row++;
        return;
    }
    memmove(screen->cells[0], screen->cells[1], sizeof screen->cells[0] * (size_t)(screen->rows - 1));
    memmove(screen->widths[0], screen->widths[1], sizeof screen->widths[0] * (size_t)(screen->rows - 1));
    for (int column = 0; column < screen->columns; column++)
        clear_cell(screen, screen->rows - 1, column);
    screen->scrolled++;
}

/* A mark without width joins the character before the cursor. */
static void join(struct screen *screen, const char *bytes, size_t size)
{
    int column = screen->wraps ? screen->columns - 1 : screen->column - 1;
    while (column > 0 && screen->widths[screen->row][column] == 0)
        column--;
    if (column < 0)
        return;
    char *cell = screen->cells[screen->row][column];
    size_t length = strlen(cell);
    if (length + size < SCREEN_CELL)
        memcpy(cell + length, bytes, size);
}

static void print(struct screen *screen, const char *bytes, size_t size, uint32_t code_point)
{
    int width = utf8proc_charwidth((utf8proc_int32_t)code_point);
    if (width == 0) {
        join(screen, bytes, size);
        return;
    }
    if (screen->wraps || screen->column + width > screen->columns) {
        line_feed(screen);
        screen->column = 0;
    }
    for (int i = 0; i < width; i++)
        clear_cell(screen, screen->row, screen->column + i);
    memcpy(screen->cells[screen->row][screen->column], bytes, size);
    screen->widths[screen->row][screen->column] = (uint8_t)width;
    screen->column += width;
    if (screen->column == screen->columns) {
        screen->column--;
        screen->wraps = 1;
    }
}

/* ESC [ number letter. Returns its bytes, 0 when it is none of those that are known. */
static size_t control(struct screen *screen, const char *bytes, size_t length)
{
    size_t at = 2;
    int number = 0, given = 0;
    if (length < 3 || bytes[1] != '[')
        return 0;
    for (; at < length && bytes[at] >= '0' && bytes[at] <= '9'; at++, given = 1)
        number = 10 * number + (bytes[at] - '0');
    int distance = given ? number : 1;
    if (at == length || (given && number == 0))
        return 0;
    screen->wraps = 0;
    switch (bytes[at]) {
    case 'A':
        screen->row = screen->row > distance ? screen->row - distance : 0;
        break;
    case 'C':
        screen->column = screen->column + distance < screen->columns ? screen->column + distance : screen->columns - 1;
        break;
    case 'H':
        screen->row = screen->column = 0;
        break;
    case 'J':
        if (number == 2)
            clear_from(screen, 0, 0);
        else
            clear_from(screen, screen->row, screen->column);
        break;
    default:
        return 0;
    }
    return at + 1;
}

void screen_write(struct screen *screen, const void *data, size_t length)
{
    const char *bytes = data;
    while (length > 0 && !screen->problem) {
        uint32_t code_point = 0;
        size_t size = utf8_decode(bytes, length, &code_point);
        if (code_point == 0x1B) {
            size = control(screen, bytes, length);
        } else if (code_point == '\r') {
            screen->column = screen->wraps = 0;
        } else if (code_point == '\n') {
            line_feed(screen);
        } else if (size > 0 && code_point >= 0x20 && code_point != 0x7F) {
            print(screen, bytes, size, code_point);
        } else {
            size = 0;
        }
        if (size == 0)
            screen->problem = "a control sequence that the screen does not know, or no UTF-8";
        bytes += size;
        length -= size;
    }
}

void screen_row(const struct screen *screen, int row, char *text, size_t capacity)
{
    size_t length = 0;
    int last = screen->columns;
    while (last > 0 && screen->widths[row][last - 1] == 0 &&
           !(last > 1 && screen->widths[row][last - 2] == 2))
        last--;
    for (int column = 0; column < last; column++) {
        const char *cell = screen->widths[row][column] ? screen->cells[row][column] : " ";
        if (screen->widths[row][column] == 0 && column > 0 && screen->widths[row][column - 1] == 2)
            cell = "";
        length += (size_t)snprintf(text + length, capacity - length, "%s", cell);
        if (length >= capacity)
            return;
    }
    while (length > 0 && text[length - 1] == ' ')
        length--;
    text[length] = 0;
}
