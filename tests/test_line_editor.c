/* The line editor on a screen in memory: what is typed against what is seen. */
#include "test.h"

#include "base/memory.h"
#include "cli/line_editor.h"
#include "cli/line_keys.h"
#include "cli/line_text.h"
#include "screen.h"

#define LEFT "\x1b[D"
#define RIGHT "\x1b[C"
#define UP "\x1b[A"
#define DOWN "\x1b[B"
#define PASTE(text) "\x1b[200~" text "\x1b[201~"
#define FAMILY "\U0001F468\u200D\U0001F469\u200D\U0001F467"

struct desk {
    struct line_editor *editor;
    struct screen screen;
    struct buffer drawing;
};

static void show(struct desk *desk)
{
    assert_int_equal(desk->drawing.error.code, BULLA_OK);
    screen_write(&desk->screen, desk->drawing.data, desk->drawing.length);
    assert_null(desk->screen.problem);
    buffer_clear(&desk->drawing);
}

static void sit(struct desk *desk, int rows, int columns)
{
    bulla_error error = {0};
    memset(desk, 0, sizeof *desk);
    desk->editor = line_editor_open("> ", ". ", &error);
    assert_non_null(desk->editor);
    screen_begin(&desk->screen, rows, columns);
    line_editor_begin(desk->editor, columns, rows, &desk->drawing);
    show(desk);
}

static void rise(struct desk *desk)
{
    line_editor_close(desk->editor);
    buffer_free(&desk->drawing);
}

/* Types all of it; the last event. */
static enum line_event type_bytes(struct desk *desk, const char *bytes, size_t length)
{
    enum line_event event = LINE_MORE;
    for (size_t at = 0; at < length;) {
        size_t used;
        event = line_editor_feed(desk->editor, (const uint8_t *)bytes + at, length - at, &used, &desk->drawing);
        assert_true(used > 0);
        at += used;
        show(desk);
    }
    return event;
}

static enum line_event type(struct desk *desk, const char *keys)
{
    return type_bytes(desk, keys, strlen(keys));
}

static void assert_row(const struct desk *desk, int row, const char *expected)
{
    char text[4096];
    screen_row(&desk->screen, row, text, sizeof text);
    assert_string_equal(text, expected);
}

static void assert_cursor(const struct desk *desk, int row, int column)
{
    assert_false(desk->screen.wraps);
    assert_int_equal(desk->screen.row, row);
    assert_int_equal(desk->screen.column, column);
}

static void assert_text(const struct desk *desk, const char *expected)
{
    size_t length;
    assert_string_equal(line_editor_text(desk->editor, &length), expected);
    assert_int_equal(length, strlen(expected));
}

static void typing_and_moving(void **state)
{
    struct desk desk;
    sit(&desk, 24, 80);
    assert_row(&desk, 0, ">");
    assert_cursor(&desk, 0, 2);
    type(&desk, "hello");
    assert_cursor(&desk, 0, 7);
    type(&desk, LEFT LEFT "L");
    assert_row(&desk, 0, "> helLlo");
    assert_cursor(&desk, 0, 6);
    type(&desk, "\x01" ">>");
    assert_row(&desk, 0, "> >>helLlo");
    assert_cursor(&desk, 0, 4);
    type(&desk, "\x05!" LEFT "\x1b[3~");
    assert_row(&desk, 0, "> >>helLlo");
    type(&desk, "\x1b[H\x1b[3~\x1b[3~\x1b[F\x7f\x08");
    assert_row(&desk, 0, "> helL");
    type(&desk, "\x02\x02\x06" "x\x1bOD\x1bOC");
    assert_text(&desk, "helxL");
    assert_int_equal(type(&desk, "\r"), LINE_DONE);
    assert_text(&desk, "helxL");
    assert_cursor(&desk, 1, 0);
    assert_row(&desk, 0, "> helxL");
    rise(&desk);
}

