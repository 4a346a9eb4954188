/* The log: whole lines, in order, bounded; a sink that blocks, is full or is gone costs lines, never time. */
#define _GNU_SOURCE
#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "ops/log.h"

static char path[64];

static int make_path(void **state)
{
    (void)state;
    strcpy(path, "/tmp/bulla-test-log-XXXXXX");
    int descriptor = mkstemp(path);
    close(descriptor);
    return descriptor < 0 ? -1 : 0;
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static struct log *open_log(struct log_options options)
{
    bulla_error error = {0};
    struct log *log;
    assert_ok(log_open(&options, &log, &error), error);
    return log;
}

static void write_line(struct log *log, uint64_t number)
{
    struct log_line line;
    log_line_begin(&line, log, LOG_LEVEL_INFO, "test");
    log_line_number(&line, "number", number);
    log_line_end(&line);
}

/* Calls `each` with every line of `text`, parsed; returns how many there are. */
static size_t each_line(const char *text, size_t length, void (*each)(const struct json *line, void *context), void *context)
{
    size_t count = 0;
    for (size_t at = 0; at < length; count++) { /* a NUL follows the text */
        struct arena arena = {0};
        bulla_error error = {0};
        size_t line = strcspn(text + at, "\n");
        assert_int_equal(text[at + line], '\n'); /* no half line */
        struct json *value = json_parse(text + at, line, "line", &arena, &error);
        if (!value)
            fail_msg("%s: %.*s", error.text, (int)line, text + at);
        assert_true(json_is(json_get(value, "time"), JSON_STRING));
        assert_int_equal(json_get(value, "time")->length, 24);
        assert_true(json_is(json_get(value, "level"), JSON_STRING));
        if (each)
            each(value, context);
        arena_free(&arena);
        at += line + 1;
    }
    return count;
}

static char *read_all(size_t *length)
{
    bulla_error error = {0};
    uint8_t *data;
    assert_ok(file_read(path, 1 << 26, &data, length, &error), error);
    return (char *)data;
}

static void check_fields(const struct json *line, void *context)
{
    (void)context;
    assert_string_equal(json_get(line, "level")->text, "warning");
    assert_string_equal(json_get(line, "event")->text, "fields");
    assert_string_equal(json_get(line, "text")->text, "a\"b\\\n\x01");
    assert_null(json_get(line, "absent"));
    assert_int_equal(json_get(line, "long")->length, LOG_TEXT_BYTES - 1); /* cut before a character of two bytes */
    assert_string_equal(json_get(line, "broken")->text, "x\xEF\xBF\xBDy");
    assert_string_equal(json_get(line, "number")->text, "18446744073709551615");
    assert_string_equal(json_get(line, "seconds")->text, "12.000345");
    assert_int_equal(json_get(line, "flag")->type, JSON_TRUE);
}

static void test_fields(void **state)
{
    (void)state;
    char text[LOG_TEXT_BYTES + 10];
    memset(text, 'x', sizeof text);
    memcpy(text + LOG_TEXT_BYTES - 1, "\xC3\xA9", 2);
    text[sizeof text - 1] = 0;
    struct log *log = open_log((struct log_options){.path = path, .level = LOG_LEVEL_WARNING});
    struct log_line line;
    log_line_begin(&line, log, LOG_LEVEL_WARNING, "fields");
    log_line_text(&line, "text", "a\"b\\\n\x01");
    log_line_text(&line, "absent", NULL);
    log_line_text(&line, "long", text);
    log_line_text(&line, "broken", "x\xFFy");
    log_line_number(&line, "number", UINT64_MAX);
    log_line_seconds(&line, "seconds", UINT64_C(12000345999));
    log_line_bool(&line, "flag", 1);
    log_line_end(&line);
    write_line(log, 1); /* "info" is left out at this level */
    log_line_begin(&line, NULL, LOG_LEVEL_ERROR, "nowhere");
    log_line_text(&line, "text", "x");
    log_line_end(&line);
    assert_int_equal(log_dropped(log), 0);
    log_close(log, 5000);
    size_t length;
    char *data = read_all(&length);
    assert_int_equal(each_line(data, length, check_fields, NULL), 1);
    memory_free(data);
    assert_int_equal(log_level_parse("debug"), LOG_LEVEL_DEBUG);
    assert_int_equal(log_level_parse("loud"), -1);
    log_close(NULL, 0);
    truncate(path, 0);
}

struct sequence {
    uint64_t lines, missing, last;
};

/* Numbers rise, and a gap is what a notice has said. */
static void check_sequence(const struct json *line, void *context)
{
    struct sequence *sequence = context;
    if (strcmp(json_get(line, "event")->text, "log_dropped") == 0) {
        sequence->missing += (uint64_t)json_get(line, "lines")->integer;
        return;
    }
    uint64_t number = (uint64_t)json_get(line, "number")->integer;
    assert_int_equal(number, sequence->lines + sequence->missing + 1);
    sequence->lines++;
    sequence->last = number;
}

static void test_many(void **state)
{
    (void)state;
    enum { LINES = 20000 };
    struct log *log = open_log((struct log_options){.path = path, .level = LOG_LEVEL_INFO, .most_bytes = 4 << 20});
    for (uint64_t i = 1; i <= LINES; i++)
        write_line(log, i);
    log_close(log, 20000);
    struct sequence sequence = {0};
    size_t length;
    char *data = read_all(&length);
    assert_int_equal(each_line(data, length, check_sequence, &sequence), LINES);
    assert_int_equal(sequence.lines, LINES);
    memory_free(data);
    truncate(path, 0);
}

/* A pipe that nobody reads: the buffer fills, lines are dropped and counted, and what comes later says how many. */
static void test_blocked(void **state)
{
    (void)state;
    enum { LINES = 20000 };
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct log *log = open_log((struct log_options){.descriptor = ends[1], .level = LOG_LEVEL_INFO, .most_bytes = 8192});
    for (uint64_t i = 1; i <= LINES; i++)
        write_line(log, i);
    uint64_t dropped = log_dropped(log);
    assert_true(dropped > 0 && dropped < LINES);
    struct buffer read_back = {0};
    uint8_t piece[65536];
    struct sequence sequence = {0};
    for (uint64_t extra = 0; extra < 50; extra++) { /* the reader is back: lines get through again */
        struct pollfd wait = {.fd = ends[0], .events = POLLIN};
        while (poll(&wait, 1, extra == 0 ? 200 : 2) == 1)
            buffer_append(&read_back, piece, (size_t)read(ends[0], piece, sizeof piece));
        write_line(log, LINES + 1 + extra);
    }
    log_close(log, 20000);
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], piece, sizeof piece)) > 0;)
        buffer_append(&read_back, piece, (size_t)got);
    close(ends[0]);
    each_line((char *)read_back.data, read_back.length, check_sequence, &sequence);
    assert_int_equal(sequence.lines + sequence.missing, LINES + 50);
    assert_int_equal(sequence.last, LINES + 50);
    assert_true(sequence.missing >= dropped);
    buffer_free(&read_back);
}

