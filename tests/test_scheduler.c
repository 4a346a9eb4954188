/* The scheduler's answers against the same requests answered alone: whatever runs beside them, in whatever rows a step,
 * with pages to spare or given back in the middle, cancelled, late, with speculation or without. */
#include "test.h"

#include "answer_model.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "exec/generate.h"
#include "exec/grammar.h"
#include "exec/scheduler_internal.h"
#include "random_program.h"

enum { MOST_ASKED = 40, MOST_PROMPT = 200, MOST_STOPS = 3, STEMS = 3, EXP24 = 1, REASONS = SCHEDULER_FAILED + 1 };

static uint64_t random_state = 7;

/* One call a full expression: compilers order the calls within one as they like, and would test different things. */
static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

/* What an answer is: ids, text, how it ended. */
struct said {
    struct buffer tokens, text; /* tokens: u32 each */
    enum scheduler_finish_reason reason;
    const char *stop;
    uint64_t range_position;
    uint32_t range_operation;
};

/* A request, what it is answered alone, and what the scheduler said. */
struct asked {
    struct scheduler_request request;
    uint32_t prompt[MOST_PROMPT];
    struct scheduler_text stops[MOST_STOPS];
    char stop_texts[MOST_STOPS][8], grammar[200];
    struct said alone, heard;
    int is_added, is_cancelled, finishes;
    int was_preempted; /* with tokens drawn */
};

struct world {
    bulla_model *model;
    const bulla_program *program;
    bulla_engine *alone, *engine;
    struct scheduler *scheduler;
    uint32_t stems[STEMS][MOST_PROMPT];
    struct asked asked[MOST_ASKED];
    uint32_t count, added;
    uint64_t tokens; /* heard */
    int meddles;     /* callbacks add and cancel */
};

struct totals {
    uint64_t reasons[REASONS], answers, stops, preemptions, accepted, cached, grammars, resumed;
};

/* --- alone --- */

/* Position after position: for what generate() does not do. */
static void answer_plainly(struct world *world, struct asked *asked, uint64_t limit)
{
    bulla_error error = {0};
    const struct scheduler_request *request = &asked->request;
    const bulla_program *program = world->program;
    const bulla_tokenizer *tokenizer = bulla_model_tokenizer(world->model);
    struct said *said = &asked->alone;
    struct grammar_vocabulary *vocabulary = NULL;
    struct grammar *grammar = NULL;
    struct grammar_state *state = NULL;
    bulla_sequence *sequence;
    bulla_sampler *sampler;
    int32_t *logits = memory_alloc(program->vocabulary, sizeof *logits, &error);
    if (request->grammar) {
        assert_ok(grammar_vocabulary_open(tokenizer, program->vocabulary, &vocabulary, &error), error);
        assert_ok(grammar_compile(request->grammar, request->grammar_length, &grammar, &error), error);
        assert_ok(grammar_state_open(grammar, vocabulary, &state, &error), error);
    }
    assert_ok(bulla_sequence_open(world->alone, request->prompt_count - 1, &sequence, &error), error);
    assert_ok(bulla_sampler_open(program->vocabulary, program->data[EXP24], &sampler, &error), error);
    bulla_piece piece = {.sequence = sequence, .ids = request->prompt, .count = (uint32_t)request->prompt_count,
                         .logits_from = (uint32_t)request->prompt_count - 1, .logits = logits};
    said->reason = SCHEDULER_LENGTH;
    for (uint64_t count = 0; count < limit; count++) {
        uint32_t token;
        const uint64_t *allowed = NULL;
        assert_ok(bulla_engine_step(world->alone, &piece, 1, &error), error);
        if (piece.code == BULLA_E_RANGE) {
            said->reason = SCHEDULER_RANGE;
            said->range_position = piece.range_position;
            said->range_operation = piece.range_operation;
            break;
        }
        if (state)
            assert_ok(grammar_state_allowed(state, &allowed, &error), error);
        assert_ok(bulla_sampler_draw(sampler, &request->sampling, logits, program->logits_F, request->prompt,
                                     request->prompt_count, (const uint32_t *)(const void *)said->tokens.data, count,
                                     allowed, request->prompt_count + count, &token, &error), error);
        int is_end = bulla_tokenizer_is_end(tokenizer, token) && (state || !request->ignores_end);
        if (is_end)
            said->reason = SCHEDULER_STOP;
        else
            buffer_append_u32(&said->tokens, token);
        if (!is_end && state) {
            assert_ok(grammar_state_accept(state, token, &error), error);
            is_end = grammar_state_is_final(state);
            said->reason = is_end ? SCHEDULER_STOP : SCHEDULER_LENGTH;
        }
        if (is_end)
            break;
        piece = (bulla_piece){.sequence = sequence, .ids = (const uint32_t *)(const void *)said->tokens.data + count,
                              .count = 1, .logits = logits};
    }
    bulla_sequence_close(sequence);
    bulla_sampler_close(sampler);
    grammar_state_close(state);
    grammar_free(grammar);
    grammar_vocabulary_close(vocabulary);
    memory_free(logits);
}

