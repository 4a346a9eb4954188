/* One HTTP answer from one or more runs of a backend. */
#define _GNU_SOURCE
#include "serve/api_answer.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"

static const struct answer_error out_of_memory = {.status = 503, .type = "server_error", .code = "out_of_memory",
                                                  .message = "the server is short of memory; try again later",
                                                  .retry_after = 1};

static const struct answer_error too_long = {
    .status = 400, .type = "invalid_request_error", .code = "reply_too_long",
    .message = "the answer is longer than 64 MiB, the most that is given at once; ask for fewer prompts or inputs at a "
               "time, or for a smaller `n`, `max_tokens` or `top_logprobs`"};

static void link_answer(struct api_answer **list, struct api_answer *answer)
{
    answer->previous = NULL;
    answer->next = *list;
    if (*list)
        (*list)->previous = answer;
    *list = answer;
}

static void unlink_answer(struct api_answer **list, struct api_answer *answer)
{
    if (answer->previous)
        answer->previous->next = answer->next;
    else
        *list = answer->next;
    if (answer->next)
        answer->next->previous = answer->previous;
}

static void free_choice(struct api_choice *choice)
{
    buffer_free(&choice->text);
    buffer_free(&choice->reasoning);
    for (size_t i = 0; i < sizeof choice->lists / sizeof choice->lists[0]; i++)
        buffer_free(choice->lists + i);
    for (size_t i = 0; i < choice->tool_count; i++) {
        memory_free(choice->tools[i].id);
        memory_free(choice->tools[i].name);
        buffer_free(&choice->tools[i].arguments);
    }
    memory_free(choice->tools);
    memory_free(choice->stop);
}

static void free_answer(struct api_answer *answer)
{
    if (answer->form->close)
        answer->form->close(answer);
    api_receipt_close(answer);
    for (size_t i = 0; answer->choices && i < answer->choice_count; i++)
        free_choice(answer->choices + i);
    memory_free(answer->choices);
    memory_free(answer->runs);
    buffer_free(&answer->out);
    buffer_free(&answer->head);
    buffer_free(&answer->tail);
    api_request_free(&answer->request);
    answer->call.api->held -= answer->held;
    memory_free(answer);
}

static void hold(struct api_answer *answer, size_t bytes)
{
    answer->held += bytes;
    answer->call.api->held += bytes;
}

void answer_gather(struct api_answer *answer, size_t bytes)
{
    answer->gathered += bytes;
    hold(answer, bytes);
}

/* The tokens of the choice that has most. Usage counts all choices together. */
static uint64_t find_most_tokens(const struct api_answer *answer)
{
    uint64_t most = 0;
    for (size_t i = 0; i < answer->choice_count; i++)
        most = answer->choices[i].tokens > most ? answer->choices[i].tokens : most;
    return answer->choice_count == 1 ? answer->usage.output_tokens : most;
}

/* Exactly once for an answer that was linked: it is recorded, and freed when the event loop is back. */
static void finish_answer(struct api_answer *answer, int status)
{
    struct api *api = answer->call.api;
    struct rules_record *record = &answer->call.record;
    answer->is_done = 1;
    answer->call.exchange = NULL;
    record->usage = answer->usage;
    record->finish = answer->choices[0].finish;
    record->most_output_tokens = find_most_tokens(answer);
    api_call_record(&answer->call, status);
    unlink_answer(&api->answers, answer);
    link_answer(&api->ended, answer);
    if (--api->answer_count == 0) {
        event_del(api->tick);
        event_del(api->alarm);
        api->alarm_at = 0;
    }
    event_active(api->sweep, 0, 0);
}

void api_answer_fail(struct api_answer *answer, const struct answer_error *problem)
{
    if (answer->is_done)
        return;
    answer->call.record.error_code = api_problem_code(problem);
    if (!answer->has_begun) {
        api_call_fail(&answer->call, problem);
        finish_answer(answer, problem->status);
        return;
    }
    buffer_clear(&answer->out);
    if (answer->out.error.code == BULLA_OK)
        answer->form->fail(answer, problem);
    if (answer->out.error.code == BULLA_OK)
        api_stream_send(answer);
    if (answer->is_done)
        return;
    if (answer->out.error.code == BULLA_OK)
        http_reply_end(answer->call.exchange);
    else
        http_reply_abort(answer->call.exchange);
    finish_answer(answer, problem->status);
}

