/* Answers under way: their beginning, their way to the worker, and their end. Each choice of an answer is a request of
 * its own to the worker, which names it by a number.
 *
 * A sink may cancel any answer, start others and close the backend from inside a call. So an answer that is being
 * told about is held, and what is left of it freed afterwards. */
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/memory.h"
#include "serve/native_internal.h"

enum {
    RETRY_SECONDS = 1,
    RETRY_FAILED_SECONDS = 30,
    MOST_HELD = 256 << 20,  /* bytes of all answers under way together: here or in the worker */
    MOST_UNSENT = 64 << 20  /* bytes for the worker; while more wait nothing is added to them */
};

_Static_assert((int)ANSWER_MOST_CHOICES == (int)WIRE_MOST_CHOICES, "a frame holds all choices of an answer");

void native_problem_set(struct answer_error *problem, int status, const char *type, const char *code, const char *param,
                        unsigned retry_after, const char *message)
{
    *problem = (struct answer_error){.status = status, .type = type, .code = code, .param = param,
                                     .retry_after = retry_after};
    snprintf(problem->message, sizeof problem->message, "%s", message);
}

void native_problem_of(struct answer_error *problem, int code, const char *param, const char *message)
{
    if (code == BULLA_E_LIMIT)
        native_problem_set(problem, 400, "invalid_request_error", "context_length_exceeded", param, 0, message);
    else if (code == BULLA_E_INPUT || code == BULLA_E_USAGE)
        native_problem_set(problem, 400, "invalid_request_error", "invalid_value", param, 0, message);
    else if (code == BULLA_E_UNSUPPORTED)
        native_problem_set(problem, 400, "invalid_request_error", "unsupported", param, 0, message);
    else if (code == BULLA_E_MEMORY)
        native_problem_set(problem, 503, "overloaded_error", "out_of_memory", NULL, RETRY_SECONDS, message);
    else
        native_problem_set(problem, 500, "server_error", "internal_error", NULL, 0, message);
}

void native_problem_of_deadline(struct answer_error *problem)
{
    native_problem_set(problem, 504, "server_error", "deadline", NULL, 0,
                       "the request's time was up before its answer began");
}

/* ---- Lists and slots ---- */

static void leave_list(struct answer *answer)
{
    struct answer_list *list = answer->list;
    *(answer->previous ? &answer->previous->next : &list->first) = answer->next;
    *(answer->next ? &answer->next->previous : &list->last) = answer->previous;
    answer->previous = answer->next = NULL;
    answer->list = NULL;
}

static void join_list(struct answer *answer, struct answer_list *list)
{
    answer->previous = list->last;
    *(list->last ? &list->last->next : &list->first) = answer;
    list->last = answer;
    answer->list = list;
}

/* Slots for `count` more choices. */
static int reserve_slots(struct native *native, uint32_t count, bulla_error *error)
{
    if (native->slot_capacity - native->choices >= count)
        return BULLA_OK;
    uint32_t capacity = 2 * native->slot_capacity + count;
    struct native_slot *slots = memory_resize(native->slots, capacity, sizeof *slots, error);
    if (!slots)
        return BULLA_E_MEMORY;
    native->slots = slots;
    native->slot_capacity = capacity;
    return BULLA_OK;
}

/* The number by which the worker knows the choice. */
static uint64_t take_slot(struct native *native, struct answer *answer, uint32_t choice)
{
    uint32_t number = native->free_slot ? native->free_slot - 1 : native->slot_count++;
    struct native_slot *slot = &native->slots[number];
    if (native->free_slot)
        native->free_slot = slot->next_free;
    else
        *slot = (struct native_slot){0};
    slot->answer = answer;
    slot->choice = choice;
    slot->takes++;
    native->choices++;
    return (uint64_t)slot->takes << 32 | number;
}

static void free_slot(struct native *native, uint64_t request)
{
    uint32_t number = (uint32_t)request;
    struct native_slot *slot = &native->slots[number];
    slot->answer = NULL;
    slot->next_free = native->free_slot;
    native->free_slot = number + 1;
    native->choices--;
}

