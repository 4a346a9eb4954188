#include "cli/disputing.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/model_cache.h"
#include "exec/cpu/import_run.h"
#include "ops/dispute_server.h"
#include "serve/dispute_text.h"

enum { LOOK_MILLISECONDS = 100 };

/* ---- Keys ---- */

int disputing_read_key(const char *text, uint8_t key[DISPUTE_KEY], bulla_error *error)
{
    return hex_decode(text, strlen(text), key, DISPUTE_KEY)
               ? BULLA_OK : bulla_fail(error, BULLA_E_USAGE, "\"%s\" is no key: 64 hex digits", text);
}

/* ---- Opening ---- */

int disputing_open(const struct disputing_options *options, struct disputing **result, bulla_error *error)
{
    struct disputing *disputing = memory_alloc(1, sizeof *disputing, error);
    *result = NULL;
    if (!disputing)
        return BULLA_E_MEMORY;
    disputing->options = *options;
    int code = model_cache_find(options->model, options->threads, &disputing->path, error);
    if (code == BULLA_OK)
        code = model_cache_open((const char *)disputing->path.data, &(struct model_opening){options->threads, 1},
                                &disputing->model, error);
    if (code == BULLA_OK)
        code = cpu_import_executor_open(options->threads, NULL, &disputing->executor, error);
    if (code == BULLA_OK)
        code = dispute_text_open_model((const char *)disputing->path.data, &disputing->text, error);
    if (code == BULLA_OK)
        code = dispute_carrier_open(options->referee, options->ca, &disputing->carrier, error);
    if (code == BULLA_OK)
        *result = disputing;
    else
        disputing_close(disputing);
    return code;
}

void disputing_close(struct disputing *disputing)
{
    if (!disputing)
        return;
    dispute_carrier_close(disputing->carrier);
    dispute_text_close(disputing->text);
    trace_model_close(disputing->tree);
    cpu_import_executor_close(&disputing->executor);
    bulla_model_close(disputing->model);
    buffer_free(&disputing->path);
    memory_free(disputing);
}

void disputing_wait(void)
{
    const struct timespec pause = {.tv_nsec = LOOK_MILLISECONDS * 1000000L};
    nanosleep(&pause, NULL);
}

/* ---- Answers ---- */

int disputing_read_answer(struct disputing *disputing, const char *path, const uint8_t proposer[DISPUTE_KEY],
                          struct disputing_answer *answer, bulla_error *error)
{
    struct arena arena = {0};
    uint8_t *bytes = NULL;
    size_t length;
    const struct referee_text text = dispute_text_table(disputing->text);
    int code = file_read(path, DISPUTE_MOST_DOCUMENT, &bytes, &length, error);
    const struct json *value = code == BULLA_OK ? json_parse((const char *)bytes, length, path, &arena, error) : NULL;
    if (value)
        json_write_canonical(&answer->document, value);
    code = code ? code : !value ? error->code : answer->document.error.code;
    if (code == BULLA_OK)
        code = text.read(text.context, (const char *)answer->document.data, answer->document.length, &answer->receipt, error);
    if (code == BULLA_OK)
        code = dispute_answer_id(answer->receipt.hash, proposer, answer->id, error);
    arena_free(&arena);
    memory_free(bytes);
    return code == BULLA_OK ? code : bulla_fail_prefix(error, "%s", path);
}

void disputing_free_answer(struct disputing_answer *answer)
{
    arena_free(&answer->arena);
    buffer_free(&answer->document);
}

const char *disputing_text(const struct json *object, const char *name)
{
    const struct json *value = json_get(object, name);
    return json_is(value, JSON_STRING) ? value->text : "";
}

int disputing_look(struct disputing *disputing, struct disputing_answer *answer, bulla_error *error)
{
    struct buffer text = {0};
    uint8_t hash[DISPUTE_HASH], id[DISPUTE_HASH];
    char path[2 * DISPUTE_HASH + 32] = "/v1/answers/";
    hex_encode(answer->id, DISPUTE_HASH, path + strlen(path));
    arena_free(&answer->arena);
    answer->state = NULL;
    int code = dispute_carrier_get(disputing->carrier, path, &text, error);
    if (code == BULLA_OK && text.length) {
        const struct json *value = json_parse((const char *)text.data, text.length, "the referee's statement", &answer->arena, error);
        answer->state = json_get(json_get(value, "statement"), "answer");
        if (!value || !answer->state || !dispute_get_hash(answer->state, "answer", id) || memcmp(id, answer->id, DISPUTE_HASH) != 0 ||
            (disputing->options.referee_key &&
             !dispute_is_signed(DISPUTE_STATEMENT, value, "statement", disputing->options.referee_key, hash)))
            code = bulla_fail(error, BULLA_E_INPUT, "the referee's statement is not signed by its key, or about another answer");
    }
    buffer_free(&text);
    return code;
}

