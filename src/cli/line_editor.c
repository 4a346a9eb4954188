#include "cli/line_editor.h"

#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "cli/line_keys.h"
#include "cli/line_text.h"
#include "cli/line_view.h"

struct line_editor {
    struct buffer text; /* always NUL-terminated: it is never without memory after open */
    size_t cursor;
    struct buffer killed;
    struct buffer draft; /* the text that was being written when the history was entered */
    char **history;      /* oldest first */
    size_t history_count;
    size_t history_at; /* history_count: the draft */
    struct line_key_reader keys;
    struct line_view view;
    int changed; /* since it was drawn */
    bulla_error error;
};

struct line_editor *line_editor_open(const char *prompt, const char *continuation, bulla_error *error)
{
    struct line_editor *editor = memory_alloc(1, sizeof *editor, error);
    if (!editor)
        return NULL;
    editor->view.prompt = prompt;
    editor->view.continuation = continuation;
    buffer_append_byte(&editor->text, 0);
    editor->history = memory_alloc(LINE_HISTORY_LIMIT, sizeof *editor->history, error);
    int code = editor->text.error.code;
    if (code != BULLA_OK)
        bulla_fail(error, code, "%s", editor->text.error.text);
    if (code == BULLA_OK && editor->history && line_view_begin(&editor->view, 80, 24, error) == BULLA_OK) {
        buffer_clear(&editor->text);
        return editor;
    }
    line_editor_close(editor);
    return NULL;
}

void line_editor_close(struct line_editor *editor)
{
    if (!editor)
        return;
    for (size_t i = 0; i < editor->history_count; i++)
        memory_free(editor->history[i]);
    memory_free(editor->history);
    line_view_free(&editor->view);
    buffer_free(&editor->text);
    buffer_free(&editor->killed);
    buffer_free(&editor->draft);
    memory_free(editor);
}

static const char *text_of(const struct line_editor *editor)
{
    return editor->text.length ? (const char *)editor->text.data : "";
}

const char *line_editor_text(const struct line_editor *editor, size_t *length)
{
    *length = editor->text.length;
    return text_of(editor);
}

/* --- Changing the text --- */

static void set_text(struct line_editor *editor, const char *text, size_t length)
{
    buffer_clear(&editor->text);
    buffer_append(&editor->text, text, length);
    editor->cursor = editor->text.length;
    editor->changed = 1;
}

static void insert(struct line_editor *editor, const char *bytes, size_t length)
{
    struct buffer *text = &editor->text;
    if (text->length + length > LINE_TEXT_LIMIT || !buffer_extend(text, length))
        return;
    uint8_t *place = text->data + editor->cursor;
    memmove(place + length, place, text->length - length - editor->cursor);
    memcpy(place, bytes, length);
    editor->cursor += length;
    editor->changed = 1;
}

static void insert_code_point(struct line_editor *editor, uint32_t code_point)
{
    char bytes[4];
    insert(editor, bytes, utf8_encode(code_point, bytes));
}

static void remove_range(struct line_editor *editor, size_t from, size_t to)
{
    struct buffer *text = &editor->text;
    if (from >= to)
        return;
    memmove(text->data + from, text->data + to, text->length - to);
    buffer_cut(text, text->length - (to - from));
    editor->cursor = from;
    editor->changed = 1;
}

/* Removes and keeps for Ctrl-Y. */
static void kill_range(struct line_editor *editor, size_t from, size_t to)
{
    if (from >= to)
        return;
    buffer_clear(&editor->killed);
    buffer_append(&editor->killed, text_of(editor) + from, to - from);
    remove_range(editor, from, to);
}

static void kill_after(struct line_editor *editor)
{
    size_t end = line_text_line_end(text_of(editor), editor->text.length, editor->cursor);
    if (end == editor->cursor && end < editor->text.length)
        end++; /* at the end of a line its newline goes */
    kill_range(editor, editor->cursor, end);
}

/* --- Moving --- */

static void move(struct line_editor *editor, size_t to)
{
    editor->changed |= editor->cursor != to;
    editor->cursor = to;
}

static size_t character_before(const struct line_editor *editor)
{
    return editor->cursor ? line_text_previous(text_of(editor), editor->text.length, editor->cursor) : 0;
}

static size_t character_after(const struct line_editor *editor)
{
    return editor->cursor < editor->text.length ? line_text_next(text_of(editor), editor->text.length, editor->cursor)
                                                : editor->cursor;
}

