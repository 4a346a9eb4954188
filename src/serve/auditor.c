#include "serve/auditor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "check/audit.h"
#include "check/trace.h"
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
    /* Of one choice's facts, for a dispute. */
    struct arena *arena;      /* NULL: they are not asked for */
    struct dispute_facts *facts;
    uint32_t *tokens;         /* the last prompt that was made */
    size_t token_count, allowed_count, most_allowed;
    uint64_t **sets;
    uint8_t (*roots)[MERKLE_HASH];
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

const bulla_model *auditor_model(const struct auditor *auditor)
{
    return native_replay_model(auditor->replay);
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
    if (!audit->arena)
        return;
    audit->tokens = arena_alloc(audit->arena, count + 1, sizeof *audit->tokens, &audit->error);
    audit->token_count = count;
    if (audit->tokens)
        memcpy(audit->tokens, ids, count * sizeof *ids);
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

/* ---- Facts for a dispute ---- */

int auditor_read(struct auditor *auditor, const char *document, size_t length, struct arena *arena, struct claim *claim,
                 bulla_error *error)
{
    const bulla_receipt_options options = {0};
    bulla_verdict *verdict = NULL;
    int code = bulla_verify_receipt(document, length, &options, &verdict, error);
    if (code != BULLA_OK)
        return code;
    enum audit_finding finding = audit_find(&verdict->verdict);
    bulla_verdict_free(verdict);
    if (finding == AUDIT_UNBOUND || finding == AUDIT_FAILED)
        return bulla_fail(error, BULLA_E_INPUT, "the receipt is not signed, or its transcript is not what was signed");
    code = claim_read(document, length, arena, claim, error);
    if (code == BULLA_OK && (!claim->choices || !claim->request))
        code = bulla_fail(error, BULLA_E_INPUT, "the receipt's document has no transcript with the request");
    if (code == BULLA_OK && (strcmp(claim->receipt.backend, "native") != 0 ||
                             memcmp(claim->receipt.model_root, auditor->info.root, RECEIPT_HASH) != 0))
        code = bulla_fail(error, BULLA_E_UNSUPPORTED, "the answer is of another model, or of another engine");
    return code;
}

/* Walks tell it before each token. */
static int note_allowed(void *context, const uint64_t *allowed, bulla_error *error)
{
    struct audit *audit = context;
    size_t number = audit->allowed_count++;
    uint32_t vocabulary = audit->auditor->info.vocabulary;
    size_t words = ((size_t)vocabulary + 63) / 64;
    if (!allowed || number >= audit->most_allowed)
        return BULLA_OK;
    if (audit->sets) {
        audit->sets[number] = arena_alloc(audit->arena, words, sizeof **audit->sets, error);
        if (!audit->sets[number])
            return BULLA_E_MEMORY;
        memcpy(audit->sets[number], allowed, words * sizeof *allowed);
    }
    audit->facts->allowed_roots = (const uint8_t (*)[MERKLE_HASH])audit->roots;
    audit->facts->allowed = (const uint64_t *const *)audit->sets;
    return trace_allowed_root(allowed, vocabulary, audit->roots[number], error);
}

static enum walk_end find_end(const struct claim_choice *claim)
{
    if (strcmp(claim->finish, "length") != 0)
        return WALK_END_TOKEN;
    return !claim->stop ? WALK_LIMIT : strcmp(claim->stop, "range") == 0 ? WALK_RANGE
           : strcmp(claim->stop, "deadline") == 0 ? WALK_DEADLINE : WALK_LIMIT;
}

/* The first audit's check that failed, in words. */
static void set_fault(struct audit *audit, enum dispute_about about)
{
    const struct verdict *verdict = audit->verdict;
    struct dispute_facts *facts = audit->facts;
    for (size_t i = 0; i < verdict->count && !facts->fault; i++) {
        const bulla_check *check = &verdict->checks[i];
        if (check->state != BULLA_CHECK_FAILED || strncmp(check->name, "audit.", 6) != 0)
            continue;
        facts->fault = about;
        snprintf(facts->why, sizeof facts->why, "%.40s: %.70s%s%.70s", check->name, check->found ? check->found : "",
                 check->expected ? "; right is " : "", check->expected ? check->expected : "");
    }
}

static int find_ends(struct audit *audit)
{
    const bulla_tokenizer *tokenizer = bulla_model_tokenizer(native_replay_model(audit->auditor->replay));
    uint32_t count = 0, *ends, vocabulary = audit->auditor->info.vocabulary;
    for (uint32_t id = 0; id < vocabulary; id++)
        count += bulla_tokenizer_is_end(tokenizer, id) != 0;
    ends = arena_alloc(audit->arena, count + 1, sizeof *ends, &audit->error);
    if (!ends)
        return 0;
    for (uint32_t id = 0; id < vocabulary; id++)
        if (bulla_tokenizer_is_end(tokenizer, id))
            ends[audit->facts->end_count++] = id;
    audit->facts->ends = ends;
    return 1;
}

static void walk_choice(struct audit *audit, uint32_t number)
{
    uint32_t choices = audit->request.answer.choices;
    const struct claim_choice *claim = &audit->claim.choices[number];
    const struct native_replay_claim tokens = {claim->tokens, claim->token_count};
    const struct walk_options options = {.end = find_end(claim), .allowed = note_allowed, .context = audit};
    struct answer_error problem = {0};
    int has_end = 0;
    audit->most_allowed = claim->token_count + 1;
    audit->roots = arena_alloc(audit->arena, audit->most_allowed, MERKLE_HASH, &audit->error);
    if (audit->sets)
        audit->sets = arena_alloc(audit->arena, audit->most_allowed, sizeof *audit->sets, &audit->error);
    if (!start(audit, number / choices, &problem))
        bulla_fail(&audit->error, BULLA_E_INTERNAL, "a request that was taken before is not: %s", problem.message);
    else if (audit->error.code == BULLA_OK)
        native_replay_walk(audit->auditor->replay, number % choices, &tokens, &options, &audit->outcomes[number], &has_end,
                           audit->arena, &audit->facts->sampling, &audit->error);
    native_replay_stop(audit->auditor->replay);
    if (audit->error.code != BULLA_OK || !find_ends(audit))
        return;
    audit_check_choice(audit->verdict, &audit->claim.receipt, number, &audit->outcomes[number], &audit->deliveries[number]);
    set_fault(audit, DISPUTE_DELIVERY);
    uint32_t *joined = arena_alloc(audit->arena, audit->token_count + claim->token_count + 1, sizeof *joined, &audit->error);
    if (!joined)
        return;
    memcpy(joined, audit->tokens, audit->token_count * sizeof *joined);
    memcpy(joined + audit->token_count, claim->tokens, claim->token_count * sizeof *joined);
    audit->facts->tokens = joined;
    audit->facts->prompt_count = (uint32_t)audit->token_count;
    audit->facts->token_count = (uint32_t)(audit->token_count + claim->token_count);
    audit->facts->expects_end = has_end;
    audit->facts->expects_range = options.end == WALK_RANGE;
}

static void derive(struct audit *audit, const char *document, size_t length, uint32_t choice)
{
    const struct backend_info *info = &audit->auditor->info;
    const struct audit_model model = {info->root, info->tokenizer, info->chat_template, info->program_version};
    const bulla_receipt_options options = {0};
    if (claim_read(document, length, &audit->verdict->arena, &audit->claim, &audit->error) != BULLA_OK)
        return;
    if (choice >= audit->claim.receipt.choice_count || !audit->claim.choices)
        bulla_fail(&audit->error, BULLA_E_INPUT, "the answer has no choice %u", choice);
    else if (!audit_check_model(audit->verdict, &audit->claim.receipt, &model) || !take_request(audit, &options) ||
             !check_parameters(audit))
        set_fault(audit, DISPUTE_PARAMETERS);
    else if (open_choices(audit) && !check_prompt(audit))
        set_fault(audit, DISPUTE_PROMPT);
    else if (audit->error.code == BULLA_OK)
        walk_choice(audit, choice);
}

int auditor_derive(struct auditor *auditor, const char *document, size_t length, uint32_t choice, int wants_sets,
                   struct arena *arena, struct dispute_facts *facts, bulla_error *error)
{
    static uint64_t *wanted[1];
    bulla_verdict verdict = {0};
    *facts = (struct dispute_facts){0};
    struct audit audit = {.auditor = auditor, .verdict = &verdict.verdict, .arena = arena, .facts = facts,
                          .sets = wants_sets ? wanted : NULL};
    derive(&audit, document, length, choice);
    if (audit.steps.text.error.code != BULLA_OK)
        audit.error = audit.steps.text.error;
    api_steps_free(&audit.steps);
    api_request_free(&audit.request);
    verdict_free(&verdict.verdict);
    return audit.error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, audit.error.code, "%s", audit.error.text);
}
