#include "connect_answer.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static const char *const words[] = {"The", " capital", " is", " \xe2\x98\x83"};
enum { WORDS = sizeof words / sizeof *words };

struct maker {
    struct connect_answer *answer;
    uint8_t salt[RECEIPT_SALT], chain[RECEIPT_HASH];
    struct buffer steps;
    uint32_t id;
};

static struct buffer *next(struct maker *maker)
{
    if (maker->answer->count == CONNECT_ANSWER_MOST)
        abort();
    return &maker->answer->events[maker->answer->count++];
}

static void write_text(struct buffer *out, const char *before, const char *text)
{
    buffer_append_text(out, before);
    json_write_string(out, text, strlen(text));
}

/* The member "bulla" of an event that delivers this. */
static void write_step(struct maker *maker, struct buffer *out, const char *name, enum receipt_part part, const char *text,
                       int has_text)
{
    char hex[2 * RECEIPT_HASH + 1];
    uint32_t id = maker->id++;
    if (receipt_chain_step(maker->chain, part, &id, 1, text, strlen(text), NULL) != BULLA_OK)
        abort();
    hex_encode(maker->chain, sizeof maker->chain, hex);
    buffer_append_format(out, ",\"bulla\":{\"choice\":0,\"steps\":[{\"part\":\"%s\",\"ids\":[%u]", name, id);
    if (has_text)
        write_text(out, ",\"text\":", text);
    buffer_append_format(out, "}],\"chain\":\"%s\"}", hex);
    if (maker->steps.length)
        buffer_append_byte(&maker->steps, ',');
    buffer_append_format(&maker->steps, "{\"part\":\"%s\",\"ids\":[%u],\"text\":", name, id);
    write_text(&maker->steps, "", text);
    buffer_append_byte(&maker->steps, '}');
}

static void write_receipt(struct maker *maker, struct buffer *out)
{
    static const char *const endpoints[] = {"/v1/chat/completions", "/v1/completions", "/v1/responses"};
    struct connect_answer *answer = maker->answer;
    uint8_t seed[32] = {7};
    struct receipt_choice choice = {.tokens = WORDS + 1, .finish = "stop"};
    struct buffer parameters = {0};
    struct receipt receipt = {.time = 1700000000, .backend = "native", .is_simulated = 1, .program_version = 1,
                              .prompt_tokens = 5, .output_tokens = WORDS + 1, .choices = &choice, .choice_count = 1,
                              .retention = "none"};
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    size_t length = RECEIPT_KEY;
    memcpy(choice.chain, maker->chain, sizeof choice.chain);
    memset(receipt.id, 1, sizeof receipt.id);
    memset(receipt.model_root, 2, sizeof receipt.model_root);
    memset(receipt.evidence, 3, sizeof receipt.evidence);
    buffer_append_format(&parameters,
                         "{\"chat_template_kwargs\":null,\"continue_final_message\":false,\"echo\":false,\"endpoint\":\"%s\","
                         "\"frequency_penalty\":0,\"ignore_eos\":false,\"logit_bias\":null,\"logprobs\":null,"
                         "\"max_tokens\":100,\"min_p\":0,\"model\":\"m\",\"n\":1,\"parallel_tool_calls\":true,"
                         "\"presence_penalty\":0,\"reasoning_effort\":null,\"repetition_penalty\":1000000,"
                         "\"response_format\":null,\"seed\":\"18446744073709551611\",\"stop\":[\"x\",\"yy\"],"
                         "\"temperature\":500000,\"timeout\":null,\"tool_choice\":\"none\",\"tools\":null,\"top_k\":0,"
                         "\"top_p\":1000000}",
                         endpoints[answer->form]);
    receipt.parameters_text = (const char *)parameters.data;
    if (!key || EVP_PKEY_get_raw_public_key(key, receipt.key, &length) != 1 ||
        receipt_request_hash(maker->salt, answer->request.data, answer->request.length, receipt.request, NULL) != BULLA_OK)
        abort();
    memcpy(answer->pin.receipt_key, receipt.key, sizeof receipt.key);
    buffer_append_text(out, ",\"bulla_receipt\":{\"bulla_receipt\":1,\"signed\":");
    if (receipt_sign(&receipt, key, out, NULL) != BULLA_OK)
        abort();
    buffer_append_byte(out, '}');
    buffer_free(&parameters);
    EVP_PKEY_free(key);
}

/* ---- Chats and completions ---- */

static void begin_chunk(struct maker *maker, struct buffer *out)
{
    buffer_append_format(out, "{\"id\":\"x\",\"object\":\"%s\",\"created\":1,\"model\":\"m\",\"system_fingerprint\":null,"
                              "\"choices\":[",
                         maker->answer->form == CONNECT_CHAT ? "chat.completion.chunk" : "text_completion");
}