static void enter_history(struct line_editor *editor, size_t at)
{
    if (at > editor->history_count)
        return;
    if (editor->history_at == editor->history_count) {
        buffer_clear(&editor->draft);
        buffer_append(&editor->draft, text_of(editor), editor->text.length);
    }
    editor->history_at = at;
    if (at < editor->history_count)
        set_text(editor, editor->history[at], strlen(editor->history[at]));
    else
        set_text(editor, editor->draft.length ? (const char *)editor->draft.data : "", editor->draft.length);
}

static void go_previous(struct line_editor *editor)
{
    if (editor->history_at > 0)
        enter_history(editor, editor->history_at - 1);
}

static void go_next(struct line_editor *editor)
{
    if (editor->history_at < editor->history_count)
        enter_history(editor, editor->history_at + 1);
}

/* One row up (-1) or down (+1); past the first or last row through the history. */
static void go_row(struct line_editor *editor, int direction)
{
    struct line_layout layout;
    if (line_view_layout(&editor->view, text_of(editor), editor->text.length, editor->cursor, &layout,
                         &editor->error) != BULLA_OK)
        return;
    int leaves = direction < 0 ? layout.cursor_row == 0 : layout.cursor_row + 1 == layout.count;
    if (!leaves)
        move(editor, line_layout_find(&layout, text_of(editor), layout.cursor_row + (size_t)(ptrdiff_t)direction,
                                      layout.cursor_column));
    line_layout_free(&layout);
    if (leaves && direction < 0)
        go_previous(editor);
    else if (leaves)
        go_next(editor);
}

int line_editor_remember(struct line_editor *editor, const char *text, size_t length, bulla_error *error)
{
    size_t count = editor->history_count;
    if (count > 0 && strlen(editor->history[count - 1]) == length &&
        memcmp(editor->history[count - 1], text, length) == 0)
        return BULLA_OK;
    char *copy = memory_copy_text(text, length, error);
    if (!copy)
        return BULLA_E_MEMORY;
    if (count == LINE_HISTORY_LIMIT) {
        memory_free(editor->history[0]);
        memmove(editor->history, editor->history + 1, (count - 1) * sizeof *editor->history);
        count--;
    }
    editor->history[count] = copy;
    editor->history_count = editor->history_at = count + 1;
    return BULLA_OK;
}

/* --- Drawing --- */

static enum line_event draw(struct line_editor *editor, int whole, struct buffer *out)
{
    bulla_error *errors[] = {&editor->error, &editor->text.error, &editor->killed.error, &editor->draft.error};
    line_view_draw(&editor->view, text_of(editor), editor->text.length, editor->cursor, whole, out, &editor->error);
    editor->changed = 0;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i]->code != BULLA_OK) {
            bulla_fail(&out->error, errors[i]->code, "%s", errors[i]->text);
            return LINE_FAILED;
        }
    return LINE_MORE;
}

void line_editor_begin(struct line_editor *editor, int columns, int rows, struct buffer *out)
{
    set_text(editor, "", 0);
    editor->history_at = editor->history_count;
    line_view_begin(&editor->view, columns, rows, &editor->error);
    draw(editor, 0, out);
}

void line_editor_resize(struct line_editor *editor, int columns, int rows, struct buffer *out)
{
    line_view_resize(&editor->view, columns, rows, &editor->error);
    draw(editor, 0, out);
}

void line_editor_redraw(struct line_editor *editor, struct buffer *out)
{
    line_view_begin(&editor->view, editor->view.columns, editor->view.rows, &editor->error);
    draw(editor, 0, out);
}

/* Leaves all of the text on the screen and the cursor on the line after it. */
static enum line_event leave(struct line_editor *editor, enum line_event event, const char *mark, struct buffer *out)
{
    editor->cursor = editor->text.length;
    if (draw(editor, 1, out) == LINE_FAILED)
        return LINE_FAILED;
    buffer_append_text(out, mark);
    buffer_append_text(out, "\r\n");
    return event;
}

static void clear_screen(struct line_editor *editor, struct buffer *out)
{
    buffer_append_text(out, "\x1b[H\x1b[2J");
    line_editor_redraw(editor, out);
}

/* --- Keys --- */

