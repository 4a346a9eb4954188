/* The challenger: audits an answer, and disputes what is not so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "check/audit.h"
#include "cli/auditing.h"
#include "cli/disputing.h"
#include "cli/interrupt.h"
#include "serve/dispute_text.h"

/* The choice that a failed check is about; 0 where it is about all. */
static uint32_t choice_of(const bulla_verdict *verdict)
{
    for (size_t i = 0; i < bulla_verdict_count(verdict); i++) {
        bulla_check check = bulla_verdict_check(verdict, i);
        const char *dot = strrchr(check.name, '.');
        if (check.state == BULLA_CHECK_FAILED && strncmp(check.name, "audit.", 6) == 0 && dot[1] >= '0' && dot[1] <= '9')
            return (uint32_t)strtoul(dot + 1, NULL, 10);
    }
    return 0;
}

static int audit(struct disputing *disputing, const struct disputing_answer *answer, int64_t *choice, int *is_right,
                 bulla_error *error)
{
    struct auditor *auditor;
    bulla_verdict *verdict = NULL;
    const bulla_receipt_options options = {0};
    int code = auditing_open((const char *)disputing->path.data, disputing->options.threads, &auditor, error);
    if (code != BULLA_OK)
        return code;
    code = auditor_audit(auditor, (const char *)answer->document.data, answer->document.length, &options, &verdict, NULL, error);
    auditor_close(auditor);
    if (code != BULLA_OK)
        return code;
    *is_right = audit_find(&verdict->verdict) != AUDIT_FAILED;
    if (*choice < 0)
        *choice = choice_of(verdict);
    bulla_verdict_free(verdict);
    return BULLA_OK;
}

static int send_challenge(struct disputing *disputing, const struct disputing_answer *answer, uint32_t choice,
                          enum dispute_about about, struct disputing_party *party, bulla_error *error)
{
    struct buffer message = {0};
    uint8_t nonce[DISPUTE_HASH];
    int is_taken = 1;
    bulla_error why = {0};
    int code = random_bytes(nonce, sizeof nonce, error);
    if (code == BULLA_OK)
        code = party_write_challenge(disputing->options.key, answer->id, choice, about, nonce, disputing->options.stake, &message,
                                     party->id, error);
    if (code == BULLA_OK)
        code = dispute_carrier_post(disputing->carrier, &message, &is_taken, &why, error);
    if (code == BULLA_OK && !is_taken)
        code = bulla_fail(error, BULLA_E_INPUT, "the referee did not take the challenge: %s", why.text);
    buffer_free(&message);
    return code;
}

static const struct json *find_dispute(const struct disputing_answer *answer, const uint8_t id[DISPUTE_HASH])
{
    const struct json *list = json_get(answer->state, "disputes");
    uint8_t own[DISPUTE_HASH];
    for (size_t i = 0; list && i < list->length; i++)
        if (dispute_get_hash(list->items[i], "dispute", own) && memcmp(own, id, DISPUTE_HASH) == 0)
            return list->items[i];
    return NULL;
}

/* Until the referee says how it ended. */
static int play(struct disputing *disputing, struct disputing_answer *answer, struct disputing_party *party, bulla_error *error)
{
    while (!interrupt_came()) {
        bulla_error own = {0};
        int code = disputing_look(disputing, answer, &own);
        const struct json *dispute = code == BULLA_OK ? find_dispute(answer, party->id) : NULL;
        const char *status = dispute ? disputing_text(dispute, "status") : "open";
        if (strcmp(status, "open") != 0) {
            printf("%s: %s; the answer is %s\n", status, disputing_text(dispute, "why"), disputing_text(answer->state, "status"));
            return strcmp(status, "proposer won") == 0
                       ? bulla_fail(error, BULLA_E_INPUT, "the challenge is lost: %s", disputing_text(dispute, "why")) : BULLA_OK;
        }
        if (code == BULLA_OK && dispute && strcmp(disputing_text(dispute, "turn"), "challenger") == 0)
            code = disputing_turn(disputing, party, &own);
        if (code == BULLA_E_MEMORY || code == BULLA_E_INTERNAL)
            return bulla_fail(error, code, "%s", own.text);
        if (code != BULLA_OK)
            fprintf(stderr, "(%s)\n", own.text);
        disputing_wait();
    }
    return bulla_fail(error, BULLA_E_CANCELLED, "stopped; the challenger's silence loses the dispute");
}

static int dispute(struct disputing *disputing, const struct disputing_challenge *challenge, struct disputing_answer *answer,
                   uint32_t choice, bulla_error *error)
{
    struct disputing_facts facts = {0};
    struct disputing_party party = {0};
    int code = disputing_look(disputing, answer, error);
    if (code == BULLA_OK && !answer->state)
        code = bulla_fail(error, BULLA_E_INPUT, "the referee knows no such answer of that proposer");
    if (code == BULLA_OK)
        code = disputing_open_party(disputing, answer, choice, challenge->proposer, &facts, &party, error);
    enum dispute_about about = challenge->about ? challenge->about : facts.facts.fault ? facts.facts.fault : DISPUTE_TRACE;
    if (code == BULLA_OK) {
        printf("challenging choice %u: %s%s%s\n", choice, dispute_about_name(about), facts.facts.fault ? ": " : "", facts.facts.why);
        fflush(stdout);
        code = send_challenge(disputing, answer, choice, about, &party, error);
    }
    interrupt_catch();
    if (code == BULLA_OK)
        code = play(disputing, answer, &party, error);
    interrupt_release();
    disputing_close_party(&party);
    disputing_free_facts(&facts);
    return code;
}

int disputing_run_challenge(struct disputing *disputing, const struct disputing_challenge *challenge, int *is_right,
                            bulla_error *error)
{
    struct disputing_answer answer = {0};
    int64_t choice = challenge->choice;
    *is_right = 0;
    int code = disputing_read_answer(disputing, challenge->path, challenge->proposer, &answer, error);
    if (code == BULLA_OK && !challenge->is_unaudited)
        code = audit(disputing, &answer, &choice, is_right, error);
    if (code == BULLA_OK && !*is_right)
        code = dispute(disputing, challenge, &answer, choice < 0 ? 0 : (uint32_t)choice, error);
    disputing_free_answer(&answer);
    return code;
}