/* NULL where the number means nothing. */
struct native_slot *native_find_slot(struct native *native, uint64_t request)
{
    uint32_t number = (uint32_t)request;
    if (number >= native->slot_count)
        return NULL;
    struct native_slot *slot = &native->slots[number];
    return slot->answer && slot->takes == request >> 32 ? slot : NULL;
}

/* ---- Tenants ---- */

static int is_named(const struct native_tenant *tenant, const char *name)
{
    return tenant->name && name ? strcmp(tenant->name, name) == 0 : !tenant->name && !name;
}

/* The one of that name with so many choices more; NULL after an error. */
static struct native_tenant *join_tenant(struct native *native, const char *name, uint32_t choices, bulla_error *error)
{
    struct native_tenant *tenant = native->tenants;
    while (tenant && !is_named(tenant, name))
        tenant = tenant->next;
    if (!tenant) {
        tenant = memory_alloc(1, sizeof *tenant, error);
        if (tenant && name && !(tenant->name = memory_copy_text(name, strlen(name), error))) {
            memory_free(tenant);
            tenant = NULL;
        }
        if (!tenant)
            return NULL;
        tenant->next = native->tenants;
        native->tenants = tenant;
    }
    tenant->choices += choices;
    return tenant;
}

static void leave_tenant(struct native *native, struct native_tenant *tenant, uint32_t choices)
{
    struct native_tenant **link = &native->tenants;
    if ((tenant->choices -= choices) > 0)
        return;
    while (*link != tenant)
        link = &(*link)->next;
    *link = tenant->next;
    memory_free(tenant->name);
    memory_free(tenant);
}

/* Whether there is a place for so many choices of the tenant. No tenant gets more than half of the places while another
 * has any; what one took before, when it was alone, is not in the way of others. */
static int has_places(const struct native *native, const char *name, uint32_t choices, const char **why)
{
    uint64_t half = native->most_choices > 1 ? native->most_choices / 2 : 1, own = choices, others = 0;
    for (const struct native_tenant *tenant = native->tenants; tenant; tenant = tenant->next)
        if (is_named(tenant, name))
            own += tenant->choices;
        else
            others += tenant->choices < half ? tenant->choices : half;
    int is_greedy = others > 0 && own > half;
    *why = is_greedy ? "too many answers of this key are under way beside those of others"
                     : "too many answers are under way";
    return !is_greedy && own + others <= native->most_choices;
}

/* ---- The end of an answer ---- */

static void free_answer(struct answer *answer)
{
    for (uint32_t i = 0; i < answer->request.choices; i++)
        output_parser_close(answer->choices[i].parser);
    native_prompt_free(&answer->prompt);
    memory_free(answer);
}

void native_answer_release(struct answer *answer)
{
    if (--answer->holds == 0 && !answer->list)
        free_answer(answer);
}

/* Lets go of its choices, in the worker too; the sink is not called any more. The caller holds it. */
static void detach(struct answer *answer)
{
    struct native *native = answer->native;
    int is_running = answer->list == &native->running;
    for (uint32_t i = 0; i < answer->request.choices; i++) {
        struct native_choice *choice = &answer->choices[i];
        if (is_running && !choice->has_ended && native->run.phase == NATIVE_RUNNING)
            wire_write_cancel(&native->run.out, choice->request);
        free_slot(native, choice->request);
    }
    native->held_bytes -= answer->held_bytes;
    leave_tenant(native, answer->tenant, answer->request.choices);
    if (!is_running)
        native->waiting_choices -= answer->request.choices;
    leave_list(answer);
}

/* Where memory is short for a CANCEL the worker goes on in vain; what it tells is left aside. */
static void flush(struct native *native)
{
    bulla_error_clear(&native->run.out.error);
    native_run_flush(&native->run);
}

void native_answer_cancel(struct answer *answer)
{
    if (!answer->list) /* it has ended, and its sink is just being told */
        return;
    struct native *native = answer->native;
    answer->holds++;
    detach(answer);
    flush(native);
    native_answer_release(answer);
}

void native_answer_fail(struct answer *answer, const struct answer_error *problem)
{
    if (!answer->list)
        return;
    struct native *native = answer->native;
    answer->holds++;
    detach(answer);
    flush(native);
    answer->sink.fail(answer->sink.context, problem);
    native_answer_release(answer);
}

