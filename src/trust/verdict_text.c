/* A verdict in words: lines for people, JSON for programs. */
#include "trust/verdict.h"

#include <string.h>

#include "base/json.h"

static const char *const state_names[] = {[BULLA_CHECK_PASSED] = "pass", [BULLA_CHECK_FAILED] = "fail", [BULLA_CHECK_NOT_MADE] = "not checked"};

/* What comes from outside may hold anything: on a terminal it stays one line. */
static void append_clean(struct buffer *out, const char *text)
{
    for (const char *at = text ? text : ""; *at; at++)
        buffer_append_byte(out, (unsigned char)*at < ' ' || *at == 0x7f ? '?' : (uint8_t)*at);
}

void verdict_write_text(const struct verdict *verdict, struct buffer *out)
{
    for (size_t i = 0; i < verdict->count; i++) {
        const bulla_check *check = &verdict->checks[i];
        buffer_append_format(out, "%-11s %s", state_names[check->state], check->name);
        if (check->found) {
            buffer_append_text(out, check->state == BULLA_CHECK_NOT_MADE ? ": " : ": found ");
            append_clean(out, check->found);
        }
        if (check->expected && check->state == BULLA_CHECK_FAILED) {
            buffer_append_text(out, ", expected ");
            append_clean(out, check->expected);
        }
        buffer_append_byte(out, '\n');
        if (check->advice) {
            buffer_append_text(out, "            ");
            append_clean(out, check->advice);
            buffer_append_byte(out, '\n');
        }
    }
}

static void append_member(struct buffer *out, const char *name, const char *text)
{
    buffer_append_format(out, "\"%s\":", name);
    if (text)
        json_write_string(out, text, strlen(text));
    else
        buffer_append_text(out, "null");
}

void verdict_write_json(const struct verdict *verdict, struct buffer *out)
{
    buffer_append_text(out, "{\"checks\":[");
    for (size_t i = 0; i < verdict->count; i++) {
        const bulla_check *check = &verdict->checks[i];
        buffer_append_text(out, i ? ",{" : "{");
        append_member(out, "advice", check->advice);
        buffer_append_byte(out, ',');
        append_member(out, "expected", check->expected);
        buffer_append_byte(out, ',');
        append_member(out, "found", check->found);
        buffer_append_byte(out, ',');
        append_member(out, "name", check->name);
        buffer_append_byte(out, ',');
        append_member(out, "state", state_names[check->state]);
        buffer_append_byte(out, '}');
    }
    buffer_append_format(out, "],\"passed\":%s}", verdict_passed(verdict) ? "true" : "false");
}
