/* One tool call in an answer's text, read byte by byte as it comes. Internal to serve/output_parser.c. */
#ifndef SERVE_TOOL_CALL_H
#define SERVE_TOOL_CALL_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"
#include "serve/tools.h"

enum { JSON_SCAN_DEPTH = 128, TOOL_CALL_RAW = 6 * TOOL_MOST_NAME + 16 };

/* The end of a JSON value that nobody checks otherwise: strings and the nesting of brackets. */
struct json_scan {
    uint8_t is_object[JSON_SCAN_DEPTH / 8]; /* a bit a level */
    unsigned depth;
    int in_string, is_escaped;
};
enum json_scan_step {
    JSON_SCAN_MORE,  /* the byte belongs to the value */
    JSON_SCAN_LAST,  /* and ends it */
    JSON_SCAN_AFTER, /* the value ended before this byte: numbers and words */
    JSON_SCAN_BROKEN /* brackets that do not match, too deep */
};
/* Zero-initialise at the value's first byte, which is no white space. */
enum json_scan_step json_scan_byte(struct json_scan *scan, char byte);

enum tool_call_form {
    TOOL_CALL_OBJECT, /* {"name": "f", "arguments": {...}}; "parameters" is the same; other members are passed over */
    TOOL_CALL_ARGS    /* f[ARGS]{...} */
};

struct tool_call {
    enum tool_call_form form;
    int knows_all_keys; /* a member that is none of a call's breaks it */
    int state; /* private to tool_call.c, like what follows up to the name */
    struct json_scan scan;
    char raw[TOOL_CALL_RAW]; /* of a key, of the name */
    size_t raw_length;
    char name[TOOL_MOST_NAME + 1];
    size_t name_length; /* 0: not known yet */
    int has_begun;       /* the arguments' first byte came after the name */
    int has_arguments;
    size_t read;         /* bytes */
    size_t arguments_at, arguments_length; /* where they came before the name: counted from the first byte read */
};

enum tool_call_step {
    TOOL_CALL_MORE,     /* the byte is part of the form */
    TOOL_CALL_ARGUMENT, /* and one of the arguments; the first sets has_begun */
    TOOL_CALL_DONE,     /* the byte ends the call. Where it has not begun, its arguments are those that came before the
                           name, or none */
    TOOL_CALL_LAST,     /* TOOL_CALL_ARGUMENT and TOOL_CALL_DONE */
    TOOL_CALL_BROKEN    /* the byte is not part of a call */
};
void tool_call_begin(struct tool_call *call, enum tool_call_form form);
int tool_call_byte(struct tool_call *call, char byte, enum tool_call_step *step, bulla_error *error);

#endif
