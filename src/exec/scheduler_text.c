/* The text of an answer, token by token. A stop string ends it at the byte that completes the first one, whatever the
 * tokens' borders; of those that end there the longest counts. Text that may be the beginning of one is held back. */
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "exec/answer.h"
#include "exec/scheduler_internal.h"

static int stop_open(struct stop *stop, const struct scheduler_text *text, bulla_error *error)
{
    stop->length = text->length;
    stop->text = memory_copy_text(text->text, text->length, error);
    stop->border = memory_alloc(text->length, sizeof *stop->border, error);
    if (!stop->text || !stop->border)
        return BULLA_E_MEMORY;
    for (size_t i = 1, matched = 0; i < stop->length; i++) {
        while (matched && stop->text[matched] != stop->text[i])
            matched = stop->border[matched - 1];
        matched += stop->text[matched] == stop->text[i];
        stop->border[i] = matched;
    }
    return BULLA_OK;
}

int text_open(struct job *job, const struct scheduler_request *request, bulla_error *error)
{
    if (request->stop_count > SCHEDULER_MOST_STOPS)
        return bulla_fail(error, BULLA_E_USAGE, "stop strings: found %zu, expected at most %d", request->stop_count,
                          SCHEDULER_MOST_STOPS);
    for (size_t i = 0; i < request->stop_count; i++) {
        const struct scheduler_text *stop = &request->stops[i];
        if (stop->length == 0)
            return bulla_fail(error, BULLA_E_USAGE, "stop string %zu is empty", i);
        if (utf8_check(stop->text, stop->length) != stop->length)
            return bulla_fail(error, BULLA_E_USAGE, "stop string %zu is not UTF-8", i);
    }
    job->stops = memory_alloc(request->stop_count, sizeof *job->stops, error);
    if (!job->stops)
        return BULLA_E_MEMORY;
    int code = BULLA_OK;
    for (size_t i = 0; i < request->stop_count && code == BULLA_OK; i++, job->stop_count++)
        code = stop_open(&job->stops[i], &request->stops[i], error);
    return code;
}

void text_close(struct job *job)
{
    for (size_t i = 0; i < job->stop_count; i++) {
        memory_free(job->stops[i].text);
        memory_free(job->stops[i].border);
    }
    memory_free(job->stops);
    buffer_free(&job->held);
    buffer_free(&job->out);
}

/* Whether the byte completes the string. */
static int stop_push(struct stop *stop, char byte)
{
    while (stop->matched && stop->text[stop->matched] != byte)
        stop->matched = stop->border[stop->matched - 1];
    stop->matched += stop->text[stop->matched] == byte;
    return stop->matched == stop->length;
}

/* Looks for stop strings in the held text from `from` on; where there is one, the text ends before it. */
static const struct stop *find_stop(struct job *job, size_t from)
{
    const struct stop *found = NULL;
    for (size_t i = from; i < job->held.length && !found; i++) {
        for (size_t s = 0; s < job->stop_count; s++)
            if (stop_push(&job->stops[s], (char)job->held.data[i]) && (!found || job->stops[s].length > found->length))
                found = &job->stops[s];
        if (found)
            job->held.length = i + 1 - found->length;
    }
    return found;
}

int text_append(const bulla_tokenizer *tokenizer, struct job *job, uint32_t token, const struct stop **stop,
                bulla_error *error)
{
    size_t before = job->held.length, kept = 0;
    int code = answer_append_text(tokenizer, &job->stream, token, &job->held, error);
    if (code != BULLA_OK)
        return code;
    *stop = find_stop(job, before);
    for (size_t s = 0; s < job->stop_count && !*stop; s++)
        kept = job->stops[s].matched > kept ? job->stops[s].matched : kept;
    size_t certain = job->held.length - kept;
    buffer_clear(&job->out);
    buffer_append(&job->out, job->held.data, certain);
    if (job->out.error.code != BULLA_OK)
        return bulla_fail(error, job->out.error.code, "%s", job->out.error.text);
    memmove(job->held.data, job->held.data + certain, kept);
    job->held.length = kept;
    return BULLA_OK;
}

int text_end(struct job *job, const struct stop **stop, bulla_error *error)
{
    char rest[4];
    size_t before = job->held.length;
    *stop = NULL;
    buffer_append(&job->held, rest, bulla_text_stream_end(&job->stream, rest, sizeof rest));
    if (job->held.error.code != BULLA_OK)
        return bulla_fail(error, job->held.error.code, "%s", job->held.error.text);
    *stop = find_stop(job, before);
    return BULLA_OK;
}
