#include "serve/tool_call.h"

#include <string.h>

#include "base/json.h"

enum { OPEN, KEY, KEY_TEXT, COLON, VALUE, NAME_TEXT, PASSED_OVER, ARGUMENTS, NEXT, ARGS_NAME, ARGS_OPEN };

static int is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* --- the end of a value --- */

static enum json_scan_step scan_open(struct json_scan *scan, int is_object)
{
    if (scan->depth == JSON_SCAN_DEPTH)
        return JSON_SCAN_BROKEN;
    uint8_t bit = (uint8_t)(1u << (scan->depth & 7)), *byte = &scan->is_object[scan->depth / 8];
    *byte = is_object ? *byte | bit : *byte & (uint8_t)~bit;
    scan->depth++;
    return JSON_SCAN_MORE;
}

static enum json_scan_step scan_close(struct json_scan *scan, int is_object)
{
    if (scan->depth == 0)
        return JSON_SCAN_AFTER; /* of a number, by the object that holds it */
    scan->depth--;
    if (((scan->is_object[scan->depth / 8] >> (scan->depth & 7)) & 1) != is_object)
        return JSON_SCAN_BROKEN;
    return scan->depth ? JSON_SCAN_MORE : JSON_SCAN_LAST;
}

static enum json_scan_step scan_string(struct json_scan *scan, char byte)
{
    if (scan->is_escaped)
        scan->is_escaped = 0;
    else if (byte == '\\')
        scan->is_escaped = 1;
    else if (byte == '"')
        scan->in_string = 0;
    return scan->in_string || scan->depth ? JSON_SCAN_MORE : JSON_SCAN_LAST;
}

enum json_scan_step json_scan_byte(struct json_scan *scan, char byte)
{
    if (scan->in_string)
        return scan_string(scan, byte);
    switch (byte) {
    case '"':
        scan->in_string = 1;
        return JSON_SCAN_MORE;
    case '{':
    case '[':
        return scan_open(scan, byte == '{');
    case '}':
    case ']':
        return scan_close(scan, byte == '}');
    case ',':
        return scan->depth ? JSON_SCAN_MORE : JSON_SCAN_AFTER;
    default:
        return is_blank(byte) && scan->depth == 0 ? JSON_SCAN_AFTER : JSON_SCAN_MORE;
    }
}

/* --- a call --- */

void tool_call_begin(struct tool_call *call, enum tool_call_form form)
{
    memset(call, 0, sizeof *call);
    call->form = form;
    call->state = form == TOOL_CALL_OBJECT ? OPEN : ARGS_NAME;
}

static enum tool_call_step go_on(struct tool_call *call, int state)
{
    call->state = state;
    return TOOL_CALL_MORE;
}

/* A byte of a string whose quotes are kept; *is_whole at its last one. */
static enum tool_call_step read_string(struct tool_call *call, char byte, int *is_whole)
{
    if (call->raw_length == sizeof call->raw)
        return TOOL_CALL_BROKEN;
    call->raw[call->raw_length++] = byte;
    *is_whole = json_scan_byte(&call->scan, byte) == JSON_SCAN_LAST;
    return TOOL_CALL_MORE;
}

static enum tool_call_step start_string(struct tool_call *call, char byte, int state)
{
    int is_whole;
    call->raw_length = 0;
    memset(&call->scan, 0, sizeof call->scan);
    read_string(call, byte, &is_whole);
    return go_on(call, state);
}

static int is_key(const struct tool_call *call, const char *key)
{
    size_t length = strlen(key);
    return call->raw_length == length + 2 && memcmp(call->raw + 1, key, length) == 0;
}

/* The name as JSON has it. An empty one, or one that is no JSON string, breaks the call. */
static int take_name(struct tool_call *call, enum tool_call_step *step, bulla_error *error)
{
    struct arena arena = {0};
    bulla_error own = {0};
    const struct json *value = json_parse(call->raw, call->raw_length, "name", &arena, &own);
    int code = own.code == BULLA_E_MEMORY ? bulla_fail(error, own.code, "%s", own.text) : BULLA_OK;
    int fits = value && value->length > 0 && value->length <= TOOL_MOST_NAME && !memchr(value->text, 0, value->length);
    if (fits) {
        memcpy(call->name, value->text, value->length + 1);
        call->name_length = value->length;
    }
    arena_free(&arena);
    *step = fits ? go_on(call, NEXT) : TOOL_CALL_BROKEN;
    return code;
}

static enum tool_call_step argument(struct tool_call *call, char byte)
{
    enum json_scan_step step = json_scan_byte(&call->scan, byte);
    if (step == JSON_SCAN_BROKEN)
        return TOOL_CALL_BROKEN;
    if (step == JSON_SCAN_LAST) {
        call->has_arguments = 1;
        call->state = NEXT;
    }
    if (call->has_begun)
        return step == JSON_SCAN_LAST && call->form == TOOL_CALL_ARGS ? TOOL_CALL_LAST : TOOL_CALL_ARGUMENT;
    call->arguments_length++;
    return TOOL_CALL_MORE;
}