static void make_chunks(struct maker *maker)
{
    int is_chat = maker->answer->form == CONNECT_CHAT;
    for (size_t i = 0; i < WORDS; i++) {
        struct buffer *out = next(maker);
        begin_chunk(maker, out);
        write_text(out, is_chat ? "{\"index\":0,\"delta\":{\"content\":" : "{\"index\":0,\"text\":", words[i]);
        buffer_append_text(out, is_chat ? "}" : "");
        buffer_append_text(out, ",\"logprobs\":null,\"finish_reason\":null}]");
        write_step(maker, out, "content", RECEIPT_CONTENT, words[i], 0);
        buffer_append_byte(out, '}');
    }
    struct buffer *out = next(maker);
    begin_chunk(maker, out);
    buffer_append_text(out, is_chat ? "{\"index\":0,\"delta\":{}" : "{\"index\":0,\"text\":\"\"");
    buffer_append_text(out, ",\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}]");
    write_step(maker, out, "finish", RECEIPT_FINISH, "stop", 0);
    write_receipt(maker, out);
    buffer_append_byte(out, '}');
    buffer_append_text(next(maker), "[DONE]");
}

static void make_whole(struct maker *maker)
{
    struct buffer *out = next(maker), dropped = {0};
    int is_chat = maker->answer->form == CONNECT_CHAT;
    for (size_t i = 0; i < WORDS; i++)
        write_step(maker, &dropped, "content", RECEIPT_CONTENT, words[i], 0);
    write_step(maker, &dropped, "finish", RECEIPT_FINISH, "stop", 0);
    buffer_free(&dropped);
    begin_chunk(maker, out);
    write_text(out, is_chat ? "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":" : "{\"index\":0,\"text\":",
               maker->answer->text);
    buffer_append_text(out, is_chat ? "}" : "");
    buffer_append_format(out, ",\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],\"usage\":"
                              "{\"prompt_tokens\":5,\"completion_tokens\":%d,\"total_tokens\":%d},\"bulla\":{\"choices\":"
                              "[{\"steps\":[", WORDS + 1, WORDS + 6);
    buffer_append(out, maker->steps.data, maker->steps.length);
    buffer_append_text(out, "]}]}");
    write_receipt(maker, out);
    buffer_append_byte(out, '}');
}

/* ---- Responses ---- */

static void write_item(struct buffer *out, const char *text)
{
    buffer_append_text(out, "{\"id\":\"i\",\"type\":\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[");
    if (*text) {
        write_text(out, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":", text);
        buffer_append_byte(out, '}');
    }
    buffer_append_text(out, "]}");
}

static void make_response(struct maker *maker)
{
    const char *text = maker->answer->text;
    buffer_append_text(next(maker), "{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"output\":[]}}");
    struct buffer *out = next(maker);
    buffer_append_text(out, "{\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":");
    write_item(out, "");
    buffer_append_byte(out, '}');
    for (size_t i = 0; i < WORDS; i++) {
        out = next(maker);
        write_text(out, "{\"type\":\"response.output_text.delta\",\"output_index\":0,\"item_id\":\"i\",\"content_index\":0,"
                        "\"delta\":", words[i]);
        write_step(maker, out, "content", RECEIPT_CONTENT, words[i], 0);
        buffer_append_byte(out, '}');
    }
    out = next(maker);
    write_text(out, "{\"type\":\"response.output_text.done\",\"output_index\":0,\"item_id\":\"i\",\"content_index\":0,\"text\":",
               text);
    buffer_append_byte(out, '}');
    out = next(maker);
    buffer_append_text(out, "{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":");
    write_item(out, text);
    buffer_append_byte(out, '}');
    out = next(maker);
    buffer_append_text(out, "{\"type\":\"response.completed\",\"response\":{\"model\":\"m\",\"status\":\"completed\","
                            "\"error\":null,\"output\":[");
    write_item(out, text);
    buffer_append_format(out, "],\"usage\":{\"input_tokens\":5,\"output_tokens\":%d}}", WORDS + 1);
    write_step(maker, out, "finish", RECEIPT_FINISH, "stop", 1);
    write_receipt(maker, out);
    buffer_append_byte(out, '}');
}

void connect_answer_make(enum connect_form form, int is_stream, const char *more, struct connect_answer *answer)
{
    struct maker maker = {.answer = answer, .id = 100};
    uint8_t id[RECEIPT_ID];
    memset(answer, 0, sizeof *answer);
    answer->form = form;
    answer->is_stream = is_stream;
    answer->text = "The capital is \xe2\x98\x83";
    memset(maker.salt, 9, sizeof maker.salt);
    memset(id, 1, sizeof id);
    hex_encode(maker.salt, sizeof maker.salt, answer->salt);
    hex_encode(id, sizeof id, answer->id);
    memset(answer->pin.models[0], 2, sizeof answer->pin.models[0]);
    answer->pin.model_count = 1;
    answer->pin.is_simulated = 1;
    buffer_append_format(&answer->request, "{\"model\":\"m\",\"temperature\":0.5%s}", more);
    if (receipt_chain_start(maker.salt, 0, maker.chain, NULL) != BULLA_OK)
        abort();
    if (form == CONNECT_RESPONSE)
        make_response(&maker);
    else if (is_stream)
        make_chunks(&maker);
    else
        make_whole(&maker);
    buffer_free(&maker.steps);
}

void connect_answer_free(struct connect_answer *answer)
{
    for (size_t i = 0; i < answer->count; i++)
        buffer_free(&answer->events[i]);
    buffer_free(&answer->request);
}
