#include "cli/verify_dispute.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "check/audit.h"
#include "cli/disputing.h"
#include "ops/dispute_server.h"
#include "trust/receipt.h"
#include "trust/verdict.h"

enum { MOST_STATEMENT = 4 << 20, WHEN = 32 };

static void write_time(uint64_t milliseconds, char text[WHEN])
{
    time_t seconds = (time_t)(milliseconds / 1000);
    struct tm when;
    if (!gmtime_r(&seconds, &when) || strftime(text, WHEN, "%Y-%m-%dT%H:%M:%SZ", &when) == 0)
        memcpy(text, "?", 2);
}

static void check_status(struct verdict *verdict, const struct json *answer)
{
    const char *status = disputing_text(answer, "status"), *why = disputing_text(answer, "why");
    uint64_t deadline = 0;
    char when[WHEN];
    dispute_get_number(answer, "deadline", INT64_MAX, &deadline);
    write_time(deadline, when);
    if (strcmp(status, "final") == 0)
        verdict_holds(verdict, "dispute.state", 1, "final", "final since %s", when);
    else if (strcmp(status, "overturned") == 0)
        verdict_holds(verdict, "dispute.state", 0, "final", "overturned %s: %s", when, why);
    else {
        char text[128];
        snprintf(text, sizeof text, "%.40s: it can be challenged, or has to be defended, until %s", status, when);
        audit_lacks(verdict, "dispute.state", text);
    }
}

static int check_statement(struct verdict *verdict, const struct json *value, const uint8_t receipt[DISPUTE_HASH],
                           const uint8_t key[DISPUTE_KEY])
{
    const struct json *answer = json_get(json_get(value, "statement"), "answer");
    uint8_t hash[DISPUTE_HASH], said[DISPUTE_HASH];
    if (!verdict_is(verdict, "dispute.signature", dispute_is_signed(DISPUTE_STATEMENT, value, "statement", key, hash),
                    "a statement signed by the referee's key"))
        return 0;
    if (!dispute_get_hash(answer, "receipt", said))
        return verdict_fails(verdict, "dispute.receipt", "it is about no receipt");
    if (!verdict_same_bytes(verdict, "dispute.receipt", said, DISPUTE_HASH, receipt, DISPUTE_HASH))
        return 0;
    check_status(verdict, answer);
    return 1;
}

int verify_dispute(bulla_verdict *verdict, const char *document, size_t length, const char *path, const char *key,
                   bulla_error *error)
{
    struct arena arena = {0};
    uint8_t *text = NULL, public_key[DISPUTE_KEY], receipt[DISPUTE_HASH];
    size_t text_length;
    int code = key ? disputing_read_key(key, public_key, error)
                   : bulla_fail(error, BULLA_E_USAGE, "whose statement is it? --referee-key KEY");
    if (code == BULLA_OK)
        code = file_read(path, MOST_STATEMENT, &text, &text_length, error);
    const struct json *value = code == BULLA_OK ? json_parse((const char *)text, text_length, path, &arena, error) : NULL;
    const struct json *whole = value ? json_parse(document, length, "the receipt", &arena, error) : NULL;
    if (code == BULLA_OK)
        code = whole && json_get(whole, "signed") ? receipt_hash(json_get(whole, "signed"), receipt, error)
                                                  : bulla_fail(error, BULLA_E_INPUT, "a referee's statement is about a receipt");
    if (code == BULLA_OK)
        check_statement(&verdict->verdict, value, receipt, public_key);
    arena_free(&arena);
    memory_free(text);
    return code;
}