void api_answer_fail_memory(struct api_answer *answer)
{
    api_answer_fail(answer, &out_of_memory);
}

void api_answer_fail_all(struct api *api, const struct answer_error *problem)
{
    while (api->answers)
        api_answer_fail(api->answers, problem);
}

/* Sends what a stream's form wrote; what could not be written ends the answer. */
static void send_out(struct api_answer *answer)
{
    if (answer->gathered > API_MOST_REPLY || answer->out.error.code == BULLA_E_LIMIT)
        api_answer_fail(answer, &too_long);
    else if (answer->out.error.code != BULLA_OK || answer->head.error.code != BULLA_OK)
        api_answer_fail_memory(answer);
    else if (answer->request.is_stream && answer->out.length > 0)
        api_stream_send(answer);
}

/* Before the first piece of a choice, or its finish. */
static void begin_choice(struct api_answer *answer, struct api_choice *choice)
{
    if (choice->has_begun)
        return;
    choice->has_begun = 1;
    api_receipt_echo(answer, choice);
    if (answer->request.is_stream && answer->form->begin_choice)
        answer->form->begin_choice(answer, choice);
}

static void set_finish(struct api_answer *answer, struct api_choice *choice, const char *reason, const char *stop)
{
    bulla_error error = {0};
    if (answer->is_done || choice->finish)
        return;
    choice->finish = answer_finish_name(reason);
    if (stop && !(choice->stop = memory_copy_text(stop, strlen(stop), &error))) {
        api_answer_fail_memory(answer);
        return;
    }
    if (answer->request.is_stream)
        api_stream_begin(answer);
    if (answer->is_done)
        return;
    begin_choice(answer, choice);
    int is_held = api_receipt_finish(answer, choice);
    if (!answer->request.is_stream || !answer->form->finish)
        return;
    if (!is_held)
        answer->form->finish(answer, choice);
    send_out(answer);
}

void api_answer_complete(struct api_answer *answer)
{
    struct api_choice *held = api_receipt_held(answer);
    if (answer->request.is_stream)
        api_stream_begin(answer);
    if (answer->is_done)
        return;
    if (held && answer->request.is_stream && answer->form->finish)
        answer->form->finish(answer, held);
    answer->form->end(answer);
    for (size_t i = 0; i < answer->choice_count; i++)
        for (size_t k = 0; k < 4; k++)
            if (answer->choices[i].lists[k].error.code != BULLA_OK)
                bulla_fail(&answer->out.error, BULLA_E_MEMORY, "out of memory");
    send_out(answer);
    if (answer->is_done)
        return;
    if (answer->request.is_stream)
        http_reply_end(answer->call.exchange);
    else
        api_call_reply_json(&answer->call, 200, &answer->out);
    finish_answer(answer, 200);
}

/* All that there is to tell was told. */
static void complete(struct api_answer *answer)
{
    for (size_t i = 0; i < answer->choice_count; i++)
        if (answer->receipt)
            set_finish(answer, answer->choices + i, "stop", NULL);
        else if (!answer->choices[i].finish)
            answer->choices[i].finish = "stop";
    if (answer->is_done)
        return;
    if (answer->receipt)
        api_receipt_submit(answer);
    else
        api_answer_complete(answer);
}

static struct api_choice *find_choice(struct api_run *run, uint32_t choice)
{
    struct api_answer *answer = run->owner;
    uint32_t count = answer->request.answer.choices;
    return choice < count ? answer->choices + run->number * count + choice : NULL;
}

