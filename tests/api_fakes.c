#include "test.h"

#include <event2/event.h>
#include <strings.h>

#include "api_fakes.h"
#include "base/clock.h"
#include "base/memory.h"
#include "bulla/tokenizer.h"
#include "serve/page.h"

/* HTTP */

static void check_open(const struct http_exchange *exchange)
{
    if (exchange->is_over)
        fail_msg("%s %s: used after its answer ended", exchange->method, exchange->path);
}

const char *http_method(const struct http_exchange *exchange)
{
    return exchange->method;
}

const char *http_path(const struct http_exchange *exchange)
{
    return exchange->path;
}

const char *http_query(const struct http_exchange *exchange)
{
    return exchange->query;
}

const char *http_header(const struct http_exchange *exchange, const char *name)
{
    for (size_t i = 0; i < exchange->given_count; i++)
        if (strcmp(exchange->given[i].name, name) == 0)
            return exchange->given[i].value;
    return NULL;
}

const char *http_body(const struct http_exchange *exchange, size_t *length)
{
    *length = exchange->body_length;
    return exchange->body;
}

const char *http_peer(const struct http_exchange *exchange)
{
    return "127.0.0.1:54321";
}

uint64_t http_received(const struct http_exchange *exchange)
{
    return clock_nanoseconds();
}

int http_reply_header(struct http_exchange *exchange, const char *name, const char *value, bulla_error *error)
{
    check_open(exchange);
    assert_false(exchange->has_begun);
    assert_true(exchange->header_count < FAKE_MOST_HEADERS);
    struct fake_header *header = exchange->headers + exchange->header_count++;
    snprintf(header->name, sizeof header->name, "%s", name);
    snprintf(header->value, sizeof header->value, "%s", value);
    return BULLA_OK;
}

void http_reply_begin(struct http_exchange *exchange, int status, const char *content_type)
{
    check_open(exchange);
    assert_false(exchange->has_begun);
    exchange->has_begun = 1;
    exchange->status = status;
    snprintf(exchange->content_type, sizeof exchange->content_type, "%s", content_type);
}

void http_reply_write(struct http_exchange *exchange, const void *bytes, size_t length)
{
    check_open(exchange);
    assert_true(exchange->has_begun);
    /* Kept without base/memory.h, whose failures tests inject into the API alone. */
    uint8_t *data = realloc(exchange->reply.data, exchange->reply.length + length + 1);
    assert_non_null(data);
    if (length)
        memcpy(data + exchange->reply.length, bytes, length);
    exchange->reply.data = data;
    exchange->reply.length += length;
    data[exchange->reply.length] = 0;
    if (exchange->cut_after && exchange->reply.length > exchange->cut_after)
        fake_hang_up(exchange);
}

void http_reply_end(struct http_exchange *exchange)
{
    check_open(exchange);
    assert_true(exchange->has_begun);
    exchange->is_over = 1;
}

void http_reply_abort(struct http_exchange *exchange)
{
    check_open(exchange);
    exchange->is_over = exchange->was_aborted = 1;
}

void http_reply_buffer(struct http_exchange *exchange, int status, const char *content_type, struct buffer *body)
{
    assert_int_equal(body->error.code, BULLA_OK);
    http_reply(exchange, status, content_type, body->data, body->length);
    buffer_free(body);
}

void http_reply_parts(struct http_exchange *exchange, int status, const char *content_type, const struct http_part *parts,
                      size_t count)
{
    http_reply_begin(exchange, status, content_type);
    exchange->first_part = parts[0].bytes;
    for (size_t i = 0; i < count; i++) {
        http_reply_write(exchange, parts[i].bytes, parts[i].length);
        if (parts[i].release)
            parts[i].release(parts[i].bytes, parts[i].length, parts[i].context);
    }
    if (!exchange->is_over)
        http_reply_end(exchange);
}

void http_drop_body(struct http_exchange *exchange)
{
    check_open(exchange);
    free(exchange->body);
    exchange->body = NULL;
    exchange->body_length = 0;
}

void http_reply(struct http_exchange *exchange, int status, const char *content_type, const void *body, size_t length)
{
    http_reply_begin(exchange, status, content_type);
    http_reply_write(exchange, body, length);
    if (!exchange->is_over)
        http_reply_end(exchange);
}

size_t http_reply_unsent(const struct http_exchange *exchange)
{
    return 0;
}

int http_reply_has_begun(const struct http_exchange *exchange)
{
    return exchange->has_begun;
}

void http_on_close(struct http_exchange *exchange, void (*closed)(void *context), void *context)
{
    check_open(exchange);
    exchange->closed = closed;
    exchange->closed_context = context;
}