/* A sink that takes nothing at all does not hold the server's end up. */
static void test_stuck_at_end(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct log *log = open_log((struct log_options){.descriptor = ends[1], .level = LOG_LEVEL_INFO, .most_bytes = 1 << 20});
    for (uint64_t i = 1; i <= 5000; i++)
        write_line(log, i);
    log_close(log, 50); /* returns, though the pipe is full */
    close(ends[0]);
    close(ends[1]);
    /* Nobody is at the other end: no signal, lines are dropped once the buffer is full. */
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    log = open_log((struct log_options){.descriptor = ends[1], .level = LOG_LEVEL_INFO, .most_bytes = 4096});
    for (uint64_t i = 1; i <= 5000; i++)
        write_line(log, i);
    assert_true(log_dropped(log) > 0);
    log_close(log, 50);
    close(ends[1]);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct log *log = open_log((struct log_options){.path = "/dev/full", .level = LOG_LEVEL_INFO, .most_bytes = 4096});
    for (uint64_t i = 1; i <= 5000; i++)
        write_line(log, i);
    assert_true(log_dropped(log) > 4000);
    log_close(log, 50);
}

static void test_reopen(void **state)
{
    (void)state;
    char moved[80];
    struct stat status;
    snprintf(moved, sizeof moved, "%s.1", path);
    struct log *log = open_log((struct log_options){.path = path, .level = LOG_LEVEL_INFO});
    write_line(log, 1);
    while (stat(path, &status) == 0 && status.st_size == 0)
        usleep(1000);
    assert_int_equal(rename(path, moved), 0);
    log_reopen(log);
    while (stat(path, &status) != 0)
        usleep(1000);
    write_line(log, 2);
    log_close(log, 5000);
    struct sequence sequence = {0};
    size_t length;
    char *data = read_all(&length);
    assert_non_null(strstr(data, "\"number\":2"));
    assert_int_equal(each_line(data, length, NULL, &sequence), 1);
    memory_free(data);
    assert_int_equal(unlink(moved), 0);
    truncate(path, 0);
}

static void test_failures(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct log *log;
    assert_int_equal(log_open(&(struct log_options){.path = "/nowhere/at/all"}, &log, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "/nowhere/at/all"));
    assert_null(log);
    for (uint64_t n = 1;; n++) {
        bulla_error_clear(&error);
        memory_inject_failure(n, 0);
        int code = log_open(&(struct log_options){.path = path, .level = LOG_LEVEL_INFO}, &log, &error);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK)
            break;
        assert_int_equal(code, BULLA_E_MEMORY);
        assert_null(log);
    }
    memory_inject_failure(1, 0);
    write_line(log, 1); /* dropped */
    memory_inject_failure(0, 0);
    assert_int_equal(log_dropped(log), 1);
    write_line(log, 2);
    log_close(log, 5000);
    struct sequence sequence = {0};
    size_t length;
    char *data = read_all(&length);
    assert_int_equal(each_line(data, length, check_sequence, &sequence), 2);
    assert_int_equal(sequence.missing, 1);
    memory_free(data);
    truncate(path, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields), cmocka_unit_test(test_many),      cmocka_unit_test(test_blocked),
        cmocka_unit_test(test_stuck_at_end), cmocka_unit_test(test_full_disk), cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
