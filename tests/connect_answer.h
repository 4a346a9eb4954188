/* An honest answer with its receipt, as a server sends it: for tests and the fuzz target of serve/connect_check.h. The
 * same each time: key, salt and id are fixed. */
#ifndef TESTS_CONNECT_ANSWER_H
#define TESTS_CONNECT_ANSWER_H

#include "base/buffer.h"
#include "serve/connect_check.h"

enum { CONNECT_ANSWER_MOST = 32 };

struct connect_answer {
    enum connect_form form;
    int is_stream;
    struct buffer request;
    char id[2 * RECEIPT_ID + 1], salt[2 * RECEIPT_SALT + 1];
    struct connect_pin pin;
    struct buffer events[CONNECT_ANSWER_MOST]; /* of a whole answer: one, the body */
    size_t count;
    const char *text;
};

/* `more`: members of the request, each with a comma before it, or "". Its receipt has the defaults of docs/api.md in
 * effect, with temperature 0.5. */
void connect_answer_make(enum connect_form form, int is_stream, const char *more, struct connect_answer *answer);
void connect_answer_free(struct connect_answer *answer);

#endif
