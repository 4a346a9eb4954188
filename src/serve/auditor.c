#include "serve/auditor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "check/audit.h"
#include "serve/api_answer.h"
#include "serve/api_parameters.h"
#include "serve/api_steps.h"

enum { DAY = 86400 };

struct auditor {
    struct native_replay *replay;
    struct backend_info info;
};

/* One audit. */
struct audit {
    struct auditor *auditor;
    struct verdict *verdict;
    struct audit_cost *cost;
    struct claim claim;
    struct api_request request;
    int64_t time;             /* that the chat template saw */
    /* Of the prompt that goes through the model, or through the tokenizer alone. */
    size_t prompt;            /* its number */
    uint8_t (*hashes)[RECEIPT_HASH]; /* [request.prompt_count] */
    uint64_t prompt_tokens;
    /* Of all choices. */
    struct api_steps steps;
    struct audit_delivery *deliveries;
    int *has_begun;
    struct replay_outcome *outcomes;
    bulla_error error;
};

int auditor_open(const struct native_replay_options *options, struct auditor **result, bulla_error *error)
{
    struct auditor *auditor = memory_alloc(1, sizeof *auditor, error);
    *result = NULL;
    if (!auditor)
        return BULLA_E_MEMORY;
    int code = native_replay_open(options, &auditor->replay, error);
    if (code != BULLA_OK) {
        memory_free(auditor);
        return code;
    }
    native_replay_describe(auditor->replay, &auditor->info);
    *result = auditor;
    return BULLA_OK;
}

void auditor_close(struct auditor *auditor)
{
    if (!auditor)
        return;
    native_replay_close(auditor->replay);
    memory_free(auditor);
}

const uint8_t *auditor_model_root(const struct auditor *auditor)
{
    return auditor->info.root;
}

/* ---- The request ---- */

static int read_request(struct audit *audit, const void *body, size_t length, struct answer_error *problem)
{
    static const struct {
        const char *endpoint;
        int (*read)(const char *body, size_t length, struct api_request *request, struct answer_error *problem);
    } readers[] = {{"/v1/chat/completions", api_request_read_chat}, {"/v1/completions", api_request_read_completion},
                   {"/v1/responses", api_request_read_response}};
    const struct json *endpoint = json_get(audit->claim.receipt.parameters, "endpoint");
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (made_is_text(endpoint, readers[i].endpoint)) {
            int code = readers[i].read(body, length, &audit->request, problem);
            return code ? code : api_request_check_ids(&audit->request, audit->auditor->info.vocabulary, problem);
        }
    snprintf(problem->message, sizeof problem->message, "the receipt's endpoint is none that answers");
    return BULLA_E_INPUT;
}

/* 0 where it is none that a server answers. */
static int take_request(struct audit *audit, const bulla_receipt_options *options)
{
    const void *body = options->request ? options->request : audit->claim.request;
    size_t length = options->request ? options->request_length : audit->claim.request_length;
    struct answer_error problem = {0};
    if (!body)
        return verdict_fails(audit->verdict, "audit.request", "there is none");
    int code = read_request(audit, body, length, &problem);
    if (code == BULLA_E_MEMORY)
        bulla_fail(&audit->error, code, "%s", problem.message);
    if (code != BULLA_OK)
        return verdict_fails(audit->verdict, "audit.request", "a server refuses it: %s", problem.message);
    size_t choices = audit->request.prompt_count * audit->request.answer.choices;
    return verdict_holds(audit->verdict, "audit.request", choices == audit->claim.receipt.choice_count,
                         "as many answers as it asks for", "a request for %zu, and %zu answers", choices,
                         audit->claim.receipt.choice_count);
}