static void count_tokens(struct api_answer *answer, struct api_choice *choice, uint32_t tokens, uint64_t now)
{
    const struct serve_rules *rules = answer->call.api->rules;
    if (tokens == 0)
        return;
    if (rules && !choice->told && rules->first_token)
        rules->first_token(rules->context, answer->model->name, now - answer->call.record.received_nanoseconds);
    else if (rules && choice->told && rules->next_token)
        rules->next_token(rules->context, answer->model->name, now - choice->told, tokens);
    choice->told = now;
    choice->tokens += tokens;
}

static void on_prompt(void *context, const uint32_t *ids, size_t count)
{
    struct api_run *run = context;
    if (!run->owner->is_done)
        api_receipt_prompt(run->owner, run->number, ids, count);
}

static void on_delta(void *context, const struct answer_delta *delta)
{
    struct api_run *run = context;
    struct api_answer *answer = run->owner;
    struct api_choice *choice = find_choice(run, delta->choice);
    if (answer->is_done || run->state == RUN_ENDED || !choice)
        return;
    uint64_t now = clock_nanoseconds();
    count_tokens(answer, choice, delta->tokens, now);
    if (answer->request.is_stream)
        api_stream_begin(answer);
    if (answer->is_done)
        return;
    begin_choice(answer, choice);
    api_receipt_delta(answer, choice, delta);
    if (answer->form->delta)
        answer->form->delta(answer, choice, delta);
    if (choice->text.error.code != BULLA_OK || choice->reasoning.error.code != BULLA_OK)
        api_answer_fail_memory(answer);
    else
        send_out(answer);
    answer->call.record.front_nanoseconds += clock_nanoseconds() - now;
}

static void on_finish(void *context, uint32_t number, const char *reason, const char *stop)
{
    struct api_run *run = context;
    struct api_choice *choice = find_choice(run, number);
    if (run->state != RUN_ENDED && choice)
        set_finish(run->owner, choice, reason, stop);
}

static void on_embedding(void *context, const float *values, size_t count)
{
    struct api_run *run = context;
    struct api_answer *answer = run->owner;
    struct answer_error problem = {0};
    if (answer->is_done || run->state == RUN_ENDED || !answer->form->embedding)
        return;
    struct api_choice *choice = find_choice(run, 0);
    if (answer->form->embedding(answer, choice, values, count, &problem) != BULLA_OK)
        api_answer_fail(answer, &problem);
    else if (choice->text.error.code != BULLA_OK)
        api_answer_fail_memory(answer);
    else
        send_out(answer);
}

static void end_run(struct api_run *run)
{
    run->state = RUN_ENDED;
    run->answer = NULL;
    run->owner->running--;
    run->owner->ended_runs++;
}

/* After the end of one of its runs. */
static void go_on(struct api_answer *answer)
{
    if (answer->ended_runs == answer->run_count) {
        complete(answer);
    } else if (answer->next_run < answer->run_count) {
        answer->call.api->has_waiting_runs = 1;
        event_active(answer->call.api->sweep, 0, 0);
    }
}

static int has_told(const struct api_answer *answer)
{
    for (size_t i = 0; i < answer->choice_count; i++)
        if (answer->choices[i].tokens > 0)
            return 1;
    return 0;
}

/* Its choices end with what they have. */
static void finish_late(struct api_run *run)
{
    for (uint32_t i = 0; i < run->owner->request.answer.choices; i++)
        set_finish(run->owner, find_choice(run, i), "length", "deadline");
}

static void on_end(void *context, const struct answer_usage *usage)
{
    struct api_run *run = context;
    struct api_answer *answer = run->owner;
    if (run->state == RUN_ENDED)
        return;
    end_run(run);
    if (answer->is_done)
        return;
    answer->usage.prompt_tokens += usage->prompt_tokens;
    answer->usage.cached_tokens += usage->cached_tokens;
    answer->usage.output_tokens += usage->output_tokens;
    answer->usage.reasoning_tokens += usage->reasoning_tokens;
    if (run->number == 0) {
        answer->usage.queued_nanoseconds = usage->queued_nanoseconds;
        answer->usage.first_token_nanoseconds = usage->first_token_nanoseconds;
        answer->usage.total_nanoseconds = usage->total_nanoseconds;
    }
    go_on(answer);
}

