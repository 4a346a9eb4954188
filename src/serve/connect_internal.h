/* What the files of connect_check.h share. */
#ifndef SERVE_CONNECT_INTERNAL_H
#define SERVE_CONNECT_INTERNAL_H

#include "serve/connect_check.h"

enum {
    CONNECT_PARTS = RECEIPT_FINISH + 1,
    CONNECT_MOST_CALLS = 1024, /* of one choice, and items of a response */
    CONNECT_MOST_MEMBERS = 64, /* of an event */
    CONNECT_MOST_GATHERED = 64 << 20 /* bytes: texts, and the steps of the transcript */
};

struct connect_call {
    struct buffer name, id, arguments;
};

struct connect_choice {
    int is_there, has_finished;
    uint8_t chain[RECEIPT_HASH];
    uint64_t tokens;
    struct buffer content, reasoning, finish; /* finish: reason, and zero byte and stop reason where there is one */
    struct connect_call *calls;
    size_t call_count, call_room, current; /* the call to which arguments belong */
    struct buffer steps;                   /* JSON, of the transcript */
};

/* An item of a response: a part of the choice's text, or a call. */
struct connect_item {
    enum receipt_part part; /* RECEIPT_TOOL_CALL: a call */
    size_t start, call;
};

struct connect_check {
    struct connect_asked asked;
    char id[2 * RECEIPT_ID + 1];
    uint8_t salt[RECEIPT_SALT];
    char salt_text[2 * RECEIPT_SALT + 1];
    struct connect_choice *choices; /* by their index; not all of them need be there */
    size_t choice_count, gathered;
    struct connect_item *items;
    size_t item_count, item_room;
    struct buffer scratch[CONNECT_PARTS]; /* texts that an event does not have as such */
    uint64_t prompt_tokens, output_tokens; /* as the usage says, where has_usage */
    int has_usage, has_receipt, is_done;
    char model[512];                      /* as the answer says */
    char type[64];
    struct arena arena;                   /* of the event with the receipt */
    const struct json *document;
    struct receipt receipt;
    uint8_t leaf[RECEIPT_HASH];
};

/* What an event delivers by itself, apart from its steps. */
struct connect_text {
    const char *bytes; /* NULL: nothing of this part */
    size_t length;
};
struct connect_delivered {
    uint32_t choice;
    struct connect_text parts[CONNECT_PARTS];
    size_t call; /* of RECEIPT_TOOL_CALL and RECEIPT_ARGUMENTS: its number */
};

/* Members of an object that are texts: missing and null are NULL; anything else than a text is a problem. */
int connect_read_text(const struct json *object, const char *key, const char *check, struct connect_text *text,
                      struct connect_problem *problem);
int connect_is_empty(const struct json *value); /* null, false, "", [] or {} */
/* What is in none of the named members must be empty: null, false, "", [] or {}. */
int connect_only(const struct json *object, const char *const *names, const char *check, struct connect_problem *problem);
int connect_same(const struct connect_text *text, const void *bytes, size_t length); /* NULL is empty */
struct connect_choice *connect_choice(struct connect_check *check, uint64_t index, struct connect_problem *problem);
/* The event's steps, and whether they cover what is delivered. */
int connect_take_steps(struct connect_check *check, const struct json *bulla, const struct connect_delivered *delivered,
                       struct connect_problem *problem);
int connect_take_usage(struct connect_check *check, const struct json *usage, const char *input, const char *output,
                       struct connect_problem *problem);
/* name, zero byte, id into the scratch of RECEIPT_TOOL_CALL. */
void connect_join(struct buffer *out, const struct connect_text *first, const struct connect_text *second);

/* The forms: what an event delivers; and a body, whose steps were taken. */
int connect_read_chunk(struct connect_check *check, const struct json *event, struct connect_delivered *delivered,
                       struct connect_problem *problem);
int connect_read_body(struct connect_check *check, const struct json *body, struct connect_problem *problem);
int connect_read_item(struct connect_check *check, const struct json *event, struct connect_delivered *delivered,
                      struct connect_problem *problem);
int connect_read_response(struct connect_check *check, const struct json *response, struct connect_problem *problem);
/* The parameters in effect against what was asked for. */
int connect_check_parameters(const struct connect_check *check, const struct json *parameters,
                             struct connect_problem *problem);

#endif
