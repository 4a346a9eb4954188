/* What receipts cost a server's front, in CPU time: a step of the chain for each token, and for each answer its beginning
 * (salt, request of 1 KB, chain) and its end (the receipt written and signed). receipts [TOKENS [ANSWERS]]. */
#define _GNU_SOURCE
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve/receipts.h"

static const char parameters[] =
    "{\"chat_template_kwargs\":null,\"continue_final_message\":false,\"echo\":false,\"endpoint\":\"/v1/chat/completions\","
    "\"frequency_penalty\":0,\"ignore_eos\":false,\"logit_bias\":null,\"logprobs\":null,\"max_tokens\":64,\"min_p\":0,"
    "\"model\":\"smollm2\",\"n\":1,\"parallel_tool_calls\":true,\"presence_penalty\":0,\"reasoning_effort\":null,"
    "\"repetition_penalty\":1000000,\"response_format\":null,\"seed\":\"4044725499093298071\",\"stop\":[],\"temperature\":0,"
    "\"timeout\":null,\"tool_choice\":\"none\",\"tools\":null,\"top_k\":0,\"top_p\":1000000}";

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The log takes it and says at once that it is durable: the disk is not measured here. */
static int append(void *context, const uint8_t id[RECEIPT_ID], const void *receipt, size_t length, receipts_logged done,
                  void *done_context, bulla_error *error)
{
    done(done_context, "{}", 2, NULL);
    return BULLA_OK;
}

static void on_done(void *context, const struct buffer *document, const bulla_error *error)
{
    *(uint64_t *)context += document != NULL;
}

static struct receipt_issue *begin(struct receipts *receipts)
{
    static const char body[1024];
    const uint32_t ids[100] = {1};
    struct receipt_issue *issue;
    bulla_error error = {0};
    if (receipt_issue_open(receipts, 1, body, sizeof body, &issue, &error) != BULLA_OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    receipt_issue_prompt(issue, 0, ids, 100);
    return issue;
}

static void end(struct receipt_issue *issue, struct event_base *base, uint64_t *count)
{
    const struct receipt_facts facts = {.backend = "native", .parameters = parameters, .retention = "none"};
    bulla_error error = {0};
    receipt_issue_step(issue, 0, RECEIPT_FINISH, "stop", 4);
    receipt_issue_end(issue, 0, "stop");
    if (receipt_issue_submit(issue, &facts, on_done, count, &error) != BULLA_OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    event_base_loop(base, EVLOOP_NONBLOCK);
    receipt_issue_close(issue);
}

int main(int argc, char **argv)
{
    uint64_t tokens = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000, answers = argc > 2 ? strtoull(argv[2], NULL, 10) : 5000;
    struct event_base *base = event_base_new();
    struct receipts *receipts;
    struct receipts_options options = {.key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), .log = {.append = append}};
    bulla_error error = {0};
    uint64_t count = 0;
    if (!base || !options.key || receipts_open(base, &options, &receipts, &error) != BULLA_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    struct receipt_issue *issue = begin(receipts);
    double before = cpu_seconds();
    for (uint64_t i = 0; i < tokens; i++) {
        const uint32_t id = (uint32_t)i;
        receipt_issue_tokens(issue, 0, &id, 1);
        receipt_issue_step(issue, 0, RECEIPT_CONTENT, " token", 6);
    }
    double step = (cpu_seconds() - before) / (double)tokens;
    end(issue, base, &count);
    before = cpu_seconds();
    for (uint64_t i = 0; i < answers; i++)
        end(begin(receipts), base, &count);
    double answer = (cpu_seconds() - before) / (double)answers;
    printf("a token %.0f ns, an answer %.1f us, %" PRIu64 " receipts\n", 1e9 * step, 1e6 * answer, count);
    receipts_close(receipts);
    EVP_PKEY_free(options.key);
    event_base_free(base);
    return 0;
}
