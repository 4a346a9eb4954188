#include "court_liar.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is asked: a letter and a payload; what comes back: a status and a payload. */
enum { JOIN = 'j', TAKE = 't', NEXT = 'n' };

struct head {
    int32_t what;
    uint64_t length;
};

struct join {
    uint64_t trial;
    int side;
    uint8_t answer[DISPUTE_HASH];
    struct dispute_fault fault; /* without its hook */
};

static int fail_lost(bulla_error *error)
{
    return bulla_fail(error, BULLA_E_IO, "the liar's process is gone");
}

static int write_all(int descriptor, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = write(descriptor, at, length);
        if (written < 0 && errno != EINTR)
            return 0;
        at += written > 0 ? written : 0;
        length -= written > 0 ? (size_t)written : 0;
    }
    return 1;
}

static int read_all(int descriptor, void *bytes, size_t length)
{
    char *at = bytes;
    while (length > 0) {
        ssize_t got = read(descriptor, at, length);
        if (got == 0 || (got < 0 && errno != EINTR))
            return 0;
        at += got > 0 ? got : 0;
        length -= got > 0 ? (size_t)got : 0;
    }
    return 1;
}

static int send_part(int descriptor, int what, const void *bytes, size_t length)
{
    const struct head head = {what, length};
    return write_all(descriptor, &head, sizeof head) && write_all(descriptor, bytes, length);
}

/* The payload is put into `out`, which is emptied. */
static int receive_part(int descriptor, int *what, struct buffer *out)
{
    struct head head;
    buffer_clear(out);
    if (!read_all(descriptor, &head, sizeof head) || head.length > 1 << 20)
        return 0;
    *what = head.what;
    uint8_t piece[4096];
    for (uint64_t left = head.length; left > 0;) {
        size_t length = left < sizeof piece ? (size_t)left : sizeof piece;
        if (!read_all(descriptor, piece, length))
            return 0;
        buffer_append(out, piece, length);
        left -= length;
    }
    return out->error.code == BULLA_OK;
}

/* ---- In the court's process ---- */

int liar_start(struct liar *liar, const char *program, char *const *arguments, bulla_error *error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return bulla_fail(error, BULLA_E_IO, "no socket pair");
    pid_t process = fork();
    if (process == 0) {
        dup2(pair[1], STDIN_FILENO);
        dup2(pair[1], STDOUT_FILENO);
        execv(program, arguments);
        _exit(127);
    }
    close(pair[1]);
    *liar = (struct liar){pair[0], (int)process};
    if (process > 0)
        return BULLA_OK;
    close(pair[0]);
    return bulla_fail(error, BULLA_E_IO, "no second process");
}

int liar_stop(struct liar *liar, bulla_error *error)
{
    int status = 0;
    close(liar->descriptor);
    while (waitpid(liar->process, &status, 0) < 0 && errno == EINTR)
        ;
    return status ? bulla_fail(error, BULLA_E_INTERNAL, "the liar's process ended with %d", status) : BULLA_OK;
}

/* Asks and waits; its answer's payload is left in `out`. */
static int ask(struct liar *liar, int what, const void *bytes, size_t length, struct buffer *out, bulla_error *error)
{
    int code;
    if (!send_part(liar->descriptor, what, bytes, length) || !receive_part(liar->descriptor, &code, out))
        return fail_lost(error);
    return code ? bulla_fail(error, code, "the liar's: %.*s", (int)out->length, (const char *)out->data) : BULLA_OK;
}

static int take(void *context, const void *bytes, size_t length, bulla_error *error)
{
    struct buffer none = {0};
    int code = ask(context, TAKE, bytes, length, &none, error);
    buffer_free(&none);
    return code;
}

static int next(void *context, struct buffer *out, bulla_error *error)
{
    return ask(context, NEXT, "", 0, out, error);
}

int liar_join(struct liar *liar, const struct court *court, uint64_t trial, int side, const struct dispute_fault *fault,
              struct trial_party *party, bulla_error *error)
{
    struct join join = {.trial = trial, .side = side, .fault = *fault};
    struct buffer none = {0};
    memcpy(join.answer, court->answer, DISPUTE_HASH);
    *party = (struct trial_party){take, next, liar};
    int code = ask(liar, JOIN, &join, sizeof join, &none, error);
    buffer_free(&none);
    return code;
}

/* ---- In its own ---- */

struct seat {
    struct court court; /* without a referee */
    struct arena arena;
    struct dispute_fault fault;
    struct trial trial;
    struct party *party;
};

static void leave(struct seat *seat)
{
    party_close(seat->party);
    seat->party = NULL;
    arena_free(&seat->arena);
    EVP_PKEY_free(seat->trial.challenger);
    seat->trial.challenger = NULL;
}

static int join_trial(struct seat *seat, const struct buffer *asked, bulla_error *error)
{
    struct join join;
    if (asked->length != sizeof join)
        return fail_lost(error);
    memcpy(&join, asked->data, sizeof join);
    leave(seat);
    seat->fault = join.fault;
    dispute_fault_hook(&seat->fault);
    memcpy(seat->court.answer, join.answer, DISPUTE_HASH);
    const struct trace_hook *hooks[2] = {join.side == 0 ? &seat->fault.hook : NULL, join.side == 1 ? &seat->fault.hook : NULL};
    int code = trial_options(&seat->trial, &seat->court, join.trial, hooks, error);
    code = code ? code : court_derive(&seat->court, &seat->arena, &seat->court.given, error);
    return code ? code : party_open(&seat->trial.options[join.side], &seat->court.given, join.answer, 0, &seat->party, error);
}

static int answer(struct seat *seat, int what, const struct buffer *asked, struct buffer *out, bulla_error *error)
{
    buffer_clear(out);
    if (what == JOIN)
        return join_trial(seat, asked, error);
    if (!seat->party)
        return fail_lost(error);
    return what == TAKE ? party_take(seat->party, asked->data, asked->length, error) : party_next(seat->party, out, error);
}

int liar_serve(struct dispute_case *c, bulla_error *error)
{
    struct seat seat = {0};
    struct buffer asked = {0}, out = {0};
    int what, is_up = 1, code = court_seat(&seat.court, c, error);
    while (code == BULLA_OK && is_up && receive_part(STDIN_FILENO, &what, &asked)) {
        bulla_error own = {0};
        int done = answer(&seat, what, &asked, &out, &own);
        is_up = done ? send_part(STDOUT_FILENO, done, own.text, strlen(own.text))
                     : send_part(STDOUT_FILENO, BULLA_OK, out.data, out.length);
        bulla_error_clear(&own);
    }
    leave(&seat);
    court_close(&seat.court);
    buffer_free(&asked);
    buffer_free(&out);
    return code;
}
