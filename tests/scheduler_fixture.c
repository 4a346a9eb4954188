#include "scheduler_fixture.h"

#include "test.h"

#include "answer_model.h"
#include "random_program.h"

void hear_token(void *context, const struct scheduler_token *token)
{
    struct heard *heard = context;
    assert_true(heard->drawn_count < MOST_EVENTS);
    heard->tokens[heard->drawn_count] = token->token;
    heard->drawn[heard->drawn_count] = token->request;
    buffer_append(&heard->text, token->text, token->length);
    buffer_append_text(&heard->text, "|");
    if (heard->drawn_count < MOST_IDS) {
        heard->logprobs[heard->drawn_count] = token->logprob;
        memcpy(heard->top[heard->drawn_count], token->top, token->top_count * sizeof *token->top);
        heard->top_count = token->top_count;
    }
    heard->drawn_count++;
}

void hear_finish(void *context, const struct scheduler_finish *finish)
{
    struct heard *heard = context;
    heard->finishes[finish->request] = *finish;
    heard->finished[heard->finish_count++] = finish->request;
    buffer_append(&heard->text, finish->rest, finish->rest_length);
    buffer_append_text(&heard->text, ".");
    if (finish->error)
        snprintf(heard->error, sizeof heard->error, "%s", finish->error->text);
}

void hear_embedding(void *context, uint64_t request, const float *values, size_t count)
{
    struct heard *heard = context;
    assert_true(count <= sizeof heard->embedding / sizeof heard->embedding[0]);
    memcpy(heard->embedding, values, count * sizeof *values);
    heard->embedding_count = count;
    heard->embeddings++;
}

void set_up(struct fixture *fixture, const bulla_engine_options *engine, const struct scheduler_options *options)
{
    bulla_error error = {0};
    struct scheduler_events events = {&fixture->heard, hear_token, hear_finish, hear_embedding};
    memset(fixture, 0, sizeof *fixture);
    assert_ok(answer_model_open(6, RANDOM_ODD, 0, 0, "", &fixture->model, &error), error);
    assert_ok(bulla_engine_open(fixture->model, engine, &fixture->engine, &error), error);
    assert_ok(scheduler_open(fixture->engine, fixture->model, options, &events, &fixture->scheduler, &error), error);
    for (uint32_t i = 0; i <= CONTEXT; i++)
        fixture->prompt[i] = i * i % 37;
}

void tear_down(struct fixture *fixture)
{
    scheduler_close(fixture->scheduler);
    assert_int_equal(bulla_engine_pages_free(fixture->engine), bulla_engine_pages_total(fixture->engine));
    bulla_engine_close(fixture->engine);
    bulla_model_close(fixture->model);
    buffer_free(&fixture->heard.text);
}

struct scheduler_request request_of(const struct fixture *fixture, uint64_t id, const char *tenant, size_t count,
                                           uint64_t most)
{
    struct scheduler_request request = {.id = id, .prompt = fixture->prompt, .prompt_count = count, .max_tokens = most,
                                        .tenant = tenant, .logprobs = -1};
    bulla_sampling_defaults(&request.sampling);
    return request;
}

void add(struct fixture *fixture, uint64_t id, const char *tenant, size_t count, uint64_t most, int priority)
{
    bulla_error error = {0};
    struct scheduler_request request = request_of(fixture, id, tenant, count, most);
    request.priority = priority;
    assert_ok(scheduler_add(fixture->scheduler, &request, &error), error);
}

void steps(struct fixture *fixture, int count)
{
    bulla_error error = {0};
    for (int i = 0; i < count && !scheduler_is_idle(fixture->scheduler); i++)
        assert_ok(scheduler_step(fixture->scheduler, &error), error);
}

void run_all(struct fixture *fixture)
{
    steps(fixture, 100000);
    assert_true(scheduler_is_idle(fixture->scheduler));
}

void assert_finished(const struct heard *heard, const char *ids)
{
    char found[MOST_IDS + 1];
    for (size_t i = 0; i < heard->finish_count; i++)
        found[i] = (char)('a' + heard->finished[i]);
    found[heard->finish_count] = 0;
    assert_string_equal(found, ids);
}

size_t count_drawn(const struct heard *heard, uint64_t id)
{
    size_t count = 0;
    for (size_t i = 0; i < heard->drawn_count; i++)
        count += heard->drawn[i] == id;
    return count;
}

uint64_t preemptions(const struct fixture *fixture)
{
    struct scheduler_counters counters;
    scheduler_count(fixture->scheduler, &counters);
    return counters.preemptions;
}
