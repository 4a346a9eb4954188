#include "cli/session.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "cli/model_cache.h"
#include "cli/output.h"

int session_open(const char *path, const bulla_engine_options *options, struct session *session, bulla_error *error)
{
    static const bulla_engine_options defaults = {0};
    memset(session, 0, sizeof *session);
    if (!options)
        options = &defaults;
    double start = clock_seconds();
    int code = model_cache_open(path, &(struct model_opening){.threads = options->threads}, &session->model, error);
    if (code != BULLA_OK)
        return code;
    size_t length;
    const char *source = bulla_model_chat_template(session->model, &length);
    if (length > 0)
        code = bulla_chat_template_compile(source, length, &session->chat_template, error);
    if (code != BULLA_OK)
        return bulla_fail_prefix(error, "%s: its chat template", path);
    code = bulla_engine_open(session->model, options, &session->engine, error);
    session->load_seconds = clock_seconds() - start;
    return code;
}

void session_close(struct session *session)
{
    if (session->engine)
        bulla_engine_close(session->engine);
    bulla_chat_template_free(session->chat_template);
    bulla_model_close(session->model);
    memset(session, 0, sizeof *session);
}

void session_prompt_free(struct session_prompt *prompt)
{
    bulla_tokens_free(prompt->ids);
    *prompt = (struct session_prompt){0};
}

int session_chat_prompt(const struct session *session, const struct chat_message *messages, size_t count,
                        struct session_prompt *prompt, bulla_error *error)
{
    *prompt = (struct session_prompt){0};
    if (!session->chat_template)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "the model has no chat template");
    for (size_t i = 0; i < count; i++) {
        size_t valid = utf8_check(messages[i].content, messages[i].length);
        if (valid < messages[i].length)
            return bulla_fail(error, BULLA_E_INPUT, "the %s's text is not UTF-8: byte 0x%02X at offset %zu of %zu",
                              messages[i].role, (unsigned char)messages[i].content[valid], valid, messages[i].length);
    }
    return chat_encode_messages(bulla_model_tokenizer(session->model), session->chat_template, messages, count, 1,
                                (long long)time(NULL), &prompt->ids, &prompt->count, error);
}

int session_raw_prompt(const struct session *session, const char *text, size_t length, struct session_prompt *prompt,
                       bulla_error *error)
{
    *prompt = (struct session_prompt){0};
    return chat_encode(bulla_model_tokenizer(session->model), text, length, SIZE_MAX, &prompt->ids, &prompt->count, error);
}