void native_answer_end(struct answer *answer)
{
    struct answer_usage usage = answer->usage;
    uint64_t now = clock_nanoseconds();
    usage.total_nanoseconds = now - answer->started;
    usage.first_token_nanoseconds = (answer->first_token ? answer->first_token : now) - answer->started;
    answer->holds++;
    detach(answer);
    answer->sink.end(answer->sink.context, &usage);
    native_answer_release(answer);
}

/* ---- To the worker ---- */

static void fill_request(const struct answer *answer, struct scheduler_text stops[SCHEDULER_MOST_STOPS],
                         struct scheduler_request *out)
{
    const struct answer_request *request = &answer->request;
    const struct buffer *grammar = &answer->prompt.grammar;
    *out = (struct scheduler_request){
        .prompt = answer->prompt.ids, .prompt_count = answer->prompt.count,
        .max_tokens = request->max_tokens, .sampling = request->sampling, .tenant = request->tenant,
        .shares_prefix = request->shares_prefix, .priority = request->priority, .deadline = request->deadline,
        .ignores_end = request->ignores_end, .logprobs = request->logprobs, .stops = stops,
        .stop_count = request->stop_count, .grammar = grammar->length ? (const char *)grammar->data : request->grammar,
        .grammar_length = grammar->length ? grammar->length : request->grammar_length,
        .embeds = request->kind == ANSWER_EMBEDDING,
    };
    for (size_t i = 0; i < request->stop_count; i++)
        stops[i] = (struct scheduler_text){request->stops[i], request->stop_lengths[i]};
}

/* The most that the answer takes, here or in the worker: all choices share a grammar; the rest each has for itself, stop
 * strings with a table of borders. */
static uint64_t held_bytes(const struct scheduler_request *request, uint32_t choices)
{
    uint64_t bytes = request->prompt_count * sizeof *request->prompt +
                     request->sampling.bias_count * sizeof *request->sampling.biases;
    for (size_t i = 0; i < request->stop_count; i++)
        bytes += request->stops[i].length * (1 + sizeof(size_t));
    return bytes * choices + (request->grammar ? request->grammar_length : 0);
}

/* The answer's requests to the worker, in one frame; its prompt is not needed any more. */
static int submit(struct answer *answer, bulla_error *error)
{
    struct native *native = answer->native;
    struct scheduler_text stops[SCHEDULER_MOST_STOPS];
    struct scheduler_request request;
    struct wire_choice choices[ANSWER_MOST_CHOICES];
    struct buffer *out = &native->run.out;
    uint64_t seed = answer->request.sampling.seed;
    size_t before = out->length;
    fill_request(answer, stops, &request);
    for (uint32_t i = 0; i < answer->request.choices; i++)
        choices[i] = (struct wire_choice){
            .id = answer->choices[i].request,
            .seed = answer->request.choices > 1 ? bulla_sampling_choice_seed(seed, i) : seed};
    wire_write_submit(out, &request, choices, answer->request.choices);
    if (out->error.code != BULLA_OK) { /* it never heard of any of them */
        int code = bulla_fail(error, out->error.code, "%s", out->error.text);
        bulla_error_clear(&out->error);
        out->length = before;
        return code;
    }
    if (answer->list == &native->waiting)
        native->waiting_choices -= answer->request.choices;
    if (answer->list)
        leave_list(answer);
    join_list(answer, &native->running);
    native_prompt_free(&answer->prompt);
    return BULLA_OK;
}

static int fail_overloaded(struct answer_error *problem, const char *why)
{
    native_problem_set(problem, 503, "overloaded_error", "overloaded", NULL, RETRY_SECONDS, why);
    return 0;
}

static void say_failed(const struct native *native, struct answer_error *problem)
{
    char message[sizeof problem->message];
    snprintf(message, sizeof message, "the model's worker does not start: %s",
             native->run.trouble[0] ? native->run.trouble : "the reason is not known");
    native_problem_set(problem, 503, "server_error", "worker_failed", NULL, RETRY_FAILED_SECONDS, message);
}

