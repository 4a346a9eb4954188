/* Bodies of requests into each reader. The first byte says which; what is accepted must be whole, what is refused
 * must say why. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "serve/api_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct api_request *request)
{
    const struct answer_request *answer = &request->answer;
    bulla_sampling sampling = answer->sampling;
    bulla_error error = {0};
    if (request->prompt_count == 0 || request->prompt_count > REQUEST_MOST_PROMPTS || answer->choices == 0 ||
        answer->choices > ANSWER_MOST_CHOICES || answer->stop_count > ANSWER_MOST_STOPS ||
        answer->logprobs > ANSWER_MOST_LOGPROBS || (answer->tool_choice == TOOLS_NAMED && !answer->tool_name))
        abort();
    if (bulla_sampling_check(&sampling, UINT32_MAX, &error) != BULLA_OK)
        abort();
    if (answer->kind != ANSWER_CHAT)
        return;
    for (size_t i = 0; i < answer->messages->length; i++)
        if (!json_is(json_get(answer->messages->items[i], "role"), JSON_STRING))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const readers[])(const char *, size_t, struct api_request *, struct answer_error *) = {
        api_request_read_chat,     api_request_read_completion, api_request_read_embedding,
        api_request_read_response, api_request_read_tokenize,   api_request_read_detokenize};
    struct api_request request = {0};
    struct answer_error problem = {0};
    struct buffer written = {0};
    if (size == 0)
        return 0;
    if (readers[data[0] % 6]((const char *)data + 1, size - 1, &request, &problem) == BULLA_OK) {
        check(&request);
        if (request.answer.messages)
            json_write(&written, request.answer.messages);
    } else if (problem.status < 400 || !problem.type || !*problem.message) {
        abort();
    }
    buffer_free(&written);
    api_request_free(&request);
    return 0;
}