static void answer_alone(struct world *world, struct asked *asked)
{
    bulla_error error = {0};
    struct generate_request request = {.prompt = asked->prompt, .prompt_count = asked->request.prompt_count,
                                       .max_tokens = asked->request.max_tokens, .sampling = asked->request.sampling};
    struct generate_result result;
    struct said *said = &asked->alone;
    static const enum scheduler_finish_reason reasons[] = {[GENERATE_STOP] = SCHEDULER_STOP,
        [GENERATE_LENGTH] = SCHEDULER_LENGTH, [GENERATE_RANGE] = SCHEDULER_RANGE};
    assert_ok(generate(world->alone, world->model, NULL, &request, &result, &error), error);
    buffer_append(&said->tokens, result.tokens, result.token_count * sizeof *result.tokens);
    said->reason = reasons[result.finish];
    said->range_position = result.range_position;
    said->range_operation = result.range_operation;
    generate_result_free(&result);
}

/* The stop string that ends first within text[0 .. length), of those the longest, and where it begins; NULL: none. */
static const struct scheduler_text *find_stop(const struct scheduler_request *request, const uint8_t *text,
                                              size_t length, size_t *begin)
{
    const struct scheduler_text *found = NULL;
    for (size_t end = 1; end <= length && !found; end++)
        for (size_t i = 0; i < request->stop_count; i++) {
            const struct scheduler_text *stop = &request->stops[i];
            if (stop->length <= end && memcmp(text + end - stop->length, stop->text, stop->length) == 0 &&
                (!found || stop->length > found->length)) {
                found = stop;
                *begin = end - stop->length;
            }
        }
    return found;
}

/* The text of the tokens, and the end by a stop string. */
static void apply_stops(struct world *world, struct asked *asked)
{
    struct said *said = &asked->alone;
    bulla_text_stream stream = {{0}, 0, 0};
    const struct scheduler_text *stop = NULL;
    size_t begin, count = said->tokens.length / 4, used = 0;
    char out[64];
    while (used < count && !stop) {
        uint32_t token = ((const uint32_t *)(const void *)said->tokens.data)[used++];
        buffer_append(&said->text, out, bulla_text_stream_push(bulla_model_tokenizer(world->model), &stream, token, out,
                                                              sizeof out));
        stop = find_stop(&asked->request, said->text.data, said->text.length, &begin);
    }
    if (!stop) {
        buffer_append(&said->text, out, bulla_text_stream_end(&stream, out, sizeof out));
        stop = find_stop(&asked->request, said->text.data, said->text.length, &begin);
    }
    if (!stop)
        return;
    said->text.length = begin;
    said->tokens.length = 4 * used;
    said->reason = SCHEDULER_STOP;
    said->stop = stop->text;
}

/* --- requests --- */