static int check_room(const struct native *native, const struct answer_request *request, struct answer_error *problem)
{
    const char *why;
    if (native->run.has_failed) {
        say_failed(native, problem);
        return 0;
    }
    if (!has_places(native, request->tenant, request->choices, &why))
        return fail_overloaded(problem, why);
    if (native_run_unsent(&native->run) > MOST_UNSENT)
        return fail_overloaded(problem, "too much waits to be sent to the model's worker");
    return 1;
}

/* What call ids are made from: the seed, and the prompt, so that a conversation's calls have different ones. */
static int parser_seed(const struct answer *answer, uint32_t choice, uint64_t *seed, bulla_error *error)
{
    uint8_t digest[HASH_SHA256_BYTES];
    uint64_t prompt;
    int code = hash_sha256(answer->prompt.ids, answer->prompt.count * sizeof *answer->prompt.ids, digest, error);
    memcpy(&prompt, digest, sizeof prompt);
    *seed = prompt ^ bulla_sampling_choice_seed(answer->request.sampling.seed, choice);
    return code;
}

/* ---- The worker comes and goes ---- */

void native_answers_ready(void *context)
{
    struct native *native = context;
    while (native->waiting.first && native->run.is_ready) {
        struct answer *answer = native->waiting.first;
        struct answer_error problem;
        bulla_error error = {0};
        answer->usage.queued_nanoseconds = clock_nanoseconds() - answer->started;
        if (submit(answer, &error) != BULLA_OK) {
            native_problem_of(&problem, error.code, NULL, error.text);
            native_answer_fail(answer, &problem);
        }
    }
    flush(native);
}

void native_answers_lost(void *context)
{
    struct native *native = context;
    struct answer_error problem;
    native_problem_set(&problem, 503, "server_error", "worker_died", NULL, RETRY_SECONDS,
                       "the worker that computed this answer "
                "died and is started again: send the request once more");
    while (native->running.first)
        native_answer_fail(native->running.first, &problem);
}

void native_answers_failed(void *context)
{
    struct native *native = context;
    struct answer_error problem;
    while (native->waiting.first) {
        say_failed(native, &problem);
        native_answer_fail(native->waiting.first, &problem);
    }
}

/* ---- Deadlines of answers that wait for a worker; the others' the worker sees ---- */

static void watch_deadline(struct native *native, uint64_t deadline)
{
    if (deadline == 0 || deadline >= native->next_deadline)
        return;
    uint64_t now = clock_nanoseconds(), microseconds = deadline > now ? (deadline - now) / 1000 + 1 : 0;
    const struct timeval delay = {.tv_sec = (time_t)(microseconds / 1000000),
                                  .tv_usec = (suseconds_t)(microseconds % 1000000)};
    native->next_deadline = deadline;
    evtimer_add(native->deadline_timer, &delay);
}

static struct answer *find_expired(const struct native *native, uint64_t now)
{
    struct answer *answer = native->waiting.first;
    while (answer && !(answer->request.deadline && answer->request.deadline <= now))
        answer = answer->next;
    return answer;
}

static void deadline_passed(evutil_socket_t descriptor, short what, void *context)
{
    struct native *native = context;
    struct answer_error problem;
    uint64_t now = clock_nanoseconds();
    native_enter(native);
    native_problem_of_deadline(&problem);
    for (struct answer *expired; (expired = find_expired(native, now)) != NULL;)
        native_answer_fail(expired, &problem);
    native->next_deadline = UINT64_MAX;
    for (const struct answer *answer = native->waiting.first; answer; answer = answer->next)
        watch_deadline(native, answer->request.deadline);
    native_leave(native);
}

int native_answers_open(struct native *native, struct event_base *base, bulla_error *error)
{
    native->next_deadline = UINT64_MAX;
    native->deadline_timer = evtimer_new(base, deadline_passed, native);
    return native->deadline_timer ? BULLA_OK : bulla_fail(error, BULLA_E_MEMORY,
                                                          "out of memory: the event base gives no timer");
}

void native_answers_close(struct native *native)
{
    if (native->deadline_timer)
        event_free(native->deadline_timer);
    native->deadline_timer = NULL;
}

void native_answers_end(struct native *native, const struct answer_error *problem)
{
    while (native->waiting.first)
        native_answer_fail(native->waiting.first, problem);
    while (native->running.first)
        native_answer_fail(native->running.first, problem);
}

/* ---- The beginning of an answer ---- */