/* A run whose time was up before its first token; others of its answer had some, and that stays. */
static int is_only_late(const struct api_run *run, const struct answer_error *problem)
{
    return problem->code && strcmp(problem->code, "deadline") == 0 && has_told(run->owner);
}

/* Backends call the prompt what they have it from; the client called it something else, or sent several. */
static void fail_run(struct api_run *run, const struct answer_error *found)
{
    static const char *const names[] = {"messages", "prompt", "input"};
    struct api_request *request = &run->owner->request;
    struct answer_error problem = *found;
    struct field_reader reader = {&request->json, &problem};
    struct place field = {NULL, request->prompt_key, 0}, item = {&field, NULL, run->number};
    int is_prompt = !found->param && found->code && strcmp(found->code, "context_length_exceeded") == 0;
    for (size_t i = 0; found->param && i < sizeof names / sizeof names[0]; i++)
        is_prompt |= strcmp(found->param, names[i]) == 0;
    if (is_prompt)
        problem.param = field_name(&reader, request->has_list ? &item : &field);
    api_answer_fail(run->owner, &problem);
}

static void on_fail(void *context, const struct answer_error *problem)
{
    struct api_run *run = context;
    struct api_answer *answer = run->owner;
    if (run->state == RUN_ENDED)
        return;
    end_run(run);
    if (!is_only_late(run, problem)) {
        fail_run(run, problem);
        return;
    }
    finish_late(run);
    if (!answer->is_done)
        go_on(answer);
}

static void start_run(struct api_answer *answer, struct api_run *run)
{
    struct backend *backend = answer->model->backend;
    struct answer_request request = api_request_of_prompt(&answer->request, run->number);
    struct answer_sink sink = {.context = run, .prompt = on_prompt, .delta = on_delta, .finish = on_finish,
                               .embedding = on_embedding, .end = on_end, .fail = on_fail};
    struct answer_error problem = {0};
    run->state = RUN_STARTING;
    answer->running++;
    struct answer *started = backend->class->start(backend, &request, &sink, &problem);
    if (run->state == RUN_ENDED)
        return; /* it told all before it returned */
    if (started) {
        run->answer = started;
        run->state = RUN_RUNNING;
        return;
    }
    end_run(run);
    if (!problem.status) {
        problem = (struct answer_error){.status = 500, .type = "server_error", .code = "internal_error"};
        snprintf(problem.message, sizeof problem.message, "the model's backend took no request and said no reason");
    }
    fail_run(run, &problem);
}

static void start_runs(struct api_answer *answer)
{
    while (!answer->is_done && answer->next_run < answer->run_count && answer->running < API_MOST_RUNS)
        start_run(answer, answer->runs + answer->next_run++);
}

void api_answer_sweep(struct api *api)
{
    while (api->ended) {
        struct api_answer *answer = api->ended;
        unlink_answer(&api->ended, answer);
        for (size_t i = 0; i < answer->run_count; i++)
            if (answer->runs[i].state == RUN_RUNNING)
                answer->model->backend->class->cancel(answer->runs[i].answer);
        models_end(api->models, answer->model);
        free_answer(answer);
    }
    models_sweep(api->models);
    if (!api->has_waiting_runs)
        return;
    api->has_waiting_runs = 0;
    for (struct api_answer *answer = api->answers, *next; answer; answer = next) {
        next = answer->next;
        start_runs(answer);
    }
}

/* Of what a run that is cut off has told, the tokens can be counted. */
static void cut_run(struct api_run *run)
{
    struct api_answer *answer = run->owner;
    for (uint32_t i = 0; i < answer->request.answer.choices; i++)
        answer->usage.output_tokens += find_choice(run, i)->tokens;
    finish_late(run);
}