void fake_hang_up(struct http_exchange *exchange)
{
    if (exchange->is_over)
        return;
    exchange->is_over = exchange->is_closed = 1;
    if (exchange->closed)
        exchange->closed(exchange->closed_context);
}

void fake_free(struct http_exchange *exchange)
{
    free(exchange->body);
    free(exchange->reply.data);
    free(exchange);
}

const char *fake_header(const struct http_exchange *exchange, const char *name)
{
    for (size_t i = 0; i < exchange->header_count; i++)
        if (strcasecmp(exchange->headers[i].name, name) == 0)
            return exchange->headers[i].value;
    return NULL;
}

struct http_exchange *fake_ask(struct fake_server *server, const char *method, const char *path,
                               const char *const *headers, const char *body)
{
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    assert_non_null(exchange);
    snprintf(exchange->method, sizeof exchange->method, "%s", method);
    snprintf(exchange->path, sizeof exchange->path, "%.*s", (int)strcspn(path, "?"), path);
    snprintf(exchange->query, sizeof exchange->query, "%s", strchr(path, '?') ? strchr(path, '?') + 1 : "");
    for (; headers && *headers; headers++) {
        const char *colon = strchr(*headers, ':');
        struct fake_header *header = exchange->given + exchange->given_count++;
        snprintf(header->name, sizeof header->name, "%.*s", (int)(colon - *headers), *headers);
        snprintf(header->value, sizeof header->value, "%s", colon + 2);
    }
    if (body)
        server->handler.head(server->handler.context, exchange);
    if (exchange->is_over) {
        exchange->is_refused = 1;
        return exchange;
    }
    exchange->body_length = body ? strlen(body) : 0;
    exchange->body = calloc(1, exchange->body_length + 1);
    assert_non_null(exchange->body);
    if (body)
        memcpy(exchange->body, body, exchange->body_length);
    server->handler.request(server->handler.context, exchange);
    return exchange;
}

/* JSON of answers */

static const struct json *walk(const struct json *value, const char *way)
{
    char key[80];
    while (value && *way) {
        if (*way == '[') {
            size_t number = strtoul(way + 1, NULL, 10);
            value = json_is(value, JSON_ARRAY) && number < value->length ? value->items[number] : NULL;
            way = strchr(way, ']') + 1;
        } else {
            size_t length = strcspn(way, ".[");
            snprintf(key, sizeof key, "%.*s", (int)length, way);
            value = json_get(value, key);
            way += length;
        }
        way += *way == '.';
    }
    return value;
}

static const char *text_at(const char *text, size_t length, const char *way)
{
    static char kept[4][20000];
    static size_t next;
    char *result = kept[next++ % 4];
    struct arena arena = {0};
    struct buffer out = {0};
    bulla_error error = {0};
    const struct json *whole = json_parse(text, length, "answer", &arena, &error);
    if (!whole)
        fail_msg("%s: %.*s", error.text, (int)length, text);
    const struct json *value = walk(whole, way);
    if (value && value->type != JSON_STRING)
        json_write(&out, value);
    else if (value)
        buffer_append(&out, value->text, value->length);
    snprintf(result, sizeof kept[0], "%s", value ? out.data ? (char *)out.data : "" : "-");
    buffer_free(&out);
    arena_free(&arena);
    return result;
}

const char *fake_at(const struct http_exchange *exchange, const char *way)
{
    return text_at((char *)exchange->reply.data, exchange->reply.length, way);
}

/* The n-th line of data, with *length; NULL after the last. */
static const char *find_event(const struct http_exchange *exchange, size_t number, size_t *length)
{
    const char *at = exchange->reply.data ? (char *)exchange->reply.data : "";
    for (; (at = strstr(at, "data: ")) != NULL; at += *length) {
        at += strlen("data: ");
        const char *end = strstr(at, "\n\n");
        assert_non_null(end);
        *length = (size_t)(end - at);
        if (strncmp(at, "[DONE]", 6) != 0 && number-- == 0)
            return at;
    }
    return NULL;
}

size_t fake_events(const struct http_exchange *exchange)
{
    size_t count = 0, length;
    while (find_event(exchange, count, &length))
        count++;
    return count;
}

const char *fake_event_at(const struct http_exchange *exchange, size_t event, const char *way)
{
    size_t length = 0;
    const char *text = find_event(exchange, event, &length);
    if (!text)
        fail_msg("the stream has no event %zu", event);
    return text_at(text, length, way);
}

