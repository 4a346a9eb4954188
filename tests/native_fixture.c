/* How a worker misbehaves, by its program's name:
 *
 *   dies       at its start, with two lines on standard error
 *   garbage    sends bytes that are no frame
 *   other      says READY with another model's root
 *   sleeps     never says anything
 *   flaky      dies at its first two starts (a file beside the program counts them) */
#include "test.h"

#include "native_fixture.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "answer_model.h"
#include "base/clock.h"
#include "base/memory.h"
#include "random_program.h"

static void tick(evutil_socket_t descriptor, short what, void *context)
{
}

void native_fixture_open(struct native_fixture *fixture, const char *chat_template, const char *as)
{
    const struct timeval often = {.tv_usec = 2000};
    bulla_error error = {0};
    char own[200];
    memset(fixture, 0, sizeof *fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/bulla-native-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof fixture->path, "%s/model", fixture->folder);
    assert_ok(answer_model_write(fixture->path, 3, RANDOM_LLAMA, 0, 0, chat_template, &error), error);
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    assert_true(length > 0);
    own[length] = 0;
    snprintf(fixture->program, sizeof fixture->program, "%s/%s", fixture->folder, as ? as : "serves");
    assert_int_equal(symlink(own, fixture->program), 0);
    fixture->base = event_base_new();
    assert_non_null(fixture->base);
    fixture->tick = event_new(fixture->base, -1, EV_PERSIST, tick, NULL);
    event_add(fixture->tick, &often);
    fixture->options = (struct native_options){.path = fixture->path, .program = fixture->program, .threads = 1,
                                               .cache_positions = 700};
}

int native_fixture_start(struct native_fixture *fixture, bulla_error *error)
{
    return native_open(fixture->base, &fixture->options, &fixture->backend, error);
}

void native_fixture_close(struct native_fixture *fixture)
{
    char counted[120];
    if (fixture->backend)
        fixture->backend->class->close(fixture->backend);
    event_free(fixture->tick);
    event_base_free(fixture->base);
    snprintf(counted, sizeof counted, "%s/starts", fixture->folder);
    unlink(counted);
    unlink(fixture->path);
    unlink(fixture->program);
    rmdir(fixture->folder);
}

struct native *native_fixture_native(struct native_fixture *fixture)
{
    return (struct native *)(void *)fixture->backend;
}

int native_fixture_state(struct native_fixture *fixture)
{
    struct backend_info info;
    fixture->backend->class->describe(fixture->backend, &info);
    return (int)info.state;
}

/* ---- Answers ---- */

static void on_delta(void *context, const struct answer_delta *delta)
{
    struct heard *heard = context;
    heard->late += heard_is_over(heard);
    assert_true(delta->choice < HEARD_CHOICES && delta->tool >= -1);
    heard->deltas++;
    heard->choices[delta->choice].tokens += delta->tokens;
    buffer_append(&heard->choices[delta->choice].text, delta->text, delta->text_length);
    buffer_append(&heard->choices[delta->choice].reasoning, delta->reasoning, delta->reasoning_length);
    buffer_append(&heard->choices[delta->choice].arguments, delta->arguments, delta->arguments_length);
    if (delta->tool_name)
        buffer_append_text(&heard->choices[delta->choice].names, delta->tool_name);
    if (delta->tokens)
        buffer_append(&heard->choices[delta->choice].ids, delta->ids, delta->tokens * sizeof *delta->ids);
    if (delta->logprob) {
        assert_int_equal(delta->tokens, 1);
        assert_int_equal(delta->logprob->length, 1);
        heard->choices[delta->choice].logprobs++;
        for (size_t i = 0; i < delta->top_count; i++)
            assert_true(delta->top[i].logprob >= -9999);
        heard->choices[delta->choice].tops += delta->top_count;
    }
    if (heard->on_delta)
        heard->on_delta(heard);
}

static void on_finish(void *context, uint32_t choice, const char *reason, const char *stop)
{
    struct heard *heard = context;
    heard->late += heard_is_over(heard);
    assert_true(choice < HEARD_CHOICES && !heard->choices[choice].has_finished);
    heard->choices[choice].has_finished = 1;
    snprintf(heard->choices[choice].reason, sizeof heard->choices[choice].reason, "%s", reason);
    snprintf(heard->choices[choice].stop, sizeof heard->choices[choice].stop, "%s", stop ? stop : "-");
}

