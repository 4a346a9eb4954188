/* The proposer: vouches for answers, and answers challenges. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "cli/disputing.h"
#include "cli/interrupt.h"

enum { MOST_PARTIES = 64 }; /* disputes of one answer whose state is kept; there may be more */

struct vouched {
    struct disputing_answer answer;
    char status[16];
    struct disputing_facts *choices; /* [receipt.choices] */
    struct disputing_party parties[MOST_PARTIES];
    int is_over, is_overturned;
};

static int vouch(struct disputing *disputing, struct vouched *vouched, bulla_error *error)
{
    struct buffer message = {0};
    uint8_t id[DISPUTE_HASH];
    int is_taken = 1;
    bulla_error why = {0};
    int code = disputing_look(disputing, &vouched->answer, error);
    if (code != BULLA_OK || vouched->answer.state)
        return code;
    code = party_write_answer(disputing->options.key, vouched->answer.receipt.hash, &vouched->answer.document,
                              disputing->options.stake, &message, id, error);
    if (code == BULLA_OK)
        code = dispute_carrier_post(disputing->carrier, &message, &is_taken, &why, error);
    if (code == BULLA_OK && !is_taken)
        code = bulla_fail(error, BULLA_E_INPUT, "the referee did not take the answer: %s", why.text);
    buffer_free(&message);
    return code;
}

static void say(struct vouched *vouched)
{
    const struct json *state = vouched->answer.state;
    const char *status = state ? disputing_text(state, "status") : "sent";
    char id[2 * DISPUTE_HASH + 1];
    if (strcmp(status, vouched->status) == 0)
        return;
    snprintf(vouched->status, sizeof vouched->status, "%s", status);
    hex_encode(vouched->answer.id, DISPUTE_HASH, id);
    printf("answer %s: %s%s%s\n", id, status, *disputing_text(state, "why") ? ": " : "", disputing_text(state, "why"));
    fflush(stdout);
}

/* Of an open dispute in which it is the own turn. */
static struct disputing_party *find_party(struct vouched *vouched, const uint8_t id[DISPUTE_HASH])
{
    struct disputing_party *free_one = NULL;
    for (size_t i = 0; i < MOST_PARTIES; i++) {
        if (vouched->parties[i].party && memcmp(vouched->parties[i].id, id, DISPUTE_HASH) == 0)
            return &vouched->parties[i];
        if (!vouched->parties[i].party && !free_one)
            free_one = &vouched->parties[i];
    }
    if (!free_one) { /* it follows from its messages again when its turn comes */
        free_one = &vouched->parties[id[0] % MOST_PARTIES];
        disputing_close_party(free_one);
    }
    return free_one;
}

static void forget_party(struct vouched *vouched, const uint8_t id[DISPUTE_HASH])
{
    for (size_t i = 0; i < MOST_PARTIES; i++)
        if (vouched->parties[i].party && memcmp(vouched->parties[i].id, id, DISPUTE_HASH) == 0)
            disputing_close_party(&vouched->parties[i]);
}

/* Whatever one challenger says must not keep the others waiting for ever: what goes wrong is told, and the next is looked at. */
static int answer_dispute(struct disputing *disputing, struct vouched *vouched, const uint8_t proposer[DISPUTE_KEY],
                          const struct json *dispute, bulla_error *error)
{
    uint8_t id[DISPUTE_HASH];
    uint64_t choice;
    if (!dispute_get_hash(dispute, "dispute", id) || !dispute_get_number(dispute, "choice", vouched->answer.receipt.choices, &choice))
        return bulla_fail(error, BULLA_E_INPUT, "the referee's statement has a dispute that is none");
    if (strcmp(disputing_text(dispute, "status"), "open") != 0) {
        forget_party(vouched, id);
        return BULLA_OK;
    }
    if (strcmp(disputing_text(dispute, "turn"), "proposer") != 0)
        return BULLA_OK;
    struct disputing_party *party = find_party(vouched, id);
    int code = BULLA_OK;
    if (!party->party) {
        memcpy(party->id, id, DISPUTE_HASH);
        code = disputing_open_party(disputing, &vouched->answer, (uint32_t)choice, proposer, &vouched->choices[choice], party, error);
    }
    return code == BULLA_OK ? disputing_turn(disputing, party, error) : code;
}

static int look(struct disputing *disputing, struct vouched *vouched, const uint8_t proposer[DISPUTE_KEY], bulla_error *error)
{
    int code = disputing_look(disputing, &vouched->answer, error);
    if (code != BULLA_OK)
        return code;
    say(vouched);
    const struct json *list = json_get(vouched->answer.state, "disputes");
    vouched->is_overturned = strcmp(vouched->status, "overturned") == 0;
    vouched->is_over = vouched->is_overturned || strcmp(vouched->status, "final") == 0;
    for (size_t i = 0; list && i < list->length && !vouched->is_over && code == BULLA_OK; i++)
        code = answer_dispute(disputing, vouched, proposer, list->items[i], error);
    return code;
}

static int serve(struct disputing *disputing, struct vouched *all, size_t count, const uint8_t proposer[DISPUTE_KEY],
                 bulla_error *error)
{
    size_t left = count, overturned = 0;
    while (left && !interrupt_came()) {
        for (size_t i = 0; i < count; i++) {
            bulla_error own = {0};
            if (all[i].is_over)
                continue;
            int code = look(disputing, &all[i], proposer, &own);
            if (code == BULLA_E_MEMORY || code == BULLA_E_INTERNAL)
                return bulla_fail(error, code, "%s", own.text);
            if (code != BULLA_OK) /* a referee that is away comes back */
                fprintf(stderr, "(%s)\n", own.text);
            left -= all[i].is_over;
            overturned += all[i].is_overturned;
        }
        if (left)
            disputing_wait();
    }
    return overturned ? bulla_fail(error, BULLA_E_INPUT, "%zu of the answers were overturned", overturned) : BULLA_OK;
}

int disputing_respond(struct disputing *disputing, const char *const *paths, size_t count, bulla_error *error)
{
    uint8_t proposer[DISPUTE_KEY];
    struct vouched *all = memory_alloc(count, sizeof *all, error);
    int code = all ? dispute_public_key(disputing->options.key, proposer, error) : BULLA_E_MEMORY;
    for (size_t i = 0; code == BULLA_OK && i < count; i++) {
        code = disputing_read_answer(disputing, paths[i], proposer, &all[i].answer, error);
        if (code == BULLA_OK && !(all[i].choices = memory_alloc(all[i].answer.receipt.choices, sizeof *all[i].choices, error)))
            code = BULLA_E_MEMORY;
        if (code == BULLA_OK)
            code = vouch(disputing, &all[i], error);
    }
    interrupt_catch();
    if (code == BULLA_OK)
        code = serve(disputing, all, count, proposer, error);
    interrupt_release();
    for (size_t i = 0; all && i < count; i++) {
        for (size_t j = 0; j < MOST_PARTIES; j++)
            disputing_close_party(&all[i].parties[j]);
        for (size_t j = 0; all[i].choices && j < all[i].answer.receipt.choices; j++)
            disputing_free_facts(&all[i].choices[j]);
        memory_free(all[i].choices);
        disputing_free_answer(&all[i].answer);
    }
    memory_free(all);
    return code;
}
