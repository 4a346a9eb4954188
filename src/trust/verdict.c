#include "trust/verdict.h"

#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_CAPACITY = 64, LONGEST_TEXT = 2000 };

void verdict_free(struct verdict *verdict)
{
    arena_free(&verdict->arena);
    *verdict = (struct verdict){0};
}

static const char *format_text(struct verdict *verdict, const char *format, va_list arguments)
{
    char text[LONGEST_TEXT];
    int length = vsnprintf(text, sizeof text, format, arguments);
    if (length < 0)
        length = 0;
    return arena_copy_text(&verdict->arena, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1,
                           &verdict->error);
}

static bulla_check *new_check(struct verdict *verdict)
{
    if (verdict->count == verdict->capacity) {
        size_t capacity = verdict->capacity ? 2 * verdict->capacity : FIRST_CAPACITY;
        bulla_check *checks = arena_alloc(&verdict->arena, capacity, sizeof *checks, &verdict->error);
        if (!checks)
            return &verdict->lost;
        if (verdict->count)
            memcpy(checks, verdict->checks, verdict->count * sizeof *checks);
        verdict->checks = checks;
        verdict->capacity = capacity;
    }
    return &verdict->checks[verdict->count++];
}

static int state(struct verdict *verdict, const char *name, int holds, const char *found, const char *expected)
{
    *new_check(verdict) = (bulla_check){.state = holds ? BULLA_CHECK_PASSED : BULLA_CHECK_FAILED, .name = name, .found = found,
                                         .expected = expected};
    return holds;
}

int verdict_holds(struct verdict *verdict, const char *name, int holds, const char *expected, const char *found, ...)
{
    va_list arguments;
    va_start(arguments, found);
    const char *text = format_text(verdict, found, arguments);
    va_end(arguments);
    const char *wanted = arena_copy_text(&verdict->arena, expected, strlen(expected), &verdict->error);
    return state(verdict, name, holds != 0, text, wanted);
}

int verdict_is(struct verdict *verdict, const char *name, int holds, const char *expected)
{
    return verdict_holds(verdict, name, holds, expected, "%s", holds ? "that" : "something else");
}

static const char *hex_text(struct verdict *verdict, const void *bytes, size_t length)
{
    char *text = arena_alloc(&verdict->arena, length + 1, 2, &verdict->error);
    if (text)
        hex_encode(bytes, length, text);
    return text;
}

int verdict_same_bytes(struct verdict *verdict, const char *name, const void *found, size_t found_length,
                       const void *expected, size_t expected_length)
{
    int holds = found && expected && found_length == expected_length && CRYPTO_memcmp(found, expected, found_length) == 0;
    return state(verdict, name, holds, found ? hex_text(verdict, found, found_length) : "nothing",
                 expected ? hex_text(verdict, expected, expected_length) : "nothing");
}

static const char *number_text(struct verdict *verdict, const char *before, uint64_t number)
{
    char text[64];
    int length = snprintf(text, sizeof text, "%s%llu", before, (unsigned long long)number);
    return arena_copy_text(&verdict->arena, text, (size_t)length, &verdict->error);
}

int verdict_same_number(struct verdict *verdict, const char *name, uint64_t found, uint64_t expected)
{
    return state(verdict, name, found == expected, number_text(verdict, "", found), number_text(verdict, "", expected));
}

int verdict_at_least(struct verdict *verdict, const char *name, uint64_t found, uint64_t least)
{
    return state(verdict, name, found >= least, number_text(verdict, "", found), number_text(verdict, "at least ", least));
}

int verdict_fails(struct verdict *verdict, const char *name, const char *found, ...)
{
    va_list arguments;
    va_start(arguments, found);
    const char *text = format_text(verdict, found, arguments);
    va_end(arguments);
    return state(verdict, name, 0, text, NULL);
}

void verdict_not_made(struct verdict *verdict, const char *name, const char *why, ...)
{
    va_list arguments;
    va_start(arguments, why);
    const char *text = format_text(verdict, why, arguments);
    va_end(arguments);
    *new_check(verdict) = (bulla_check){.state = BULLA_CHECK_NOT_MADE, .name = name, .found = text};
}

void verdict_advise(struct verdict *verdict, const char *advice, ...)
{
    va_list arguments;
    va_start(arguments, advice);
    const char *text = format_text(verdict, advice, arguments);
    va_end(arguments);
    if (verdict->count)
        verdict->checks[verdict->count - 1].advice = text;
}

int verdict_passed(const struct verdict *verdict)
{
    size_t made = 0;
    for (size_t i = 0; i < verdict->count; i++) {
        if (verdict->checks[i].state == BULLA_CHECK_FAILED)
            return 0;
        made += verdict->checks[i].state != BULLA_CHECK_NOT_MADE;
    }
    return made > 0 && !verdict->lacks && verdict->error.code == BULLA_OK;
}

const bulla_check *verdict_find(const struct verdict *verdict, const char *name)
{
    for (size_t i = verdict->count; i-- > 0;)
        if (strcmp(verdict->checks[i].name, name) == 0)
            return &verdict->checks[i];
    return NULL;
}