static void end_late(struct api_answer *answer)
{
    static const struct answer_error late = {.status = 504, .type = "server_error", .code = "deadline",
                                             .message = "the request's time was up before its answer began"};
    if (api_receipt_is_submitted(answer)) /* it has ended */
        return;
    if (!has_told(answer)) {
        api_answer_fail(answer, &late);
        return;
    }
    for (size_t i = 0; i < answer->run_count; i++)
        if (answer->runs[i].state != RUN_ENDED)
            cut_run(answer->runs + i);
    if (!answer->is_done)
        complete(answer);
}

static void set_alarm(struct api *api, uint64_t deadline)
{
    uint64_t at = deadline + UINT64_C(1000000) * API_GRACE_MILLISECONDS, now = clock_nanoseconds();
    if (deadline == 0 || (api->alarm_at && api->alarm_at <= at))
        return;
    uint64_t left = at > now ? (at - now) / 1000 + 1 : 0;
    api->alarm_at = at;
    event_add(api->alarm, &(struct timeval){(time_t)(left / 1000000), (suseconds_t)(left % 1000000)});
}

void api_answer_end_late(struct api *api)
{
    uint64_t now = clock_nanoseconds(), grace = UINT64_C(1000000) * API_GRACE_MILLISECONDS;
    api->alarm_at = 0;
    for (struct api_answer *answer = api->answers, *next; answer; answer = next) {
        next = answer->next;
        if (answer->request.answer.deadline && answer->request.answer.deadline + grace <= now)
            end_late(answer);
        else
            set_alarm(api, answer->request.answer.deadline);
    }
}

static void on_close(void *context)
{
    struct api_answer *answer = context;
    if (answer->is_done)
        return;
    answer->call.record.error_code = "client_closed";
    finish_answer(answer, 499);
}

/* Largest first; a key may not ask for more than its own, and limits of the model and of the key hold both. The time
 * counts from when the request was whole. */
static void apply_limits(struct api_answer *answer)
{
    struct answer_request *request = &answer->request.answer;
    const struct rules_identity *identity = &answer->call.identity;
    uint64_t limits[] = {answer->model->most_tokens, identity->most_tokens};
    request->priority = answer->request.priority < identity->priority ? (int)answer->request.priority
                                                                      : identity->priority;
    for (size_t i = 0; i < 2; i++)
        if (limits[i] && (request->max_tokens == 0 || request->max_tokens > limits[i]))
            request->max_tokens = limits[i];
    uint64_t longest = answer->request.most_nanoseconds, of_model = UINT64_C(1000000000) * answer->model->most_seconds;
    if (of_model && (longest == 0 || of_model < longest))
        longest = of_model;
    request->deadline = longest ? answer->call.record.received_nanoseconds + longest : 0;
}

/* The seed in effect, for x-bulla-seed. An upstream draws its own where the request has none, and is sent 63 bits of one. */
static void tell_seed(struct api_answer *answer)
{
    const struct answer_request *request = &answer->request.answer;
    int is_upstream = api_is_upstream(&answer->info);
    if (request->kind == ANSWER_EMBEDDING || (is_upstream && !request->has_seed))
        return;
    snprintf(answer->call.seed, sizeof answer->call.seed, "%" PRIu64,
             is_upstream ? request->sampling.seed & INT64_MAX : request->sampling.seed);
}

/* Ids, times, the seed where the request has none. */
static int name_answer(struct api_answer *answer)
{
    struct answer_request *request = &answer->request.answer;
    uint8_t random[API_RANDOM_BYTES + sizeof request->sampling.seed];
    char digits[2 * API_RANDOM_BYTES + 1];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return 0;
    hex_encode(random, API_RANDOM_BYTES, digits);
    snprintf(answer->id, sizeof answer->id, "%s%s", answer->form->id_prefix, digits);
    if (!request->has_seed)
        memcpy(&request->sampling.seed, random + API_RANDOM_BYTES, sizeof request->sampling.seed);
    answer->created = (uint64_t)time(NULL);
    answer->model_name = answer->request.model && *answer->request.model ? answer->request.model : answer->model->name;
    request->id = answer->call.id;
    request->model = answer->model_name;
    request->tenant = answer->call.identity.tenant;
    struct backend *backend = answer->model->backend;
    backend->class->describe(backend, &answer->info);
    answer->call.is_unverified = !answer->info.is_verified;
    tell_seed(answer);
    if (answer->info.model_root)
        snprintf(answer->fingerprint, sizeof answer->fingerprint, "bulla-%.12s", answer->info.model_root);
    return 1;
}