void check_at(const struct http_exchange *exchange, const char *way, const char *expected)
{
    const char *found = fake_at(exchange, way);
    if (strcmp(found, expected) != 0)
        fail_msg("%s is %s, expected %s, in %s", way, found, expected, (char *)exchange->reply.data);
}

void check_event(const struct http_exchange *exchange, size_t event, const char *way, const char *expected)
{
    const char *found = fake_event_at(exchange, event, way);
    if (strcmp(found, expected) != 0)
        fail_msg("event %zu: %s is %s, expected %s, in %s", event, way, found, expected, (char *)exchange->reply.data);
}

void check_error(const struct http_exchange *exchange, int status, const char *code, const char *param)
{
    if (exchange->status != status)
        fail_msg("status %d, expected %d: %s", exchange->status, status, (char *)exchange->reply.data);
    check_at(exchange, "error.code", code);
    check_at(exchange, "error.param", param);
    assert_true(strlen(fake_at(exchange, "error.message")) > 10);
    assert_string_not_equal(fake_at(exchange, "error.type"), "-");
    assert_true(exchange->is_over);
    if (status == 429 || status == 503)
        assert_non_null(fake_header(exchange, "retry-after"));
}

void ask_and_expect(struct fake_server *server, const char *method, const char *path, const char *const *headers,
                    const char *body, int status, const char *way, const char *expected)
{
    struct http_exchange *exchange = fake_ask(server, method, path, headers, body);
    if (exchange->status != status)
        fail_msg("%s %s: status %d, expected %d: %s", method, path, exchange->status, status,
                 (char *)exchange->reply.data);
    if (way)
        check_at(exchange, way, expected);
    fake_free(exchange);
}

/* Models: two at most, in a list that lives as long as the test. */

struct models {
    struct served_model list[4];
    size_t count;
};

void models_root(const struct served_model *model, uint8_t root[32])
{
    memset(root, strcmp(model->name, "small") == 0 ? 1 : 2, 32);
}

size_t models_roots(struct models *models, uint8_t (*roots)[32], size_t most)
{
    for (size_t i = 0; i < models->count && i < most; i++)
        models_root(models->list + i, roots[i]);
    return models->count < most ? models->count : most;
}

struct served_model *models_find(struct models *models, const char *name)
{
    for (size_t i = 0; i < models->count; i++) {
        struct served_model *model = models->list + i;
        if ((!name || !*name) && models->count == 1)
            return model;
        if (name && strcmp(model->name, name) == 0)
            return model;
        for (size_t k = 0; name && k < model->alias_count; k++)
            if (strcmp(model->aliases[k], name) == 0)
                return model;
    }
    return NULL;
}

struct served_model *models_at(struct models *models, size_t number)
{
    return number < models->count ? models->list + number : NULL;
}

void models_begin(struct served_model *model)
{
    model->busy++;
}

void models_end(struct models *models, struct served_model *model)
{
    assert_true(model->busy > 0);
    model->busy--;
}

void models_sweep(struct models *models)
{
}

/* The page */

static const struct page_file page_files[] = {{"/", "text/html; charset=utf-8", "<p>", 3},
                                              {"/page/chat.js", "text/javascript", "1", 1}};
const char page_security_policy[] = "default-src 'none'";

const struct page_file *page_find(const char *path)
{
    for (size_t i = 0; i < sizeof page_files / sizeof page_files[0]; i++)
        if (strcmp(page_files[i].path, path) == 0)
            return page_files + i;
    return NULL;
}

/* The backend */

static struct answer *fake_start(struct backend *backend, const struct answer_request *request,
                                 const struct answer_sink *sink, struct answer_error *problem)
{
    struct fake_backend *fake = (struct fake_backend *)backend;
    if (fake->refusal.status) {
        *problem = fake->refusal;
        return NULL;
    }
    assert_true(fake->count < sizeof fake->answers / sizeof fake->answers[0]);
    struct fake_answer *answer = fake->answers + fake->count++;
    *answer = (struct fake_answer){.request = *request, .sink = *sink,
                                   .messages = request->messages ? request->messages->length : 0};
    answer->request.messages = answer->request.tools = answer->request.template_kwargs = NULL;
    answer->request.tool_name = NULL;
    if (fake->play)
        fake->play(fake, answer);
    return (struct answer *)answer;
}

static void fake_cancel(struct answer *answer)
{
    struct fake_answer *fake = (struct fake_answer *)answer;
    assert_false(fake->is_over || fake->is_cancelled);
    fake->is_cancelled = 1;
}

