/* A line editor for terminals: text of one or more lines, moved through and
 * changed by keys, with a history. It knows no terminal: it is fed the bytes
 * that were typed and appends the bytes that draw to a buffer, so that a test
 * can look at a screen of its own.
 *
 * Keys: arrows, Home, End, Delete; Ctrl-A E B F start, end, back, forward; Ctrl-P N
 * history; Ctrl-K U W kill to the end, to the start, a word; Ctrl-Y what was killed;
 * Ctrl-L clears the screen; Alt-B F D by words; Ctrl-J or Alt-Enter a new line;
 * Ctrl-D deletes, or ends the input where there is no text. Up and down go through
 * rows first and through the history at their end. */
#ifndef CLI_LINE_EDITOR_H
#define CLI_LINE_EDITOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

struct line_editor;

enum line_event {
    LINE_MORE,      /* nothing to do */
    LINE_DONE,      /* Enter: the text is line_editor_text */
    LINE_INTERRUPT, /* Ctrl-C: text that was there (`line_editor_text`) was given up */
    LINE_END,       /* Ctrl-D without text */
    LINE_SUSPEND,   /* Ctrl-Z: call line_editor_redraw afterwards */
    LINE_FAILED     /* memory is short: `out` or the text could not grow */
};

enum { LINE_TEXT_LIMIT = 1 << 20, LINE_HISTORY_LIMIT = 1000 };

/* NULL with the error recorded when memory is short. `prompt` stands before the first line, `continuation`
 * before those that follow; both must outlive the editor. */
struct line_editor *line_editor_open(const char *prompt, const char *continuation, bulla_error *error);
void line_editor_close(struct line_editor *editor); /* NULL is fine */

/* Starts with an empty text on an empty line of a terminal of that size. */
void line_editor_begin(struct line_editor *editor, int columns, int rows, struct buffer *out);
/* Takes bytes until an event other than LINE_MORE or the end; *used of them are taken. */
enum line_event line_editor_feed(struct line_editor *editor, const uint8_t *bytes, size_t length, size_t *used,
                                 struct buffer *out);
/* After LINE_DONE: UTF-8, NUL-terminated, valid until the next call on this editor. */
const char *line_editor_text(const struct line_editor *editor, size_t *length);

/* The terminal has another size. */
void line_editor_resize(struct line_editor *editor, int columns, int rows, struct buffer *out);
/* The cursor stands at the start of an empty line: draws all of it. */
void line_editor_redraw(struct line_editor *editor, struct buffer *out);
/* As line_keys_waiting and line_keys_expire. */
int line_editor_waiting(const struct line_editor *editor);
void line_editor_expire(struct line_editor *editor);

/* Adds a text to the history, unless it is the last one there. */
int line_editor_remember(struct line_editor *editor, const char *text, size_t length, bulla_error *error);

#endif