static void choose_sampling(bulla_sampling *sampling)
{
    bulla_sampling_defaults(sampling);
    sampling->frequency = random_below(4) ? 0 : (int64_t)random_below(2000000) - 1000000;
    if (random_below(3) == 0)
        return;
    sampling->temperature = 100000 + random_below(1500000);
    sampling->top_p = 500000 + random_below(500001);
    sampling->top_k = random_below(50);
    uint32_t seed = random_below(1000), choice = random_below(4);
    sampling->seed = bulla_sampling_choice_seed(seed, choice);
    sampling->presence = random_below(3) * 500000;
    sampling->repetition = 1000000 + random_below(300000);
}

static void choose_prompt(const struct world *world, struct asked *asked)
{
    size_t count = random_below(8) ? 1 + random_below(MOST_PROMPT) : 1 + random_below(3);
    uint32_t stem = random_below(STEMS), shared = random_below(2) ? MOST_PROMPT : random_below(MOST_PROMPT);
    for (size_t i = 0; i < count; i++)
        asked->prompt[i] = i < shared ? world->stems[stem][i] : random_below(world->program->vocabulary);
    asked->request.prompt = asked->prompt;
    asked->request.prompt_count = count;
}

static void choose_ends(struct asked *asked)
{
    struct scheduler_request *request = &asked->request;
    request->stop_count = random_below(2) ? 1 + random_below(MOST_STOPS) : 0;
    for (size_t i = 0; i < request->stop_count; i++) {
        size_t length = random_below(3) ? 1 : 2 + random_below(2);
        for (size_t j = 0; j < length; j++)
            asked->stop_texts[i][j] = (char)(1 + random_below(36));
        asked->stops[i] = (struct scheduler_text){asked->stop_texts[i], length};
    }
    request->stops = asked->stops;
    request->ignores_end = random_below(6) == 0;
    if (random_below(5))
        return;
    uint32_t least = random_below(6);
    snprintf(asked->grammar, sizeof asked->grammar, "{\"repeat\":{\"choice\":[{\"literal\":\"!\"},{\"literal\":\"#\"},"
             "{\"literal\":\"\\\"\"},{\"literal\":\"\\u0011\"}]},\"min\":%u,\"max\":%u}", least,
             least + 1 + random_below(30));
    request->grammar = asked->grammar;
    request->grammar_length = strlen(asked->grammar);
}

static void choose_request(struct world *world, uint32_t number)
{
    static const char *const tenants[] = {NULL, "ada", "bob", "adah"};
    struct asked *asked = &world->asked[number];
    uint32_t most = 1 + random_below(60), tenant = random_below(4), shares = random_below(4), logprobs = random_below(5);
    int priority = random_below(3) ? 0 : (int)random_below(4) - 1;
    uint64_t deadline = random_below(30) ? random_below(2) * UINT64_MAX / 2 : 1;
    asked->request = (struct scheduler_request){.id = number, .max_tokens = most, .tenant = tenants[tenant],
        .shares_prefix = shares > 0, .logprobs = (int)logprobs - 1, .priority = priority, .deadline = deadline};
    choose_prompt(world, asked);
    choose_sampling(&asked->request.sampling);
    choose_ends(asked);
    if (random_below(12) == 0)
        asked->request.max_tokens = 0;
    uint64_t limit = asked->request.max_tokens ? asked->request.max_tokens : UINT64_MAX;
    uint64_t room = world->program->context - asked->request.prompt_count;
    uint64_t positions = bulla_engine_pages_total(world->engine) * BULLA_PAGE_POSITIONS;
    uint64_t pool = positions < asked->request.prompt_count ? 0 : positions - asked->request.prompt_count + 1;
    limit = limit < room ? limit : room;
    int is_cut = !asked->request.max_tokens && pool < limit; /* what the pool holds of an answer without a limit */
    if (is_cut || asked->request.grammar || asked->request.ignores_end)
        answer_plainly(world, asked, is_cut ? pool : limit);
    else
        answer_alone(world, asked);
    apply_stops(world, asked);
}

/* --- listening --- */