static void fake_describe(const struct backend *backend, struct backend_info *info)
{
    const struct fake_backend *fake = (const struct fake_backend *)backend;
    *info = (struct backend_info){.kind = fake->kind ? fake->kind : "native", .context = 2048, .vocabulary = 1000, .spellings = 128, .is_verified = !fake->is_unverified,
                                  .model_root = fake->is_unverified ? NULL : "0123456789abcdef0123456789abcdef"};
    info->was_ready = fake->was_ready;
    info->state = fake->state == BACKEND_STARTING ? BACKEND_STARTING
                  : fake->state == BACKEND_READY  ? BACKEND_READY
                                                  : BACKEND_FAILED;
}

static void fake_count(const struct backend *backend, struct backend_counters *counters)
{
    *counters = (struct backend_counters){.running = 3};
}

/* A character is a token. */
static int fake_tokenize(struct backend *backend, const struct answer_request *request, int adds_special, uint32_t **ids,
                         size_t *count, bulla_error *error)
{
    const char *text = request->prompt ? request->prompt : "chat";
    *count = strlen(text) + (adds_special != 0);
    *ids = memory_alloc(*count, sizeof **ids, error);
    if (!*ids)
        return error->code;
    if (adds_special)
        (*ids)[0] = 1;
    for (size_t i = 0; text[i]; i++)
        (*ids)[i + (adds_special != 0)] = (unsigned char)text[i];
    return BULLA_OK;
}

static int fake_detokenize(struct backend *backend, const uint32_t *ids, size_t count, size_t most, char **text,
                           size_t *length, bulla_error *error)
{
    size_t spelled = ((struct fake_backend *)backend)->spelled;
    spelled = spelled ? spelled : 1;
    if (count * spelled > most)
        return bulla_fail(error, BULLA_E_LIMIT, "the text is longer than %zu bytes", most);
    *text = memory_alloc(count * spelled + 1, 1, error);
    if (!*text)
        return error->code;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] > 127) {
            bulla_text_free(*text);
            *text = NULL;
            return bulla_fail(error, BULLA_E_USAGE, "id %u is beyond the vocabulary", ids[i]);
        }
        memset(*text + i * spelled, (int)ids[i], spelled);
    }
    *length = count * spelled;
    return BULLA_OK;
}

/* Ids up to 127 are their characters, those beyond are bytes of characters. */
static int fake_spell(const struct backend *backend, uint32_t id, const char **bytes, size_t *length, bulla_error *error)
{
    static char text[100000]; /* of the last id */
    size_t spelled = ((const struct fake_backend *)backend)->spelled;
    if (id > 255)
        return bulla_fail(error, BULLA_E_USAGE, "id %u is beyond the vocabulary", id);
    *length = spelled ? spelled : 1;
    assert_true(*length <= sizeof text);
    memset(text, (int)id, *length);
    *bytes = text;
    return BULLA_OK;
}

static const struct backend_class fake_class = {.name = "fake", .start = fake_start, .cancel = fake_cancel,
                                                .describe = fake_describe, .count = fake_count,
                                                .tokenize = fake_tokenize, .detokenize = fake_detokenize,
                                                .spell = fake_spell};

struct fake_answer *fake_last(struct fake_server *server)
{
    assert_true(server->fake.count > 0);
    return server->fake.answers + server->fake.count - 1;
}

void fake_tell(struct fake_answer *answer, const struct answer_delta *delta)
{
    assert_false(answer->is_cancelled || answer->is_over);
    answer->sink.delta(answer->sink.context, delta);
}

void fake_text(struct fake_answer *answer, uint32_t choice, const char *text)
{
    fake_tell(answer, &(struct answer_delta){.choice = choice, .tokens = 1, .text = text, .text_length = strlen(text),
                                             .tool = -1});
}

void fake_finish(struct fake_answer *answer, uint32_t choice, const char *reason, const char *stop)
{
    answer->sink.finish(answer->sink.context, choice, reason, stop);
}

void fake_end(struct fake_answer *answer, uint64_t prompt, uint64_t output)
{
    struct answer_usage usage = {.prompt_tokens = prompt, .cached_tokens = 2, .output_tokens = output,
                                 .reasoning_tokens = 1};
    assert_false(answer->is_cancelled || answer->is_over);
    answer->is_over = 1;
    answer->sink.end(answer->sink.context, &usage);
}

void fake_fail(struct fake_answer *answer, int status, const char *type, const char *code, const char *message)
{
    struct answer_error problem = {.status = status, .type = type, .code = code};
    assert_false(answer->is_cancelled || answer->is_over);
    snprintf(problem.message, sizeof problem.message, "%s", message);
    answer->is_over = 1;
    (answer->sink.fail)(answer->sink.context, &problem); /* cmocka has a macro of this name */
}