static void on_embedding(void *context, const float *values, size_t count)
{
    struct heard *heard = context;
    assert_true(count <= 8);
    heard->embedding_count = count;
    memcpy(heard->embedding, values, count * sizeof *values);
}

static void on_end(void *context, const struct answer_usage *usage)
{
    struct heard *heard = context;
    heard->late += heard_is_over(heard);
    heard->answer = NULL;
    heard->ends++;
    heard->usage = *usage;
    if (heard->on_end)
        heard->on_end(heard);
}

static void on_fail(void *context, const struct answer_error *error)
{
    struct heard *heard = context;
    heard->late += heard_is_over(heard);
    heard->answer = NULL;
    heard->fails++;
    heard->problem = *error;
    if (heard->on_end)
        heard->on_end(heard);
}

struct answer_request heard_request(const char *prompt)
{
    struct answer_request request = {.kind = ANSWER_COMPLETION, .id = "id", .model = "model", .prompt = prompt,
                                     .prompt_length = strlen(prompt), .choices = 1, .logprobs = -1};
    bulla_sampling_defaults(&request.sampling);
    return request;
}

int heard_start(struct native_fixture *fixture, struct heard *heard, const struct answer_request *request)
{
    const struct answer_sink sink = {heard, on_delta, on_finish, on_embedding, on_end, on_fail, NULL};
    heard->fixture = fixture;
    heard->answer = fixture->backend->class->start(fixture->backend, request, &sink, &heard->problem);
    return heard->answer != NULL;
}

void heard_cancel(struct heard *heard)
{
    heard->is_cancelled = 1;
    heard->fixture->backend->class->cancel(heard->answer);
    heard->answer = NULL;
}

int heard_is_over(const struct heard *heard)
{
    return heard->ends || heard->fails || heard->is_cancelled;
}

void heard_free(struct heard *heard)
{
    assert_int_equal(heard->late, 0);
    assert_true(heard->ends + heard->fails <= 1);
    for (size_t i = 0; i < HEARD_CHOICES; i++) {
        buffer_free(&heard->choices[i].text);
        buffer_free(&heard->choices[i].reasoning);
        buffer_free(&heard->choices[i].arguments);
        buffer_free(&heard->choices[i].names);
        buffer_free(&heard->choices[i].ids);
    }
    memset(heard, 0, sizeof *heard);
}

/* ---- The worker ---- */

static void send_bytes(const void *bytes, size_t length)
{
    if (write(3, bytes, length) != (ssize_t)length)
        exit(9);
}

static int misbehave(const char *program)
{
    const char *name = strrchr(program, '/') ? strrchr(program, '/') + 1 : program;
    struct buffer out = {0};
    if (strcmp(name, "dies") == 0) {
        fprintf(stderr, "a first line\nthe cache is \x1b[31mtoo large\n");
        return 7;
    }
    if (strcmp(name, "garbage") == 0) {
        send_bytes("HTTP/1.1 400 Bad Request\r\n\r\n", 28);
        pause();
    } else if (strcmp(name, "other") == 0) {
        struct wire_ready ready = {.context = 700, .vocabulary = 211};
        wire_write_ready(&out, &ready);
        send_bytes(out.data, out.length);
        pause();
    } else if (strcmp(name, "sleeps") == 0) {
        pause();
    } else if (strcmp(name, "flaky") == 0) {
        char path[200];
        struct stat status;
        snprintf(path, sizeof path, "%.*sstarts", (int)(name - program), program);
        FILE *file = fopen(path, "a");
        if (!file || fputs("x", file) < 0 || fclose(file) != 0 || stat(path, &status) != 0)
            return 8;
        return status.st_size <= 2 ? 6 : -1;
    }
    return -1;
}

int native_fixture_worker(int argc, char **argv)
{
    bulla_error error = {0};
    if (argc != 8 || strcmp(argv[1], "worker") != 0)
        return -1;
    int status = misbehave(argv[0]);
    if (status >= 0)
        return status;
    if (native_worker_run(atoi(argv[3]), atoi(argv[5]), atoi(argv[7]), &error) == BULLA_OK)
        return 0;
    fprintf(stderr, "worker: %s\n", error.text);
    return 1;
}