static void add_next(struct world *world)
{
    if (world->added == world->count)
        return;
    struct asked *asked = &world->asked[world->added++];
    bulla_error error = {0};
    uint64_t positions = bulla_engine_pages_total(world->engine) * BULLA_PAGE_POSITIONS;
    uint64_t needed = asked->request.prompt_count + (asked->request.max_tokens ? asked->request.max_tokens - 1 : 0);
    needed = needed < world->program->context ? needed : world->program->context - 1;
    int code = scheduler_add(world->scheduler, &asked->request, &error);
    asked->is_added = code == BULLA_OK;
    if (needed <= positions)
        assert_ok(code, error);
    else {
        assert_int_equal(code, BULLA_E_LIMIT);
        assert_non_null(strstr(error.text, "pages"));
    }
}

static void cancel_any(struct world *world, uint32_t number)
{
    struct asked *asked = &world->asked[number];
    if (asked->is_added && !asked->finishes)
        asked->is_cancelled = 1;
    scheduler_cancel(world->scheduler, number);
    assert_true(!asked->is_added || asked->finishes == 1);
}

static void meddle(struct world *world, uint32_t number)
{
    bulla_error error = {0};
    if (!world->meddles)
        return;
    if (random_below(20) == 0)
        add_next(world);
    if (random_below(200) == 0)
        cancel_any(world, random_below(2) ? number : random_below(world->added));
    if (random_below(50) == 0)
        assert_int_equal(scheduler_step(world->scheduler, &error), BULLA_E_USAGE);
}

static void hear_token(void *context, const struct scheduler_token *token)
{
    struct world *world = context;
    struct asked *asked = &world->asked[token->request];
    assert_true(asked->is_added && !asked->finishes);
    buffer_append_u32(&asked->heard.tokens, token->token);
    size_t before = asked->heard.text.length;
    buffer_append(&asked->heard.text, token->text, token->length);
    world->tokens++;
    meddle(world, (uint32_t)token->request);
    assert_memory_equal(asked->heard.text.data + before, token->text, token->length); /* also if it is finished now */
    if (asked->request.logprobs < 0)
        return;
    assert_int_equal(token->top_count, asked->request.logprobs);
    for (size_t i = 1; i < token->top_count; i++)
        assert_true(token->top[i].logprob <= token->top[i - 1].logprob);
    assert_true(token->logprob <= 0 && (!token->top_count || token->logprob <= token->top[0].logprob));
}

static void hear_finish(void *context, const struct scheduler_finish *finish)
{
    struct world *world = context;
    struct asked *asked = &world->asked[finish->request];
    struct said *heard = &asked->heard;
    asked->finishes++;
    assert_true(asked->is_added && asked->finishes == 1);
    buffer_append(&heard->text, finish->rest, finish->rest_length);
    heard->reason = finish->reason;
    for (size_t i = 0; finish->stop && i < asked->request.stop_count; i++)
        if (strcmp(finish->stop, asked->stop_texts[i]) == 0)
            heard->stop = asked->stop_texts[i];
    assert_int_equal(finish->stop != NULL, heard->stop != NULL);
    heard->range_position = finish->range_position;
    heard->range_operation = finish->range_operation;
    assert_int_equal(finish->prompt_tokens, asked->request.prompt_count);
    assert_true(finish->cached_tokens < finish->prompt_tokens && finish->cached_tokens % BULLA_PAGE_POSITIONS == 0);
    assert_true(finish->cached_tokens == 0 || (asked->request.tenant && asked->request.shares_prefix));
    assert_int_equal(finish->output_tokens, heard->tokens.length / 4);
    meddle(world, (uint32_t)finish->request);
}

/* --- comparing --- */

static void assert_begins(const struct buffer *whole, const struct buffer *part, const char *what, uint32_t number)
{
    if (part->length > whole->length || (part->length && memcmp(whole->data, part->data, part->length) != 0))
        fail_msg("request %u: its %s are others than alone", number, what);
}

/* An answer that was cut has the text of its tokens. */
static void compare_cut(struct world *world, const struct asked *asked, uint32_t number)
{
    struct asked own = *asked;
    own.alone = (struct said){.tokens = {0}};
    buffer_append(&own.alone.tokens, asked->heard.tokens.data, asked->heard.tokens.length);
    apply_stops(world, &own);
    assert_begins(&own.alone.text, &asked->heard.text, "texts", number);
    assert_int_equal(own.alone.text.length, asked->heard.text.length);
    buffer_free(&own.alone.tokens);
    buffer_free(&own.alone.text);
}