/* The seed that the server drew where the request has none; as it is in the receipt. */
static int take_seed(struct audit *audit, const char **text)
{
    const struct json *said = json_get(audit->claim.receipt.parameters, "seed");
    struct answer_request *answer = &audit->request.answer;
    char *seed = arena_alloc(&audit->verdict->arena, 24, 1, &audit->error);
    if (!seed)
        return 0;
    if (!answer->has_seed && (!json_is(said, JSON_STRING) || sscanf(said->text, "%" SCNu64, &answer->sampling.seed) != 1))
        return verdict_fails(audit->verdict, "audit.parameters", "seed: none that an answer was sampled with");
    snprintf(seed, 24, "%" PRIu64, answer->sampling.seed);
    *text = seed;
    return 1;
}

/* What the request gives, with what is the server's to say: limits, a seed, its model's name. */
static int check_parameters(struct audit *audit)
{
    const struct json *said = audit->claim.receipt.parameters, *name = json_get(said, "model");
    struct answer_request *answer = &audit->request.answer;
    struct api_parameters parameters = {.model = audit->request.model};
    struct buffer expected = {0};
    char limits[100] = "";
    int has_tokens, has_time;
    answer->max_tokens = audit_limit(json_get(said, "max_tokens"), answer->max_tokens, &has_tokens);
    parameters.microseconds = audit_limit(json_get(said, "timeout"), audit->request.most_nanoseconds / 1000, &has_time);
    if (has_tokens || has_time)
        snprintf(limits, sizeof limits, "%s%s%s", has_tokens ? "max_tokens" : "", has_tokens && has_time ? ", " : "",
                 has_time ? "timeout" : "");
    if ((!parameters.model || !*parameters.model) && json_is(name, JSON_STRING))
        parameters.model = name->text;
    parameters.endpoint = json_get(said, "endpoint")->text;
    if (!take_seed(audit, &parameters.seed))
        return 0;
    api_parameters_write(&audit->request, &parameters, audit->claim.salt, &expected);
    int is_same = 0;
    if (expected.error.code == BULLA_OK)
        is_same = audit_check_parameters(audit->verdict, &audit->claim.receipt, &expected, limits);
    else
        audit->error = expected.error;
    buffer_free(&expected);
    return is_same;
}

/* ---- What is told ---- */

static void on_prompt(void *context, const uint32_t *ids, size_t count)
{
    struct audit *audit = context;
    receipt_prompt_hash(audit->claim.salt, ids, count, audit->hashes[audit->prompt], &audit->error);
    audit->prompt_tokens += count;
}

static size_t begin_choice(struct audit *audit, uint32_t number)
{
    const struct api_prompt *prompt = audit->request.prompts + audit->prompt;
    size_t choice = audit->prompt * audit->request.answer.choices + number;
    if (!audit->has_begun[choice] && audit->request.echoes)
        api_steps_echo(&audit->steps, choice, prompt->text, prompt->length);
    audit->has_begun[choice] = 1;
    return choice;
}

static void on_delta(void *context, const struct answer_delta *delta)
{
    struct audit *audit = context;
    size_t choice = begin_choice(audit, delta->choice);
    audit_delivered_tokens(&audit->deliveries[choice], delta->tokens);
    api_steps_delta(&audit->steps, choice, delta);
}

static void on_finish(void *context, uint32_t number, const char *reason, const char *stop)
{
    struct audit *audit = context;
    api_steps_finish(&audit->steps, begin_choice(audit, number), answer_finish_word(answer_finish_name(reason)), stop);
}

static void on_end(void *context, const struct answer_usage *usage)
{
}

/* What is no fault of the request's is an error of the audit. */
static void note_problem(struct audit *audit, const struct answer_error *problem)
{
    if (problem->status >= 500)
        bulla_fail(&audit->error, problem->status == 503 ? BULLA_E_MEMORY : BULLA_E_INTERNAL, "%s", problem->message);
}

/* An answer that a server fails has no receipt: no finish is right. */
static void on_fail(void *context, const struct answer_error *problem)
{
    struct audit *audit = context;
    note_problem(audit, problem);
    for (uint32_t i = 0; i < audit->request.answer.choices; i++) {
        struct audit_delivery *delivery = &audit->deliveries[audit->prompt * audit->request.answer.choices + i];
        delivery->ends_so = 0;
        snprintf(delivery->finish, sizeof delivery->finish, "no answer: %.100s", problem->message);
    }
}