static void words_and_kills(void **state)
{
    struct desk desk;
    sit(&desk, 24, 80);
    type(&desk, "one two  three");
    type(&desk, "\x17");
    assert_text(&desk, "one two  ");
    type(&desk, "\x17");
    assert_text(&desk, "one ");
    type(&desk, "\x19\x19");
    assert_text(&desk, "one two  two  ");
    type(&desk, "\x1b" "b\x1b" "b\x0b");
    assert_text(&desk, "one ");
    type(&desk, "\x15");
    assert_text(&desk, "");
    assert_row(&desk, 0, ">");
    type(&desk, "\x19");
    assert_text(&desk, "one ");
    type(&desk, "\x01\x1b[1;5C" "X\x1b[1;5D" "Y\x1b" "d");
    assert_text(&desk, "Y ");
    type(&desk, "\x05\x15" "a\x0a" "b\x01" "\x15");
    assert_text(&desk, "a\nb");
    type(&desk, UP "\x05\x0b");
    assert_text(&desk, "ab");
    rise(&desk);
}

static void wide_characters(void **state)
{
    struct desk desk;
    sit(&desk, 24, 80);
    type(&desk, "你好吗");
    assert_cursor(&desk, 0, 8);
    type(&desk, LEFT);
    assert_cursor(&desk, 0, 6);
    type(&desk, "a");
    assert_row(&desk, 0, "> 你好a吗");
    assert_cursor(&desk, 0, 7);
    type(&desk, "\x7f\x7f");
    assert_row(&desk, 0, "> 你吗");
    assert_cursor(&desk, 0, 4);
    type(&desk, "\x15\x0b" "e\u0301e");
    assert_cursor(&desk, 0, 4);
    type(&desk, LEFT LEFT "x");
    assert_text(&desk, "xe\u0301e");
    type(&desk, "\x1b[3~");
    assert_text(&desk, "xe");
    type(&desk, "\x05" FAMILY "\U0001F1E9\U0001F1EA");
    type(&desk, "\x7f");
    assert_text(&desk, "xe" FAMILY);
    type(&desk, "\x7f");
    assert_text(&desk, "xe");
    assert_cursor(&desk, 0, 4);
    rise(&desk);
}

static void bytes_that_are_no_text(void **state)
{
    struct desk desk;
    sit(&desk, 24, 80);
    type(&desk, "a\xff" "b\xe4\xbd" "c\xc0\x80" "d");
    assert_text(&desk, "a\uFFFD" "bc\uFFFD\uFFFD" "d");
    type(&desk, "\x15" "\xc2\x9b" "31m\x1b[99999999999999999999999999999999999999999999;;;m\x1b[?1;2c\x1bZ");
    assert_text(&desk, "31m");
    type(&desk, "\x15" "x\x1b");
    assert_true(line_editor_waiting(desk.editor));
    line_editor_expire(desk.editor);
    assert_false(line_editor_waiting(desk.editor));
    type(&desk, "b");
    assert_text(&desk, "xb");
    type_bytes(&desk, "\x15z\x00\x1c\x1d", 5);
    assert_text(&desk, "z");
    rise(&desk);
}

static void wrapping(void **state)
{
    struct desk desk;
    sit(&desk, 10, 10);
    type(&desk, "12345678");
    assert_row(&desk, 0, "> 12345678");
    assert_cursor(&desk, 1, 0);
    type(&desk, "9");
    assert_row(&desk, 1, "9");
    assert_cursor(&desk, 1, 1);
    type(&desk, LEFT LEFT);
    assert_cursor(&desk, 0, 9);
    type(&desk, "好");
    assert_row(&desk, 0, "> 1234567");
    assert_row(&desk, 1, "好89");
    assert_cursor(&desk, 1, 2);
    type(&desk, UP);
    assert_cursor(&desk, 0, 2);
    type(&desk, "\x05" DOWN);
    assert_cursor(&desk, 1, 4);
    type(&desk, "\x15");
    assert_text(&desk, "");
    assert_row(&desk, 0, ">");
    assert_row(&desk, 1, "");
    type(&desk, "1\t2");
    assert_row(&desk, 0, "> 1     2");
    rise(&desk);
}