void fake_play_at_once(struct fake_backend *fake, struct fake_answer *answer)
{
    for (uint32_t i = 0; i < answer->request.choices; i++) {
        fake_text(answer, i, "now");
        fake_finish(answer, i, "length", NULL);
    }
    fake_end(answer, 1, answer->request.choices);
}

/* Rules */

static int authorise(void *context, enum rules_scope scope, const char *authorization, const char *api_key,
                     struct rules_identity *identity, struct answer_error *problem)
{
    struct fake_server *server = context;
    int is_admin = authorization && strcmp(authorization, "Bearer admin") == 0;
    int is_user = is_admin || (authorization ? strcmp(authorization, "Bearer user") == 0
                                             : api_key && strcmp(api_key, "user") == 0);
    *identity = server->identity;
    if (scope == SCOPE_OPEN || ((scope == SCOPE_USE || scope == SCOPE_METRICS) && is_user) || is_admin)
        return BULLA_OK;
    *problem = (struct answer_error){.status = is_user ? 403 : 401, .type = "authentication_error",
                                     .code = "invalid_api_key", .message = "the key is not good for this"};
    return BULLA_E_INPUT;
}

static void record(void *context, const struct rules_record *told)
{
    struct fake_server *server = context;
    server->record = *told;
    server->records++;
    snprintf(server->record_id, sizeof server->record_id, "%s", told->request_id);
    snprintf(server->record_route, sizeof server->record_route, "%s", told->route);
    snprintf(server->record_code, sizeof server->record_code, "%s", told->error_code ? told->error_code : "");
    snprintf(server->record_finish, sizeof server->record_finish, "%s", told->finish ? told->finish : "");
}

static void first_token(void *context, const char *model, uint64_t nanoseconds)
{
    ((struct fake_server *)context)->first_tokens++;
    assert_string_equal(model, "small");
}

static void next_token(void *context, const char *model, uint64_t nanoseconds, uint32_t tokens)
{
    ((struct fake_server *)context)->next_tokens += tokens;
}

static int write_metrics(void *context, struct buffer *out, bulla_error *error)
{
    buffer_append_text(out, "vllm:num_requests_running 0\n");
    return BULLA_OK;
}

static int load_model(void *context, const struct json *description, struct answer_error *problem)
{
    struct models *models = ((struct fake_server *)context)->models;
    if (json_get(description, "path")) {
        ((struct fake_server *)context)->later = (struct fake_backend){.backend.class = &fake_class};
        models->list[models->count++] = (struct served_model){
            .name = "later", .backend = &((struct fake_server *)context)->later.backend};
        return BULLA_OK;
    }
    *problem = (struct answer_error){.status = 400, .type = "invalid_request_error", .param = "path",
                                     .message = "`path` is missing"};
    return BULLA_E_INPUT;
}

static int unload_model(void *context, const char *name, struct answer_error *problem)
{
    if (strcmp(name, "small") == 0)
        return BULLA_OK;
    *problem = (struct answer_error){.status = 404, .type = "invalid_request_error", .code = "model_not_found",
                                     .message = "no such model"};
    return BULLA_E_USAGE;
}

void fake_open(struct fake_server *server, int has_rules, const struct api_options *options)
{
    struct api_options all = options ? *options : (struct api_options){.version = "0.1.0"};
    bulla_error error = {0};
    memset(server, 0, sizeof *server);
    server->base = event_base_new();
    assert_non_null(server->base);
    server->models = calloc(1, sizeof *server->models);
    assert_non_null(server->models);
    server->fake.backend.class = &fake_class;
    server->fake.state = BACKEND_READY;
    server->models->list[0] = (struct served_model){.name = "small", .aliases = {"tiny"}, .alias_count = 1,
                                                    .created = 1700000000, .backend = &server->fake.backend};
    server->models->count = 1;
    server->model = server->models->list;
    server->rules = (struct serve_rules){.context = server, .authorise = authorise, .record = record,
                                         .first_token = first_token, .next_token = next_token,
                                         .write_metrics = write_metrics, .load_model = load_model,
                                         .unload_model = unload_model};
    snprintf(server->identity.tenant, sizeof server->identity.tenant, "acme");
    all.models = server->models;
    all.rules = has_rules ? &server->rules : NULL;
    assert_ok(api_open(server->base, &all, &server->api, &error), error);
    server->handler = api_handler(server->api);
}

void fake_loop(struct fake_server *server)
{
    event_base_loop(server->base, EVLOOP_NONBLOCK);
}

void fake_close(struct fake_server *server)
{
    api_close(server->api);
    assert_int_equal(server->model->busy, 0);
    event_base_free(server->base);
    free(server->models);
}