static enum tool_call_step start_arguments(struct tool_call *call, char byte)
{
    if (byte != '{')
        return TOOL_CALL_BROKEN;
    memset(&call->scan, 0, sizeof call->scan);
    call->state = ARGUMENTS;
    call->has_begun = call->name_length > 0;
    call->arguments_at = call->read;
    return argument(call, byte);
}

static enum tool_call_step pass_over(struct tool_call *call, char byte)
{
    switch (json_scan_byte(&call->scan, byte)) {
    case JSON_SCAN_MORE:
        return TOOL_CALL_MORE;
    case JSON_SCAN_LAST:
        return go_on(call, NEXT);
    case JSON_SCAN_AFTER:
        if (is_blank(byte))
            return go_on(call, NEXT);
        if (byte == ',')
            return go_on(call, KEY);
        return byte == '}' && call->name_length ? TOOL_CALL_DONE : TOOL_CALL_BROKEN;
    default:
        return TOOL_CALL_BROKEN;
    }
}

static int is_passed_over(const struct tool_call *call)
{
    return !call->knows_all_keys || is_key(call, "name") || is_key(call, "arguments") || is_key(call, "parameters") ||
           is_key(call, "type") || is_key(call, "id");
}

/* The first byte of a member's value. */
static enum tool_call_step start_value(struct tool_call *call, char byte)
{
    if (byte == '}' || byte == ']' || byte == ',' || byte == ':')
        return TOOL_CALL_BROKEN;
    if (is_key(call, "name") && !call->name_length)
        return byte == '"' ? start_string(call, byte, NAME_TEXT) : TOOL_CALL_BROKEN;
    if ((is_key(call, "arguments") || is_key(call, "parameters")) && !call->has_arguments)
        return start_arguments(call, byte);
    if (!is_passed_over(call))
        return TOOL_CALL_BROKEN;
    memset(&call->scan, 0, sizeof call->scan);
    call->state = PASSED_OVER;
    return pass_over(call, byte);
}

/* The bytes between an object's strings and values. */
static enum tool_call_step read_object(struct tool_call *call, char byte)
{
    if (is_blank(byte))
        return TOOL_CALL_MORE;
    switch (call->state) {
    case OPEN:
        return byte == '{' ? go_on(call, KEY) : TOOL_CALL_BROKEN;
    case KEY:
        return byte == '"' ? start_string(call, byte, KEY_TEXT) : TOOL_CALL_BROKEN;
    case COLON:
        return byte == ':' ? go_on(call, VALUE) : TOOL_CALL_BROKEN;
    case VALUE:
        return start_value(call, byte);
    default: /* NEXT */
        if (byte == ',')
            return go_on(call, KEY);
        return byte == '}' && call->name_length ? TOOL_CALL_DONE : TOOL_CALL_BROKEN;
    }
}

static int ends_with(const struct tool_call *call, const char *text)
{
    size_t length = strlen(text);
    return call->raw_length >= length && memcmp(call->raw + call->raw_length - length, text, length) == 0;
}

/* A name as far as [ARGS]; [CALL_ID] and an id may stand between. */
static enum tool_call_step read_args_name(struct tool_call *call, char byte)
{
    if (call->raw_length == sizeof call->raw || (unsigned char)byte < ' ' || byte == '{' || byte == '"')
        return TOOL_CALL_BROKEN;
    call->raw[call->raw_length++] = byte;
    if (!call->name_length && byte == '[') {
        if (call->raw_length - 1 > TOOL_MOST_NAME || call->raw_length == 1)
            return TOOL_CALL_BROKEN;
        call->name_length = call->raw_length - 1;
        memcpy(call->name, call->raw, call->name_length);
    }
    if (ends_with(call, "[ARGS]"))
        return go_on(call, ARGS_OPEN);
    return TOOL_CALL_MORE;
}

int tool_call_byte(struct tool_call *call, char byte, enum tool_call_step *step, bulla_error *error)
{
    int is_whole = 0, code = BULLA_OK;
    switch (call->state) {
    case KEY_TEXT:
        *step = read_string(call, byte, &is_whole);
        if (is_whole)
            call->state = COLON;
        break;
    case NAME_TEXT:
        *step = read_string(call, byte, &is_whole);
        if (is_whole)
            code = take_name(call, step, error);
        break;
    case PASSED_OVER:
        *step = pass_over(call, byte);
        break;
    case ARGUMENTS:
        *step = argument(call, byte);
        break;
    case ARGS_NAME:
        *step = read_args_name(call, byte);
        break;
    case ARGS_OPEN:
        *step = is_blank(byte) ? TOOL_CALL_MORE : start_arguments(call, byte);
        break;
    default:
        *step = read_object(call, byte);
        break;
    }
    call->read++;
    return code;
}