static void pasting(void **state)
{
    struct desk desk;
    sit(&desk, 24, 80);
    type(&desk, "a" PASTE("x\r\ny\rz\n\x01\x03\tq\x1b[31m") "b");
    assert_text(&desk, "ax\ny\nz\n\tqb");
    assert_row(&desk, 0, "> ax");
    assert_row(&desk, 1, ". y");
    assert_row(&desk, 2, ". z");
    assert_row(&desk, 3, ".       qb");
    assert_cursor(&desk, 3, 10);
    type(&desk, UP UP UP "\x01!");
    assert_text(&desk, "!ax\ny\nz\n\tqb");
    assert_int_equal(type(&desk, "\r"), LINE_DONE);
    assert_cursor(&desk, 4, 0);
    rise(&desk);
    sit(&desk, 24, 80);
    type(&desk, "one\x1b\rtwo\nthree");
    assert_text(&desk, "one\ntwo\nthree");
    rise(&desk);
}

static void enter(struct desk *desk, const char *line)
{
    size_t length;
    bulla_error error = {0};
    assert_int_equal(type(desk, line), LINE_MORE);
    assert_int_equal(type(desk, "\r"), LINE_DONE);
    const char *text = line_editor_text(desk->editor, &length);
    assert_ok(line_editor_remember(desk->editor, text, length, &error), error);
    line_editor_begin(desk->editor, desk->screen.columns, desk->screen.rows, &desk->drawing);
    show(desk);
}

static void history(void **state)
{
    struct desk desk;
    sit(&desk, 24, 80);
    type(&desk, UP DOWN "\x10\x0e");
    assert_text(&desk, "");
    type(&desk, "\x15");
    enter(&desk, "first");
    enter(&desk, "second\nwith two");
    enter(&desk, "second\nwith two"); /* is kept once */
    type(&desk, "draft" UP);
    assert_text(&desk, "second\nwith two");
    type(&desk, UP);
    assert_text(&desk, "second\nwith two"); /* went a row up */
    type(&desk, UP);
    assert_text(&desk, "first");
    type(&desk, UP "\x10");
    assert_text(&desk, "first");
    type(&desk, "\x0e");
    assert_text(&desk, "second\nwith two");
    type(&desk, DOWN);
    assert_text(&desk, "draft");
    type(&desk, DOWN);
    assert_text(&desk, "draft");
    rise(&desk);
}

static void history_has_an_end(void **state)
{
    struct desk desk;
    bulla_error error = {0};
    sit(&desk, 24, 80);
    for (int i = 0; i < LINE_HISTORY_LIMIT + 5; i++) {
        char line[16];
        int length = snprintf(line, sizeof line, "line %d", i);
        assert_ok(line_editor_remember(desk.editor, line, (size_t)length, &error), error);
    }
    for (int i = 0; i < LINE_HISTORY_LIMIT + 5; i++)
        type(&desk, UP);
    assert_text(&desk, "line 5");
    rise(&desk);
}

static void events(void **state)
{
    struct desk desk;
    sit(&desk, 24, 80);
    assert_int_equal(type(&desk, "ab\x03"), LINE_INTERRUPT);
    assert_text(&desk, "ab");
    assert_row(&desk, 0, "> ab^C");
    line_editor_begin(desk.editor, 80, 24, &desk.drawing);
    show(&desk);
    assert_row(&desk, 1, ">");
    assert_int_equal(type(&desk, "ab\x01\x04"), LINE_MORE);
    assert_text(&desk, "b");
    assert_int_equal(type(&desk, "\x04"), LINE_MORE);
    assert_int_equal(type(&desk, "\x04"), LINE_END);
    line_editor_begin(desk.editor, 80, 24, &desk.drawing);
    assert_int_equal(type(&desk, "stay\x1a"), LINE_SUSPEND);
    line_editor_redraw(desk.editor, &desk.drawing);
    show(&desk);
    assert_row(&desk, desk.screen.row, "> stay");
    type(&desk, "\x0c");
    assert_row(&desk, 0, "> stay");
    assert_cursor(&desk, 0, 6);
    rise(&desk);
}

