/* A party of a dispute that lies: the program of tests/python/test_dispute.py. Its run is altered, and it commits to that and
 * answers for it consistently; or it says what no party may say.
 *
 *     tool_dispute respond|challenge MODEL KEY REFEREE CA RECEIPT PROPOSER LIE
 *
 * CA and PROPOSER may be "-". LIE:
 *     none
 *     fault:OPERATION,ARRAY,POSITION,INDEX,BIT   one bit of its run
 *     token                 the bit of the logits with which the answer's last token is drawn
 *     garbage:KIND          an empty body instead of the message of that kind
 *     silent:KIND           never sends the message of that kind; any: none
 *     two-claims            says another trace root to each challenger
 * and prints what it chose. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/disputing.h"
#include "serve/dispute_text.h"
#include "trust/key_file.h"

struct lie {
    uint32_t operation, array;
    uint64_t position, index;
    int bit;
    const char *kind;
    int is_silent, equivocates, claims;
};

static int64_t altered_element(void *context, uint32_t operation, uint64_t position, uint32_t array, uint64_t index, int64_t value)
{
    const struct lie *lie = context;
    int is_it = operation == lie->operation && position == lie->position && array == lie->array && index == lie->index;
    return is_it ? (int64_t)((uint64_t)value ^ UINT64_C(1) << lie->bit) : value;
}

static int altered_operation(void *context, uint32_t operation, uint64_t *position)
{
    const struct lie *lie = context;
    *position = lie->position;
    return operation == lie->operation;
}

static int edit(void *context, enum dispute_kind kind, struct buffer *body)
{
    struct lie *lie = context;
    if (!lie->kind || (strcmp(lie->kind, "any") != 0 && strcmp(lie->kind, dispute_kind_name(kind)) != 0))
        return BULLA_OK;
    if (lie->is_silent)
        return BULLA_E_IO;
    if (lie->equivocates) { /* the root comes last in a claim */
        if (lie->claims++)
            body->data[body->length - 3] = body->data[body->length - 3] == '0' ? '1' : '0';
        return BULLA_OK;
    }
    buffer_clear(body);
    buffer_append_text(body, "{}");
    return BULLA_OK;
}

/* The logits' bit with which nothing looks wrong but that bit. */
static int find_bit(struct disputing *disputing, const char *path, struct lie *lie, const struct trace_hook *hook, bulla_error *error)
{
    uint8_t key[DISPUTE_KEY] = {0};
    struct disputing_answer answer = {0};
    struct disputing_facts facts = {0};
    struct disputing_party party = {0};
    int code = disputing_read_answer(disputing, path, key, &answer, error);
    if (code == BULLA_OK)
        code = disputing_open_party(disputing, &answer, 0, key, &facts, &party, error);
    if (code == BULLA_OK && !party.party)
        code = bulla_fail(error, BULLA_E_INPUT, "%s", facts.facts.why);
    if (code != BULLA_OK)
        return code;
    const struct step_answer said = party_path(party.party)->answer;
    const struct trace_options options = {.executor = &disputing->executor, .hook = hook};
    *lie = (struct lie){.operation = party_path(party.party)->program.program.operation_count - 1, .position = said.token_count - 2,
                        .index = said.tokens[said.token_count - 1]};
    code = BULLA_E_INPUT;
    for (lie->bit = 31; lie->bit >= 0 && code == BULLA_E_INPUT; lie->bit--) {
        struct trace *trace;
        code = trace_open(disputing->tree, &said, &options, &trace, error);
        if (code != BULLA_OK)
            break;
        int is_right = trace_cells(trace)->first_bad == UINT64_MAX;
        trace_close(trace);
        if (is_right)
            break;
        code = BULLA_E_INPUT;
    }
    printf("bit %d of logit %" PRIu64 " at %" PRIu64 "\n", lie->bit, lie->index, lie->position);
    disputing_close_party(&party);
    disputing_free_facts(&facts);
    disputing_free_answer(&answer);
    return code == BULLA_OK ? code : bulla_fail(error, code, "no bit of the logits gives the answer's last token");
}

static int play(struct disputing *disputing, char **argv, bulla_error *error)
{
    uint8_t proposer[DISPUTE_KEY] = {0};
    const char *path = argv[6];
    int is_right;
    if (strcmp(argv[1], "respond") == 0)
        return disputing_respond(disputing, &path, 1, error);
    int code = disputing_read_key(argv[7], proposer, error);
    const struct disputing_challenge challenge = {.path = path, .proposer = proposer, .choice = 0, .is_unaudited = 1};
    return code == BULLA_OK ? disputing_run_challenge(disputing, &challenge, &is_right, error) : code;
}

static int run(char **argv, bulla_error *error)
{
    EVP_PKEY *key;
    struct disputing *disputing = NULL;
    struct lie lie = {.operation = UINT32_MAX};
    const struct trace_hook hook = {.context = &lie, .element = altered_element, .altered = altered_operation};
    const char *what = argv[8];
    int code = key_file_open(argv[3], &key, error);
    if (code != BULLA_OK)
        return code;
    struct disputing_options options = {.model = argv[2], .key = key, .referee = argv[4], .ca = strcmp(argv[5], "-") ? argv[5] : NULL,
                                        .stake = "a liar's", .edit = edit, .edit_context = &lie};
    int has_fault = sscanf(what, "fault:%" SCNu32 ",%" SCNu32 ",%" SCNu64 ",%" SCNu64 ",%d", &lie.operation, &lie.array,
                           &lie.position, &lie.index, &lie.bit) == 5;
    int is_silent = strncmp(what, "silent:", 7) == 0;
    if (is_silent || strncmp(what, "garbage:", 8) == 0) {
        lie.kind = strchr(what, ':') + 1;
        lie.is_silent = is_silent;
    }
    if (strcmp(what, "two-claims") == 0) {
        lie.kind = dispute_kind_name(DISPUTE_CLAIM);
        lie.equivocates = 1;
    }
    if (has_fault || strcmp(what, "token") == 0)
        options.hook = &hook;
    code = disputing_open(&options, &disputing, error);
    if (code == BULLA_OK && strcmp(what, "token") == 0)
        code = find_bit(disputing, argv[6], &lie, &hook, error);
    if (code == BULLA_OK)
        code = play(disputing, argv, error);
    disputing_close(disputing);
    EVP_PKEY_free(key);
    return code;
}

int main(int argc, char **argv)
{
    bulla_error error = {0};
    if (argc != 9) {
        fprintf(stderr, "usage: tool_dispute respond|challenge MODEL KEY REFEREE CA RECEIPT PROPOSER LIE\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (run(argv, &error) == BULLA_OK)
        return 0;
    fprintf(stderr, "tool_dispute: %s\n", error.text);
    return 1;
}