static void compare(struct world *world, uint32_t number, struct totals *totals)
{
    const struct asked *asked = &world->asked[number];
    const struct said *heard = &asked->heard, *alone = &asked->alone;
    if (!asked->is_added)
        return;
    assert_int_equal(asked->finishes, 1);
    totals->answers++;
    totals->reasons[heard->reason]++;
    assert_int_equal(heard->reason == SCHEDULER_CANCELLED, asked->is_cancelled);
    assert_true((heard->reason == SCHEDULER_DEADLINE) <= (asked->request.deadline == 1));
    assert_begins(&alone->tokens, &heard->tokens, "tokens", number);
    if (asked->is_cancelled || heard->reason == SCHEDULER_DEADLINE) {
        compare_cut(world, asked, number);
        return;
    }
    if (heard->reason != alone->reason || heard->tokens.length != alone->tokens.length)
        fail_msg("request %u: %zu tokens, %s; alone %zu, %s", number, heard->tokens.length / 4,
                 scheduler_finish_name(heard->reason), alone->tokens.length / 4, scheduler_finish_name(alone->reason));
    assert_begins(&alone->text, &heard->text, "texts", number);
    assert_int_equal(heard->text.length, alone->text.length);
    assert_true(heard->stop == alone->stop || (heard->stop && alone->stop && strcmp(heard->stop, alone->stop) == 0));
    if (heard->reason == SCHEDULER_RANGE) {
        assert_int_equal(heard->range_position, alone->range_position);
        assert_int_equal(heard->range_operation, alone->range_operation);
    }
    totals->stops += heard->stop != NULL;
    totals->resumed += (uint64_t)asked->was_preempted;
    totals->grammars += asked->request.grammar != NULL;
}

static void note_preempted(struct world *world)
{
    for (const struct job *job = world->scheduler->jobs; job; job = job->next)
        if (job->state == JOB_WAITING && job->count > job->prompt_count)
            world->asked[job->id].was_preempted = 1;
}

static void check_counters(struct world *world)
{
    struct scheduler_counters counters;
    scheduler_count(world->scheduler, &counters);
    uint64_t open = 0;
    for (uint32_t i = 0; i < world->added; i++)
        open += world->asked[i].is_added && !world->asked[i].finishes;
    assert_int_equal(counters.running + counters.waiting, open);
    assert_int_equal(counters.output_tokens, world->tokens);
    assert_int_equal(counters.pages_used, counters.pages_total - bulla_engine_pages_free(world->engine));
    assert_int_equal(scheduler_is_idle(world->scheduler), open == 0);
    assert_true(counters.accepted_tokens <= counters.proposed_tokens);
}

static void run_world(struct world *world, struct totals *totals)
{
    bulla_error error = {0};
    uint64_t steps = 0;
    while (world->added < world->count || !scheduler_is_idle(world->scheduler)) {
        for (uint32_t more = random_below(6) ? 0 : random_below(8); more > 0; more--)
            add_next(world);
        if (world->added && random_below(40) == 0)
            cancel_any(world, random_below(world->added));
        assert_ok(scheduler_step(world->scheduler, &error), error);
        check_counters(world);
        note_preempted(world);
        assert_true(++steps < 1000000);
    }
    struct scheduler_counters counters;
    bulla_prefix_counters prefix;
    scheduler_count(world->scheduler, &counters);
    bulla_engine_prefix_counters(world->engine, &prefix);
    assert_int_equal(counters.pages_used, 0);
    totals->preemptions += counters.preemptions;
    totals->accepted += counters.accepted_tokens;
    totals->cached += prefix.positions_reused;
    for (uint32_t i = 0; i < world->count; i++)
        compare(world, i, totals);
}

/* --- worlds --- */

static void said_free(struct said *said)
{
    buffer_free(&said->tokens);
    buffer_free(&said->text);
}