static void higher_than_the_screen(void **state)
{
    struct desk desk;
    sit(&desk, 4, 20);
    type(&desk, PASTE("1\n2\n3\n4\n5\n6"));
    assert_row(&desk, 0, ". 3");
    assert_row(&desk, 3, ". 6");
    assert_int_equal(desk.screen.scrolled, 0);
    type(&desk, UP UP UP UP UP "x");
    assert_row(&desk, 0, "> 1x");
    assert_row(&desk, 3, ". 4");
    assert_cursor(&desk, 0, 4);
    assert_int_equal(type(&desk, "\r"), LINE_DONE);
    assert_int_equal(desk.screen.scrolled, 3); /* all of it went by */
    assert_row(&desk, 2, ". 6");
    rise(&desk);
}

/* A terminal that breaks its rows anew when it gets narrower. */
static void resizing(void **state)
{
    struct desk desk;
    sit(&desk, 10, 40);
    type(&desk, "the quick brown fox jumps");
    struct screen narrow;
    screen_begin(&narrow, 10, 12);
    screen_write(&narrow, "> the quick brown fox jumps", 27);
    desk.screen = narrow;
    line_editor_resize(desk.editor, 12, 10, &desk.drawing);
    show(&desk);
    assert_row(&desk, 0, "> the quick");
    assert_row(&desk, 1, "brown fox ju");
    assert_row(&desk, 2, "mps");
    assert_row(&desk, 3, "");
    assert_cursor(&desk, 2, 3);
    desk.screen.columns = 30; /* rows that were broken by the editor stay */
    line_editor_resize(desk.editor, 30, 10, &desk.drawing);
    show(&desk);
    assert_row(&desk, 0, "> the quick brown fox jumps");
    assert_row(&desk, 1, "");
    line_editor_resize(desk.editor, 1, 1, &desk.drawing); /* nothing is shown well; nothing breaks */
    buffer_clear(&desk.drawing);
    rise(&desk);
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static const char *const pieces[] = {
    "a", "b ", "你", "é", "e\u0301", FAMILY, "\U0001F1E9\U0001F1EA", "\t", "\n", LEFT, RIGHT, UP, DOWN, "\x01", "\x05",
    "\x0b", "\x15", "\x17", "\x19", "\x7f", "\x1b" "b", "\x1b" "f", "\x1b[3~", PASTE("p\r\nq"), "\xff", "\x10",
    "\x0e", "word word", "\x02", "\x06", "\u200D", "\u0301",
};

/* Whatever was typed, the screen shows what a fresh drawing of the same text shows, and the bytes may come
 * in any pieces. */
static void random_keys(void **state)
{
    uint64_t seed = 1;
    for (int round = 0; round < 60; round++) {
        struct desk desk, bytewise;
        int columns = 8 + (int)(next_random(&seed) % 40), rows = 2 + (int)(next_random(&seed) % 20);
        sit(&desk, rows, columns);
        sit(&bytewise, rows, columns);
        for (int i = 0; i < 150; i++) {
            const char *keys = pieces[next_random(&seed) % (sizeof pieces / sizeof pieces[0])];
            if (type(&desk, keys) == LINE_END)
                fail_msg("keys %d of round %d ended the input", i, round);
            for (const char *key = keys; *key; key++)
                type_bytes(&bytewise, key, 1);
            struct desk fresh = {.editor = desk.editor};
            screen_begin(&fresh.screen, rows, columns);
            assert_int_equal(desk.screen.scrolled, 0);
            /* Both were drawn from row 0, so that all of the screen must be equal. */
            line_editor_redraw(desk.editor, &fresh.drawing);
            show(&fresh);
            for (int row = 0; row < rows; row++) {
                char expected[4096];
                screen_row(&fresh.screen, row, expected, sizeof expected);
                assert_row(&desk, row, expected);
                assert_row(&bytewise, row, expected);
            }
            assert_cursor(&desk, fresh.screen.row, fresh.screen.column);
            assert_cursor(&bytewise, fresh.screen.row, fresh.screen.column);
            buffer_free(&fresh.drawing);
        }
        rise(&desk);
        rise(&bytewise);
    }
}

static void text_has_a_limit(void **state)
{
    struct desk desk;
    sit(&desk, 24, 80);
    char *much = memory_alloc(LINE_TEXT_LIMIT + 100, 1, NULL);
    assert_non_null(much);
    memset(much, 'x', LINE_TEXT_LIMIT + 100);
    type_bytes(&desk, PASTE(""), strlen(PASTE("")));
    type_bytes(&desk, much, LINE_TEXT_LIMIT + 100);
    size_t length;
    line_editor_text(desk.editor, &length);
    assert_int_equal(length, LINE_TEXT_LIMIT);
    type(&desk, "\x7f" "yz");
    assert_int_equal(line_editor_text(desk.editor, &length)[LINE_TEXT_LIMIT - 1], 'y');
    memory_free(much);
    rise(&desk);
}

/* Some typing; whether memory was short. */
static int typing_fails(void)
{
    static const char keys[] = "hello" PASTE("a\nb\nc") "\x15\x19" UP UP UP "wide 你好" "\x17" DOWN;
    bulla_error error = {0};
    struct buffer drawing = {0};
    struct line_editor *editor = line_editor_open("> ", ". ", &error);
    if (!editor) {
        assert_int_equal(error.code, BULLA_E_MEMORY);
        return 1;
    }
    enum line_event event = LINE_MORE;
    line_editor_begin(editor, 20, 5, &drawing);
    int failed = line_editor_remember(editor, "before", 6, &error) != BULLA_OK;
    for (size_t at = 0; at < sizeof keys - 1 && event == LINE_MORE && !failed;) {
        size_t used;
        event = line_editor_feed(editor, (const uint8_t *)keys + at, sizeof keys - 1 - at, &used, &drawing);
        at += used;
    }
    failed |= event == LINE_FAILED || drawing.error.code != BULLA_OK;
    line_editor_close(editor);
    buffer_free(&drawing);
    return failed;
}

static void memory_runs_short(void **state)
{
    uint64_t before = memory_allocation_count();
    assert_false(typing_fails());
    uint64_t count = memory_allocation_count() - before;
    assert_true(count > 5);
    for (uint64_t n = 1; n <= count; n++) {
        memory_inject_failure(n, 1);
        int failed = typing_fails();
        memory_inject_failure(0, 0);
        assert_true(failed);
    }
}

static void characters(void **state)
{
    const char *text = "a\u0301\nb" FAMILY "c";
    size_t length = strlen(text);
    assert_int_equal(line_text_next(text, length, 0), 3);
    assert_int_equal(line_text_previous(text, length, 3), 0);
    assert_int_equal(line_text_previous(text, length, 4), 3);
    assert_int_equal(line_text_next(text, length, 5), length - 1);
    assert_int_equal(line_text_previous(text, length, length - 1), 5);
    assert_int_equal(line_text_line_start(text, 7), 4);
    assert_int_equal(line_text_line_end(text, length, 0), 3);
    assert_int_equal(line_text_width("\t", 0, 1, 2), 6);
    assert_int_equal(line_text_width("好\xff", 0, 4, 0), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters),
        cmocka_unit_test(typing_and_moving),
        cmocka_unit_test(words_and_kills),
        cmocka_unit_test(wide_characters),
        cmocka_unit_test(bytes_that_are_no_text),
        cmocka_unit_test(wrapping),
        cmocka_unit_test(pasting),
        cmocka_unit_test(history),
        cmocka_unit_test(history_has_an_end),
        cmocka_unit_test(events),
        cmocka_unit_test(higher_than_the_screen),
        cmocka_unit_test(resizing),
        cmocka_unit_test(random_keys),
        cmocka_unit_test(text_has_a_limit),
        cmocka_unit_test(memory_runs_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