static void take_step(void *context, size_t choice, enum receipt_part part, const char *bytes, size_t length, int is_plain)
{
    struct audit *audit = context;
    audit_delivered(&audit->deliveries[choice], part, bytes, length);
}

static int start(struct audit *audit, size_t prompt, struct answer_error *problem)
{
    const struct answer_sink sink = {.context = audit, .prompt = on_prompt, .delta = on_delta, .finish = on_finish,
                                     .end = on_end, .fail = on_fail};
    const struct answer_request request = api_request_of_prompt(&audit->request, prompt);
    audit->prompt = prompt;
    if (native_replay_start(audit->auditor->replay, &request, audit->time, &sink, problem))
        return 1;
    note_problem(audit, problem);
    return 0;
}

/* ---- The prompt ---- */

/* The hash of all prompts as a chat template writes them at that time. */
static int hash_prompts(struct audit *audit, int64_t time, uint8_t hash[RECEIPT_HASH], struct answer_error *problem)
{
    int is_taken = 1;
    audit->time = time;
    audit->prompt_tokens = 0;
    for (size_t i = 0; is_taken && i < audit->request.prompt_count; i++) {
        is_taken = start(audit, i, problem);
        native_replay_stop(audit->auditor->replay);
    }
    return is_taken && receipt_prompts_hash(audit->claim.salt, (const uint8_t (*)[RECEIPT_HASH])audit->hashes,
                                            audit->request.prompt_count, hash, &audit->error) == BULLA_OK;
}

/* Templates may write the day. The receipt is of the answer's end, which may be a day later than its beginning. */
static int check_prompt(struct audit *audit)
{
    const struct receipt *receipt = &audit->claim.receipt;
    const int64_t times[] = {receipt->time, receipt->time - receipt->time % DAY - 1};
    struct answer_error problem = {0};
    uint8_t hash[RECEIPT_HASH];
    int is_made = 1, is_same = 0;
    for (size_t i = 0; i < 2 && is_made && !is_same; i++) {
        is_made = hash_prompts(audit, times[i], hash, &problem);
        is_same = is_made && memcmp(hash, receipt->prompt, RECEIPT_HASH) == 0;
    }
    if (audit->error.code != BULLA_OK)
        return 0;
    if (!is_made)
        return verdict_fails(audit->verdict, "audit.prompt", "a server refuses the request: %s", problem.message);
    verdict_same_bytes(audit->verdict, "audit.prompt", receipt->prompt, RECEIPT_HASH, hash, RECEIPT_HASH);
    return verdict_same_number(audit->verdict, "audit.prompt_tokens", receipt->prompt_tokens, audit->prompt_tokens) && is_same;
}

/* ---- The answer ---- */

static void count_cost(struct audit *audit, const struct replay_outcome *outcome)
{
    if (!audit->cost)
        return;
    audit->cost->prompt_positions += outcome->prompt_positions;
    audit->cost->answer_positions += outcome->answer_positions;
    audit->cost->prompt_seconds += outcome->prompt_seconds;
    audit->cost->answer_seconds += outcome->answer_seconds;
}

static void run_prompt(struct audit *audit, size_t prompt)
{
    struct native_replay_claim claims[ANSWER_MOST_CHOICES];
    struct answer_error problem = {0};
    uint32_t count = audit->request.answer.choices;
    size_t first = prompt * count;
    for (uint32_t i = 0; i < count; i++)
        claims[i] = (struct native_replay_claim){audit->claim.choices[first + i].tokens,
                                                 audit->claim.choices[first + i].token_count};
    if (!start(audit, prompt, &problem)) /* bulla_fail keeps the first error */
        bulla_fail(&audit->error, BULLA_E_INTERNAL, "a request that was taken before is not: %s", problem.message);
    else
        native_replay_run(audit->auditor->replay, claims, audit->outcomes + first, &audit->error);
    native_replay_stop(audit->auditor->replay);
    for (uint32_t i = 0; audit->error.code == BULLA_OK && i < count; i++) {
        count_cost(audit, &audit->outcomes[first + i]);
        audit_check_choice(audit->verdict, &audit->claim.receipt, first + i, &audit->outcomes[first + i],
                           &audit->deliveries[first + i]);
    }
}