static int open_parsers(struct answer *answer, bulla_error *error)
{
    int code = BULLA_OK;
    for (uint32_t i = 0; i < answer->request.choices && code == BULLA_OK && answer->prompt.is_parsed; i++) {
        struct native_choice *choice = &answer->choices[i];
        const struct output_parser_sink sink = {.context = choice, .piece = native_take_piece};
        uint64_t seed;
        code = parser_seed(answer, i, &seed, error);
        if (code == BULLA_OK)
            code = output_parser_open(&answer->native->format, answer->prompt.takes_tools, answer->prompt.is_thinking,
                                      seed,
                                      &sink, &choice->parser, error);
        choice->is_reasoning = answer->prompt.is_thinking;
    }
    return code;
}

/* All that can go wrong before the answer is under way. */
static int prepare(struct answer *answer, const char **param, bulla_error *error)
{
    struct native *native = answer->native;
    struct scheduler_text stops[SCHEDULER_MOST_STOPS];
    struct scheduler_request request;
    int code = native_prompt_make(native, &answer->request, 1, &native->limits, &answer->prompt, param, error);
    if (code == BULLA_OK)
        code = native_prompt_check(native, &answer->prompt, error);
    if (code == BULLA_OK) {
        fill_request(answer, stops, &request);
        answer->held_bytes = held_bytes(&request, answer->request.choices);
        code = wire_check_submit(&request, answer->request.choices, error);
    }
    if (code == BULLA_OK)
        code = open_parsers(answer, error);
    return code ? code : reserve_slots(native, answer->request.choices, error);
}

/* Puts a prepared answer under way: to the worker, or to wait for it. */
static int begin(struct answer *answer, bulla_error *error)
{
    struct native *native = answer->native;
    answer->tenant = join_tenant(native, answer->request.tenant, answer->request.choices, error);
    if (!answer->tenant)
        return BULLA_E_MEMORY;
    for (uint32_t i = 0; i < answer->request.choices; i++)
        answer->choices[i].request = take_slot(native, answer, i);
    native->held_bytes += answer->held_bytes;
    join_list(answer, &native->waiting);
    native->waiting_choices += answer->request.choices;
    int code = native->run.is_ready ? submit(answer, error) : BULLA_OK;
    if (code != BULLA_OK)
        detach(answer);
    else if (answer->list == &native->waiting)
        watch_deadline(native, answer->request.deadline);
    flush(native);
    return code;
}

struct answer *native_answer_start(struct backend *backend, const struct answer_request *request,
                                   const struct answer_sink *sink, struct answer_error *problem)
{
    struct native *native = (struct native *)(void *)backend;
    bulla_error error = {0};
    const char *param = NULL;
    if (request->choices == 0 || request->choices > ANSWER_MOST_CHOICES || request->stop_count > ANSWER_MOST_STOPS) {
        native_problem_set(problem, 400, "invalid_request_error", "invalid_value", request->choices ? "n" : "stop", 0,
                    "the number of choices or of stop strings is out of its range");
        return NULL;
    }
    if (!check_room(native, request, problem))
        return NULL;
    struct answer *answer = memory_alloc(1, sizeof *answer + request->choices * sizeof *answer->choices, &error);
    if (!answer) {
        native_problem_of(problem, error.code, NULL, error.text);
        return NULL;
    }
    answer->native = native;
    answer->request = *request;
    answer->sink = *sink;
    answer->started = clock_nanoseconds();
    answer->choices_left = request->choices;
    for (uint32_t i = 0; i < request->choices; i++)
        answer->choices[i].answer = answer;
    int code = prepare(answer, &param, &error);
    if (code == BULLA_OK && sink->prompt)
        sink->prompt(sink->context, answer->prompt.ids, answer->prompt.count);
    if (code == BULLA_OK && native->held_bytes + answer->held_bytes > MOST_HELD) {
        fail_overloaded(problem, "the prompts, grammars, stop strings and biases of the answers under way are too large "
                        "together");
        free_answer(answer);
        return NULL;
    }
    if (code == BULLA_OK)
        code = begin(answer, &error);
    if (code != BULLA_OK) {
        native_problem_of(problem, code, param, error.text);
        free_answer(answer);
        return NULL;
    }
    return answer;
}