static void open_world(struct world *world, uint64_t seed, int family, int strain)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {9};
    static const uint32_t rows[] = {0, 1, 2, 5, 17, 64}, running[] = {0, 1, 2, 5}, batches[] = {0, 3, 16};
    bulla_error error = {0};
    random_state = seed * 0x9E3779B97F4A7C15;
    assert_ok(answer_model_open(seed, family, strain, random_below(3) ? 31 : 0, "", &world->model, &error), error);
    world->program = bulla_model_program(world->model);
    uint32_t threads = 1 + random_below(8) / 7, batch = random_below(3), pages = random_below(3) ? 2 + random_below(8) : 60;
    bulla_engine_options options = {.threads = threads, .batch_rows = batches[batch], .pages = pages,
                                    .prefix_salt = random_below(5) ? salt : NULL};
    assert_ok(bulla_engine_open(world->model, &(bulla_engine_options){.threads = 1}, &world->alone, &error), error);
    assert_ok(bulla_engine_open(world->model, &options, &world->engine, &error), error);
    uint32_t most = random_below(4), step = random_below(6), speculate = random_below(2) ? random_below(16) : 0;
    struct scheduler_options own = {.most_running = running[most], .step_rows = rows[step], .speculate = speculate};
    struct scheduler_events events = {.context = world, .token = hear_token, .finish = hear_finish};
    assert_ok(scheduler_open(world->engine, world->model, &own, &events, &world->scheduler, &error), error);
    world->scheduler->always_speculates = random_below(3) > 0;
    for (int s = 0; s < STEMS; s++) /* stems repeat themselves, so that proposals are right at times */
        for (uint32_t i = 0, period = 2 + random_below(60); i < MOST_PROMPT; i++)
            world->stems[s][i] = i < period ? random_below(world->program->vocabulary) : world->stems[s][i - period];
    world->meddles = (int)random_below(2);
    world->count = 1 + random_below(MOST_ASKED);
    for (uint32_t i = 0; i < world->count; i++)
        choose_request(world, i);
}

static void close_world(struct world *world)
{
    scheduler_close(world->scheduler);
    assert_int_equal(bulla_engine_pages_free(world->engine), bulla_engine_pages_total(world->engine));
    bulla_engine_close(world->engine);
    bulla_engine_close(world->alone);
    bulla_model_close(world->model);
    for (uint32_t i = 0; i < world->count; i++) {
        said_free(&world->asked[i].alone);
        said_free(&world->asked[i].heard);
    }
}

/* Where times decide what is proposed, what happens beside what is not the same each time: nothing is counted there. */
static int goes_by_times(const struct world *world)
{
    return world->scheduler->speculate && !world->scheduler->always_speculates;
}

static void print_totals(const struct totals *totals)
{
    print_message("%llu answers, %llu by stop strings, %llu under grammars; %llu preemptions, %llu came back; "
                  "%llu proposals accepted, %llu positions from the prefix cache\n",
                  (unsigned long long)totals->answers, (unsigned long long)totals->stops,
                  (unsigned long long)totals->grammars, (unsigned long long)totals->preemptions,
                  (unsigned long long)totals->resumed, (unsigned long long)totals->accepted,
                  (unsigned long long)totals->cached);
    for (int i = 0; i < REASONS; i++)
        print_message("%s %llu  ", scheduler_finish_name((enum scheduler_finish_reason)i),
                      (unsigned long long)totals->reasons[i]);
    print_message("\n");
}