/* What is needed for all choices; in the verdict's arena, but for the steps. */
static int open_choices(struct audit *audit)
{
    struct arena *arena = &audit->verdict->arena;
    size_t count = audit->claim.receipt.choice_count;
    audit->hashes = arena_alloc(arena, audit->request.prompt_count, sizeof *audit->hashes, &audit->error);
    audit->deliveries = arena_alloc(arena, count, sizeof *audit->deliveries, &audit->error);
    audit->has_begun = arena_alloc(arena, count, sizeof *audit->has_begun, &audit->error);
    audit->outcomes = arena_alloc(arena, count, sizeof *audit->outcomes, &audit->error);
    audit->steps = (struct api_steps){.take = take_step, .context = audit};
    api_steps_open(&audit->steps, count, &audit->error);
    if (audit->error.code != BULLA_OK)
        return 0;
    for (size_t i = 0; i < count; i++)
        audit->deliveries[i] = (struct audit_delivery){.claim = &audit->claim.choices[i]};
    return 1;
}

static void audit_answer(struct audit *audit, const bulla_receipt_options *options)
{
    int is_known = take_request(audit, options) && check_parameters(audit) && open_choices(audit) && check_prompt(audit);
    if (!is_known) {
        audit_lacks(audit->verdict, "audit.tokens", "what was asked is not what the receipt says");
        return;
    }
    for (size_t i = 0; i < audit->request.prompt_count && audit->error.code == BULLA_OK; i++)
        run_prompt(audit, i);
    if (audit->steps.text.error.code != BULLA_OK)
        audit->error = audit->steps.text.error;
}

static void audit_document(struct audit *audit, const char *document, size_t length, const bulla_receipt_options *options)
{
    const struct backend_info *info = &audit->auditor->info;
    const struct audit_model model = {info->root, info->tokenizer, info->chat_template, info->program_version};
    bulla_error why = {0};
    int code = claim_read(document, length, &audit->verdict->arena, &audit->claim, &why);
    if (code == BULLA_E_MEMORY)
        audit->error = why;
    else if (code != BULLA_OK)
        audit_lacks(audit->verdict, "audit.tokens", why.text);
    else if (strcmp(audit->claim.receipt.backend, "native") != 0)
        audit_lacks(audit->verdict, "audit.tokens", "another engine computed the answer: attested only");
    else if (!audit_check_model(audit->verdict, &audit->claim.receipt, &model))
        audit_lacks(audit->verdict, "audit.tokens", "it is another model's answer");
    else if (!audit->claim.choices)
        audit_lacks(audit->verdict, "audit.tokens", "there is no transcript: nobody says which tokens were answered");
    else
        audit_answer(audit, options);
}

int auditor_audit(struct auditor *auditor, const char *document, size_t length, const bulla_receipt_options *options,
                  bulla_verdict **verdict, struct audit_cost *cost, bulla_error *error)
{
    struct audit audit = {.auditor = auditor, .cost = cost};
    int code = bulla_verify_receipt(document, length, options, verdict, error);
    if (code != BULLA_OK)
        return code;
    audit.verdict = &(*verdict)->verdict;
    if (!options->evidence.policy)
        audit_without_policy(audit.verdict);
    audit_document(&audit, document, length, options);
    api_steps_free(&audit.steps);
    api_request_free(&audit.request);
    if (audit.error.code == BULLA_OK && audit.verdict->error.code != BULLA_OK)
        audit.error = audit.verdict->error;
    if (audit.error.code == BULLA_OK)
        return BULLA_OK;
    bulla_verdict_free(*verdict);
    *verdict = NULL;
    return bulla_fail(error, audit.error.code, "%s", audit.error.text);
}