/* Keys that change the text or the cursor only. */
static void apply(struct line_editor *editor, enum line_key key, uint32_t code_point)
{
    const char *text = text_of(editor);
    size_t length = editor->text.length, cursor = editor->cursor;
    switch ((int)key) {
    case LINE_KEY_CHARACTER: insert_code_point(editor, code_point); break;
    case LINE_KEY_LEFT: move(editor, character_before(editor)); break;
    case LINE_KEY_RIGHT: move(editor, character_after(editor)); break;
    case LINE_KEY_UP: go_row(editor, -1); break;
    case LINE_KEY_DOWN: go_row(editor, 1); break;
    case LINE_KEY_PREVIOUS: go_previous(editor); break;
    case LINE_KEY_NEXT: go_next(editor); break;
    case LINE_KEY_HOME: move(editor, line_text_line_start(text, cursor)); break;
    case LINE_KEY_END: move(editor, line_text_line_end(text, length, cursor)); break;
    case LINE_KEY_WORD_LEFT: move(editor, line_text_word_before(text, length, cursor)); break;
    case LINE_KEY_WORD_RIGHT: move(editor, line_text_word_after(text, length, cursor)); break;
    case LINE_KEY_BACKSPACE: remove_range(editor, character_before(editor), cursor); break;
    case LINE_KEY_DELETE:
    case LINE_KEY_DELETE_OR_END: {
        size_t end = character_after(editor);
        remove_range(editor, cursor, end);
        break;
    }
    case LINE_KEY_KILL_WORD: kill_range(editor, line_text_word_before(text, length, cursor), cursor); break;
    case LINE_KEY_KILL_WORD_AFTER: kill_range(editor, cursor, line_text_word_after(text, length, cursor)); break;
    case LINE_KEY_KILL_BEFORE: kill_range(editor, line_text_line_start(text, cursor), cursor); break;
    case LINE_KEY_KILL_AFTER: kill_after(editor); break;
    case LINE_KEY_YANK:
        if (editor->killed.length)
            insert(editor, (const char *)editor->killed.data, editor->killed.length);
        break;
    }
}

static enum line_event press(struct line_editor *editor, enum line_key key, uint32_t code_point, struct buffer *out)
{
    switch ((int)key) {
    case LINE_KEY_ENTER:
        return leave(editor, LINE_DONE, "", out);
    case LINE_KEY_INTERRUPT:
        return leave(editor, LINE_INTERRUPT, "^C", out);
    case LINE_KEY_SUSPEND:
        return leave(editor, LINE_SUSPEND, "", out);
    case LINE_KEY_DELETE_OR_END:
        if (editor->text.length == 0)
            return leave(editor, LINE_END, "", out);
        break;
    case LINE_KEY_CLEAR:
        clear_screen(editor, out);
        return LINE_MORE;
    }
    apply(editor, key, code_point);
    return LINE_MORE;
}

/* Typing at the end of a row needs no more than the character itself. */
static int append_simply(struct line_editor *editor, enum line_key key, uint32_t code_point, struct buffer *out)
{
    char bytes[4];
    if (key != LINE_KEY_CHARACTER || code_point < 0x20 || code_point == 0x7F || editor->changed ||
        editor->cursor != editor->text.length)
        return 0;
    size_t size = utf8_encode(code_point, bytes);
    int width = line_text_width(bytes, 0, size, editor->view.cursor_column);
    if (width <= 0 || editor->view.cursor_column + width >= editor->view.columns ||
        !line_text_starts_character(text_of(editor), editor->text.length, code_point))
        return 0;
    insert(editor, bytes, size);
    if (!editor->changed)
        return 1; /* the text is full */
    editor->changed = 0;
    buffer_append(out, bytes, size);
    editor->view.cursor_column += width;
    editor->view.drawn[editor->view.cursor_row] += width;
    return 1;
}

enum line_event line_editor_feed(struct line_editor *editor, const uint8_t *bytes, size_t length, size_t *used,
                                 struct buffer *out)
{
    enum line_event event = LINE_MORE;
    for (*used = 0; *used < length && event == LINE_MORE;) {
        uint32_t code_point = 0;
        enum line_key key = line_keys_push(&editor->keys, bytes[(*used)++], &code_point);
        if (key != LINE_KEY_NONE && !append_simply(editor, key, code_point, out))
            event = press(editor, key, code_point, out);
    }
    if (event == LINE_MORE && editor->changed)
        event = draw(editor, 0, out);
    if (event == LINE_MORE && (editor->text.error.code != BULLA_OK || out->error.code != BULLA_OK))
        event = draw(editor, 0, out);
    return event;
}

int line_editor_waiting(const struct line_editor *editor)
{
    return line_keys_waiting(&editor->keys);
}

void line_editor_expire(struct line_editor *editor)
{
    line_keys_expire(&editor->keys);
}