/* ---- Turns ---- */

static int need_tree(struct disputing *disputing, bulla_error *error)
{
    return disputing->tree ? BULLA_OK
                           : trace_model_open(bulla_model_program(disputing->model), disputing->executor.team, &disputing->tree, error);
}

int disputing_open_party(struct disputing *disputing, const struct disputing_answer *answer, uint32_t choice,
                         const uint8_t proposer[DISPUTE_KEY], struct disputing_facts *facts, struct disputing_party *party,
                         bulla_error *error)
{
    const struct referee_text text = dispute_text_table(disputing->text);
    int code = need_tree(disputing, error);
    if (code == BULLA_OK && !facts->is_derived) {
        code = text.derive(text.context, (const char *)answer->document.data, answer->document.length, choice, &facts->arena,
                           &facts->facts, error);
        facts->is_derived = code == BULLA_OK;
    }
    const struct party_options options = {.key = disputing->options.key, .proposer = proposer, .model = disputing->tree,
        .executor = &disputing->executor, .shared = &facts->trace, .hook = disputing->options.hook, .edit = disputing->options.edit,
        .edit_context = disputing->options.edit_context};
    /* Text and tokens that are not right are settled without a trace. */
    return code == BULLA_OK && !facts->facts.fault ? party_open(&options, &facts->facts, answer->id, choice, &party->party, error)
                                                   : code;
}

void disputing_free_facts(struct disputing_facts *facts)
{
    party_trace_close(&facts->trace);
    arena_free(&facts->arena);
    *facts = (struct disputing_facts){0};
}

void disputing_close_party(struct disputing_party *party)
{
    party_close(party->party);
    *party = (struct disputing_party){0};
}

/* Messages that are not known yet. By a folder all of them come again. */
static int follow(struct disputing *disputing, struct disputing_party *party, bulla_error *error)
{
    struct buffer text = {0}, message = {0};
    struct arena arena = {0};
    char id[2 * DISPUTE_HASH + 1], path[2 * DISPUTE_HASH + 64];
    uint64_t from = party_number(party->party);
    hex_encode(party->id, DISPUTE_HASH, id);
    snprintf(path, sizeof path, "/v1/disputes/%s?from=%llu", id, (unsigned long long)from);
    int code = dispute_carrier_get(disputing->carrier, path, &text, error);
    const struct json *list = text.length == 0 ? NULL
                              : json_get(json_parse((const char *)text.data, text.length, "the referee's messages", &arena, error),
                                         "messages");
    for (size_t i = 0; code == BULLA_OK && list && i < list->length; i++) {
        uint64_t number;
        if (!dispute_get_number(json_get(list->items[i], "message"), "number", UINT32_MAX, &number) ||
            number != party_number(party->party))
            continue;
        buffer_clear(&message);
        json_write_canonical(&message, list->items[i]);
        code = message.error.code != BULLA_OK ? bulla_fail(error, message.error.code, "%s", message.error.text)
                                              : party_take(party->party, message.data, message.length, error);
    }
    arena_free(&arena);
    buffer_free(&message);
    buffer_free(&text);
    return code;
}

int disputing_turn(struct disputing *disputing, struct disputing_party *party, bulla_error *error)
{
    struct buffer message = {0};
    bulla_error why = {0};
    int is_taken = 1;
    if (!party->party)
        return BULLA_OK;
    int code = follow(disputing, party, error);
    if (code == BULLA_OK && party->sent <= party_number(party->party))
        code = party_next(party->party, &message, error);
    if (code == BULLA_OK && message.length) {
        code = dispute_carrier_post(disputing->carrier, &message, &is_taken, &why, error);
        if (code == BULLA_OK && is_taken) /* else it is said again, as long as it is the own turn */
            party->sent = party_number(party->party) + 1;
    }
    if (code == BULLA_OK && !is_taken && strncmp(party->why, why.text, sizeof party->why - 1) != 0) {
        fprintf(stderr, "(the referee did not take a message: %s)\n", why.text);
        snprintf(party->why, sizeof party->why, "%s", why.text);
    }
    buffer_free(&message);
    return code;
}
