/* The referee of disputes (docs/dispute.md): a deterministic state machine. Its state follows from its log alone: the
 * settings, then messages as they were taken and moments in which it looked at the clock, each with its time. It has no clock
 * and touches no files; who runs it (serve/dispute_server.h, `bulla dispute replay`) gives it entries, and makes each durable
 * before anyone is told of it.
 *
 * An entry of the log is one line of canonical JSON without its line feed:
 *
 *     {"config": {"key": HEX, "proposers": [HEX, ...], "turn": N, "window": N}, "time": N}   the first one
 *     {"signed": MESSAGE, "time": N}        a message that was taken
 *     {"event": "tick", "time": N}          deadlines before that time have passed
 *     {"event": "start", "time": N}         the referee was not there until now: what is open gets its turn's time anew
 *
 * Times are milliseconds since 1970, and never fall. */
#ifndef CHECK_REFEREE_H
#define CHECK_REFEREE_H

#include "check/dispute_path.h"

/* What is known of an answer by its receipt's document. */
struct referee_receipt {
    uint8_t hash[DISPUTE_HASH], key[DISPUTE_KEY], id[16];
    uint32_t choices;
};

/* Text and tokens, settled by computing them again with the model's program part: tokenizer, template, grammar. Each call
 * gives the same for the same document, whenever and wherever; limits are part of it. */
struct referee_text {
    void *context;
    /* BULLA_E_INPUT where the document does not hold by itself (signature, transcript), BULLA_E_UNSUPPORTED where the
     * referee cannot decide about its model. */
    int (*read)(void *context, const char *document, size_t length, struct referee_receipt *receipt, bulla_error *error);
    /* A choice of a document that `read` took. */
    int (*derive)(void *context, const char *document, size_t length, uint32_t choice, struct arena *arena,
                  struct dispute_facts *given, bulla_error *error);
};

struct referee;

/* `config`: the first line. */
int referee_open(const char *config, size_t length, const struct referee_text *text, struct referee **referee,
                 bulla_error *error);
void referee_close(struct referee *referee); /* NULL is fine */
/* A first line: `key` is the referee's, that signs its statements; window and turn in milliseconds. No proposers: any. */
struct referee_config {
    uint8_t key[DISPUTE_KEY];
    int64_t window, turn, time;
    const uint8_t (*proposers)[DISPUTE_KEY];
    size_t proposer_count;
};
void referee_write_config(const struct referee_config *config, struct buffer *line);

/* An entry behind the first one, as it is in the log. BULLA_E_INPUT where no referee wrote it. */
int referee_apply(struct referee *referee, const char *line, size_t length, bulla_error *error);
/* A message that came; `time` not before the last entry's, and no deadline before it (referee_deadline). BULLA_OK: it was
 * taken, *line (emptied before) is its entry. Anything else: it has no effect, and `error` says why. */
int referee_take(struct referee *referee, int64_t time, const void *bytes, size_t length, struct buffer *line, bulla_error *error);
/* The earliest deadline; INT64_MAX: none. When the clock is behind it, comes: */
int64_t referee_deadline(const struct referee *referee);
/* "tick" or "start": the same for these. */
int referee_event(struct referee *referee, const char *event, int64_t time, struct buffer *line, bulla_error *error);

int64_t referee_time(const struct referee *referee);         /* of the last entry */
uint64_t referee_entries(const struct referee *referee);     /* taken, the first line included */
const uint8_t *referee_key(const struct referee *referee);
/* Number of the entry that has the message `number` of a dispute, or of the answer itself (number 0). 0: there is none. */
uint64_t referee_find(const struct referee *referee, const uint8_t id[DISPUTE_HASH], uint64_t number);

/* An answer's state, and that of all answers, as canonical JSON. BULLA_E_INPUT where there is no such answer. */
int referee_write_answer(const struct referee *referee, const uint8_t id[DISPUTE_HASH], struct buffer *out, bulla_error *error);
void referee_write_all(const struct referee *referee, struct buffer *out);
/* The ids of the answers: {"answers": [HEX, ...]} in the order in which they came, from number `first` on. */
void referee_write_ids(const struct referee *referee, uint64_t first, struct buffer *out);

#endif
