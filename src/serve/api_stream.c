/* Server-sent events: how a stream begins, goes on, and is kept alive while nothing is told. */
#include "base/clock.h"
#include "serve/api_answer.h"

void api_stream_begin(struct api_answer *answer)
{
    if (answer->has_begun || answer->is_done)
        return;
    struct http_exchange *exchange = answer->call.exchange;
    bulla_error error = {0};
    answer->has_begun = 1;
    api_call_set_headers(&answer->call);
    http_reply_header(exchange, "Cache-Control", "no-cache", &error);
    http_reply_header(exchange, "X-Accel-Buffering", "no", &error); /* nginx would hold events back */
    http_reply_begin(exchange, 200, "text/event-stream; charset=utf-8");
    answer->written = clock_nanoseconds();
    if (!answer->is_done && answer->form->begin)
        answer->form->begin(answer);
}

void api_stream_send(struct api_answer *answer)
{
    if (answer->is_done)
        return;
    http_reply_write(answer->call.exchange, answer->out.data, answer->out.length);
    answer->call.record.reply_bytes += answer->out.length;
    answer->written = clock_nanoseconds();
    buffer_clear(&answer->out);
}

void api_stream_keep_alive(struct api *api)
{
    static const char comment[] = ": keep-alive\n\n";
    uint64_t now = clock_nanoseconds();
    for (struct api_answer *answer = api->answers, *next; answer; answer = next) {
        next = answer->next;
        if (!answer->request.is_stream || now - answer->written < api->keep_alive_nanoseconds)
            continue;
        api_stream_begin(answer);
        buffer_append(&answer->out, comment, sizeof comment - 1);
        if (answer->out.error.code != BULLA_OK)
            api_answer_fail_memory(answer);
        else
            api_stream_send(answer);
    }
}
