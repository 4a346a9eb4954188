/* The referee's state, as people and programs read it. */
#include <string.h>

#include "check/referee_internal.h"

int64_t referee_time(const struct referee *referee)
{
    return referee->time;
}

uint64_t referee_entries(const struct referee *referee)
{
    return referee->entries;
}

const uint8_t *referee_key(const struct referee *referee)
{
    return referee->key;
}

uint64_t referee_find(const struct referee *referee, const uint8_t id[DISPUTE_HASH], uint64_t number)
{
    const struct referee_dispute *dispute = referee_find_dispute(referee, id);
    const struct referee_answer *answer = referee_find_answer(referee, id);
    if (dispute)
        return number < dispute->number ? dispute->entries[number] : 0;
    return answer && number == 0 ? answer->entry : 0;
}

static void put_key(struct buffer *out, const char *name, const uint8_t *key)
{
    if (key) {
        dispute_put_hex(out, name, key, DISPUTE_KEY);
        return;
    }
    dispute_put_name(out, name);
    buffer_append_text(out, "null");
}

/* To whom a stake goes: the other one's where it was lost, back where it was not; null while that is open. */
static void write_dispute(const struct referee_dispute *dispute, struct buffer *out)
{
    static const char *const statuses[] = {"open", "proposer won", "challenger won", "moot"};
    const uint8_t *to = dispute->status == DISPUTE_OPEN ? NULL
                        : dispute->status == DISPUTE_PROPOSER_WON ? dispute->answer->proposer : dispute->key;
    int is_open = dispute->status == DISPUTE_OPEN;
    buffer_append_byte(out, '{');
    dispute_put_text(out, "about", dispute_about_name(dispute->about));
    dispute_put_number(out, "bytes", dispute->bytes);
    dispute_put_hex(out, "challenger", dispute->key, DISPUTE_KEY);
    dispute_put_number(out, "choice", dispute->choice);
    dispute_put_number(out, "deadline", (uint64_t)(is_open ? dispute->deadline : dispute->ended));
    dispute_put_hex(out, "dispute", dispute->id, DISPUTE_HASH);
    dispute_put_number(out, "messages", dispute->number);
    dispute_put_text(out, "stake", dispute->stake);
    put_key(out, "stake_to", to);
    dispute_put_text(out, "status", statuses[dispute->status]);
    dispute_put_number(out, "time", (uint64_t)dispute->time);
    dispute_put_text(out, "turn", !is_open ? "" : path_is_proposers(dispute->path) ? "proposer" : "challenger");
    dispute_put_text(out, "why", dispute->why);
    buffer_append_byte(out, '}');
}

static void write_answer(const struct referee_answer *answer, struct buffer *out)
{
    const char *status = answer->status == ANSWER_FINAL ? "final" : answer->status == ANSWER_OVERTURNED ? "overturned"
                         : answer->open ? "disputed" : "pending";
    const uint8_t *to = answer->status == ANSWER_FINAL ? answer->proposer
                        : answer->status == ANSWER_OVERTURNED ? answer->winner : NULL;
    buffer_append_byte(out, '{');
    dispute_put_hex(out, "answer", answer->id, DISPUTE_HASH);
    dispute_put_number(out, "choices", answer->receipt.choices);
    dispute_put_number(out, "deadline", (uint64_t)(answer->status == ANSWER_PENDING ? answer->deadline : answer->ended));
    dispute_put_name(out, "disputes");
    buffer_append_byte(out, '[');
    for (const struct referee_dispute *dispute = answer->disputes; dispute; dispute = dispute->next) {
        if (dispute != answer->disputes)
            buffer_append_byte(out, ',');
        write_dispute(dispute, out);
    }
    buffer_append_byte(out, ']');
    dispute_put_hex(out, "proposer", answer->proposer, DISPUTE_KEY);
    dispute_put_hex(out, "receipt", answer->receipt.hash, DISPUTE_HASH);
    dispute_put_text(out, "stake", answer->stake);
    put_key(out, "stake_to", to);
    dispute_put_text(out, "status", status);
    dispute_put_number(out, "time", (uint64_t)answer->time);
    dispute_put_text(out, "why", answer->why);
    buffer_append_byte(out, '}');
}

int referee_write_answer(const struct referee *referee, const uint8_t id[DISPUTE_HASH], struct buffer *out, bulla_error *error)
{
    const struct referee_answer *answer = referee_find_answer(referee, id);
    if (!answer)
        return bulla_fail(error, BULLA_E_INPUT, "the referee does not know that answer");
    write_answer(answer, out);
    return out->error.code != BULLA_OK ? bulla_fail(error, out->error.code, "%s", out->error.text) : BULLA_OK;
}

void referee_write_all(const struct referee *referee, struct buffer *out)
{
    buffer_append_text(out, "{\"answers\":[");
    for (const struct referee_answer *answer = referee->answers; answer; answer = answer->next) {
        if (answer != referee->answers)
            buffer_append_byte(out, ',');
        write_answer(answer, out);
    }
    buffer_append_format(out, "],\"entries\":%llu,\"time\":%lld}", (unsigned long long)referee->entries, (long long)referee->time);
}

void referee_write_ids(const struct referee *referee, uint64_t first, struct buffer *out)
{
    int is_first = 1;
    buffer_append_text(out, "{\"answers\":[");
    for (const struct referee_answer *answer = referee->answers; answer; answer = answer->next) {
        char text[2 * DISPUTE_HASH + 1];
        if (first > 0) {
            first--;
            continue;
        }
        hex_encode(answer->id, DISPUTE_HASH, text);
        buffer_append_format(out, "%s\"%s\"", is_first ? "" : ",", text);
        is_first = 0;
    }
    buffer_append_text(out, "]}");
}