static void answers_are_as_alone(void **unused)
{
    static const int families[] = {RANDOM_ODD, RANDOM_UNGATED, RANDOM_GEMMA3, RANDOM_MANY_HEADS};
    struct totals totals = {.answers = 0}, by_times = {.answers = 0};
    for (uint64_t seed = 1; seed <= test_count(40, 1000); seed++) {
        static struct world world;
        memset(&world, 0, sizeof world);
        open_world(&world, seed, families[seed % 4], seed % 3 == 0);
        run_world(&world, goes_by_times(&world) ? &by_times : &totals);
        close_world(&world);
    }
    print_totals(&totals);
    for (int i = 0; i < SCHEDULER_FAILED; i++)
        assert_true(totals.reasons[i] > 5);
    assert_int_equal(totals.reasons[SCHEDULER_FAILED] + by_times.reasons[SCHEDULER_FAILED], 0);
    assert_true(by_times.answers > 20);
    assert_true(totals.stops > 20 && totals.grammars > 20 && totals.preemptions > 20 && totals.accepted > 20 &&
                totals.cached > 500);
    assert_true(totals.resumed > 10);
}

/* --- RANGE after having waited --- */

static void open_strained(struct world *world, uint64_t seed, int family)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {9};
    bulla_error error = {0};
    random_state = seed * 0x9E3779B97F4A7C15;
    assert_ok(answer_model_open(seed, family, 1, 0, "", &world->model, &error), error);
    world->program = bulla_model_program(world->model);
    bulla_engine_options options = {.threads = 1, .pages = 20, .prefix_salt = random_below(2) ? salt : NULL};
    assert_ok(bulla_engine_open(world->model, &(bulla_engine_options){.threads = 1}, &world->alone, &error), error);
    assert_ok(bulla_engine_open(world->model, &options, &world->engine, &error), error);
    struct scheduler_options own = {.most_running = 1};
    struct scheduler_events events = {.context = world, .token = hear_token, .finish = hear_finish};
    assert_ok(scheduler_open(world->engine, world->model, &own, &events, &world->scheduler, &error), error);
}

/* A short prompt and a long answer, then short requests of higher priority, which take its place. */
static void choose_interrupted(struct world *world)
{
    world->count = MOST_ASKED;
    for (uint32_t number = 0; number < world->count; number++) {
        struct asked *asked = &world->asked[number];
        asked->request = (struct scheduler_request){.id = number, .max_tokens = number ? 1 : 200,
            .prompt = asked->prompt, .prompt_count = number ? 1 : 1 + random_below(70), .tenant = "ada",
            .shares_prefix = 1, .logprobs = -1, .priority = number > 0};
        for (size_t i = 0; i < asked->request.prompt_count; i++)
            asked->prompt[i] = random_below(world->program->vocabulary);
        choose_sampling(&asked->request.sampling);
        asked->request.sampling.temperature = 2000000;
        answer_alone(world, asked);
        apply_stops(world, asked);
        if (world->asked[0].alone.tokens.length < 40) /* nothing to interrupt */
            world->count = 1;
    }
}

/* An answer that leaves a bound, given back every few tokens: it leaves it at the same place. */
static void bounds_are_left_alike(void **unused)
{
    static const int families[] = {RANDOM_ODD, RANDOM_UNGATED, RANDOM_GEMMA3, RANDOM_GEMMA2};
    struct totals totals = {.answers = 0};
    uint64_t ranges = 0;
    for (uint64_t seed = 1; seed <= test_count(60, 1000); seed++) {
        static struct world world;
        bulla_error error = {0};
        memset(&world, 0, sizeof world);
        open_strained(&world, seed, families[seed % 4]);
        choose_interrupted(&world);
        for (uint64_t step = 0; world.added < world.count; step++) {
            if (step % 5 == 0)
                add_next(&world);
            assert_ok(scheduler_step(world.scheduler, &error), error);
            note_preempted(&world);
        }
        while (!scheduler_is_idle(world.scheduler))
            assert_ok(scheduler_step(world.scheduler, &error), error);
        for (uint32_t i = 0; i < world.added; i++)
            compare(&world, i, &totals);
        ranges += world.asked[0].was_preempted && world.asked[0].heard.reason == SCHEDULER_RANGE;
        close_world(&world);
    }
    print_message("%llu answers, %llu came back, %llu of them to leave a bound\n", (unsigned long long)totals.answers,
                  (unsigned long long)totals.resumed, (unsigned long long)ranges);
    assert_true(totals.resumed > 10 && ranges > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_as_alone),
        cmocka_unit_test(bounds_are_left_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
