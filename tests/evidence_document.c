#define _GNU_SOURCE
#include "evidence_document.h"

#include "test.h"

#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

int64_t evidence_time(const char *text)
{
    struct tm parts = {0};
    const char *rest = strptime(text, "%Y-%m-%d", &parts);
    if (rest && *rest == 'T')
        rest = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    assert_true(rest && *rest == 0);
    return (int64_t)timegm(&parts);
}

const char *evidence_folder(const char *name)
{
    static char folder[1024];
    const char *shared = getenv("BULLA_SHARED");
    snprintf(folder, sizeof folder, "%s/vectors/%s", shared ? shared : "/nowhere", name);
    return access(folder, R_OK) == 0 ? folder : NULL;
}

uint8_t *evidence_file(const char *folder, const char *name, size_t *length)
{
    char path[2048];
    uint8_t *bytes;
    bulla_error error = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(file_read(path, 1 << 24, &bytes, length, &error), error);
    return bytes;
}

void evidence_begin(struct buffer *document, const char *type)
{
    buffer_clear(document);
    buffer_append_format(document, "{\"bulla_evidence\":1,\"type\":\"%s\"", type);
}

void evidence_add_bytes(struct buffer *document, const char *member, const void *bytes, size_t length)
{
    buffer_append_format(document, ",\"%s\":\"", member);
    base64_append(document, bytes, length);
    buffer_append_byte(document, '"');
}

void evidence_add_texts(struct buffer *document, const char *member, const char *const *texts, size_t count)
{
    buffer_append_format(document, ",\"%s\":[", member);
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(document, i ? "," : "");
        json_write_string(document, texts[i], strlen(texts[i]));
    }
    buffer_append_byte(document, ']');
}

bulla_verdict *evidence_judge(const struct buffer *document, const char *policy, int64_t time)
{
    bulla_error error = {0};
    bulla_verdict *verdict;
    const bulla_evidence_options options = {.policy = policy, .policy_length = policy ? strlen(policy) : 0, .time = time};
    assert_int_equal(document->error.code, BULLA_OK);
    assert_ok(bulla_verify_evidence((const char *)document->data, document->length, &options, &verdict, &error), error);
    return verdict;
}

static struct json *read_verdict(const bulla_verdict *verdict, struct arena *arena)
{
    char *text;
    size_t length;
    bulla_error error = {0};
    assert_ok(bulla_verdict_text(verdict, 1, &text, &length, &error), error);
    struct json *value = json_parse(text, length, "verdict", arena, &error);
    if (!value)
        fail_msg("%s", error.text);
    bulla_verdict_text_free(text);
    return json_get(value, "checks");
}

const char *evidence_state(const bulla_verdict *verdict, const char *check)
{
    static char state[32];
    struct arena arena = {0};
    const struct json *checks = read_verdict(verdict, &arena);
    state[0] = 0;
    for (size_t i = 0; i < checks->length; i++)
        if (strcmp(json_get(checks->items[i], "name")->text, check) == 0)
            snprintf(state, sizeof state, "%s", json_get(checks->items[i], "state")->text);
    arena_free(&arena);
    return state;
}

const char *evidence_failures(const bulla_verdict *verdict)
{
    static char failures[4096];
    struct arena arena = {0};
    const struct json *checks = read_verdict(verdict, &arena);
    size_t used = 0;
    failures[0] = 0;
    for (size_t i = 0; i < checks->length; i++)
        if (strcmp(json_get(checks->items[i], "state")->text, "fail") == 0)
            used += (size_t)snprintf(failures + used, sizeof failures - used, "%s%s", used ? " " : "",
                                     json_get(checks->items[i], "name")->text);
    arena_free(&arena);
    return failures;
}

uint64_t evidence_fail_allocations(const struct buffer *document, const char *policy, int64_t time)
{
    const bulla_evidence_options options = {.policy = policy, .policy_length = strlen(policy), .time = time};
    uint64_t count = memory_allocation_count();
    bulla_verdict *verdict = evidence_judge(document, policy, time);
    count = memory_allocation_count() - count;
    assert_true(bulla_verdict_passed(verdict));
    bulla_verdict_free(verdict);
    for (uint64_t failing = 1; failing <= count; failing++) {
        bulla_error error = {0};
        memory_inject_failure(failing, 0);
        int code = bulla_verify_evidence((const char *)document->data, document->length, &options, &verdict, &error);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK && bulla_verdict_passed(verdict))
            fail_msg("allocation %llu fails, and the verdict passes", (unsigned long long)failing);
        bulla_verdict_free(verdict);
    }
    return count;
}