static int open_parts(struct api_answer *answer)
{
    bulla_error error = {0};
    uint32_t choices = answer->request.answer.choices;
    answer->run_count = answer->request.prompt_count;
    answer->choice_count = answer->run_count * choices;
    answer->runs = memory_alloc(answer->run_count, sizeof *answer->runs, &error);
    answer->choices = memory_alloc(answer->choice_count, sizeof *answer->choices, &error);
    if (error.code != BULLA_OK)
        return 0;
    for (size_t i = 0; i < answer->run_count; i++)
        answer->runs[i] = (struct api_run){.owner = answer, .number = i};
    for (size_t i = 0; i < answer->choice_count; i++) {
        answer->choices[i].index = (uint32_t)i;
        answer->choices[i].run = answer->runs + i / choices;
    }
    return 1;
}

static void fill_record(struct api_answer *answer)
{
    struct rules_record *record = &answer->call.record;
    record->is_stream = answer->request.is_stream;
    record->prompt_limit = answer->info.context;
    record->most_tokens = answer->request.answer.max_tokens;
    record->choices = answer->request.answer.choices;
}

/* Everything before the backend is asked; 0 with the problem filled. */
static int prepare(struct api_answer *answer, struct answer_error *problem)
{
    if (!name_answer(answer) || !open_parts(answer)) {
        *problem = out_of_memory;
        return 0;
    }
    /* What an upstream enforces is its own business. */
    if (!api_is_upstream(&answer->info) && api_check_tool_schemas(answer->call.api, &answer->request,
                                                                  answer->form == &response_form, problem) != BULLA_OK)
        return 0;
    if (api_request_check_ids(&answer->request, answer->info.vocabulary, problem) != BULLA_OK)
        return 0;
    apply_limits(answer);
    fill_record(answer);
    answer->out.limit = API_MOST_REPLY;
    if (api_receipt_open(answer, problem) != BULLA_OK)
        return 0;
    if (answer->form->open && answer->form->open(answer, problem) != BULLA_OK)
        return 0;
    hold(answer, sizeof *answer + answer->request.kept.total + answer->run_count * sizeof *answer->runs +
                     answer->choice_count * sizeof *answer->choices);
    if (answer->call.api->held <= answer->call.api->most_held)
        return 1;
    *problem = api_overloaded;
    return 0;
}

void api_answer_begin(struct api_call *call, struct api_request *request, const struct answer_form *form)
{
    struct api *api = call->api;
    struct answer_error problem = out_of_memory;
    struct served_model *model = api_call_find_model(call, request->model);
    if (!model) {
        api_request_free(request);
        return;
    }
    struct api_answer *answer = memory_alloc(1, sizeof *answer, NULL);
    if (!answer) {
        api_request_free(request);
        api_call_fail(call, &problem);
        return;
    }
    answer->call = *call;
    answer->request = *request;
    answer->form = form;
    answer->model = model;
    if (!prepare(answer, &problem)) {
        api_call_fail(&answer->call, &problem);
        free_answer(answer);
        return;
    }
    http_drop_body(call->exchange);
    models_begin(model);
    answer->call.is_answer = 1;
    link_answer(&api->answers, answer);
    if (api->answer_count++ == 0) {
        uint64_t period = api->keep_alive_nanoseconds / 3;
        event_add(api->tick, &(struct timeval){(time_t)(period / 1000000000), (suseconds_t)(period % 1000000000 / 1000)});
    }
    set_alarm(api, answer->request.answer.deadline);
    answer->written = call->record.received_nanoseconds;
    http_on_close(call->exchange, on_close, answer);
    answer->call.record.front_nanoseconds = clock_nanoseconds() - call->record.received_nanoseconds;
    start_runs(answer);
    api_request_forget(&answer->request);
}
