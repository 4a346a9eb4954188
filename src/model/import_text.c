#define _GNU_SOURCE /* memmem */
/* The sequences of token ids on which import watches a model: the built-in text
 * (calibration.txt) section by section, then random ids. A section whose first byte is
 * '@' is a conversation: a line "@system", "@user" or "@assistant" begins a turn. A
 * model that is used through a chat template is watched through it. */
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "model/calibration.h"
#include "model/chat_prompt.h"
#include "model/import_state.h"
#include "model/program_names.h"

enum {
    TEXT_POSITIONS = 12288, /* at most, of the built-in text */
    FAST_POSITIONS = 768,
    RANDOM_SEQUENCES = 4,   /* of random ids, for ranges only */
    RANDOM_LENGTH = 48,
    SECTION_TURNS = 32,     /* at most; tests/python/test_calibration.py counts them */
};
static const uint64_t VALUE_BYTES = UINT64_C(500) << 20; /* activations in memory, about */
static const long long TEMPLATE_TIME = 1735732800; /* 1 January 2025, noon: for templates that name the day */

/* Most bytes a position that values take at one time. */
static uint64_t value_bytes(const struct importing *im)
{
    uint64_t now = 0, most = 1;
    for (uint32_t i = 0; i + 1 < im->list.count; i++) {
        const struct draft *drafts = im->list.drafts;
        int vector = program_kind(drafts[i].operation.kind)->result == VALUE_VECTOR;
        now += (uint64_t)drafts[i].operation.outputs * (vector ? sizeof(int32_t) : 1);
        most = now > most ? now : most;
        for (int j = 0; j < 3; j++) {
            int32_t input = drafts[i].operation.inputs[j];
            if (input < 0 || im->last_use[input] != i || (j > 0 && input == drafts[i].operation.inputs[0]))
                continue;
            vector = program_kind(drafts[input].operation.kind)->result == VALUE_VECTOR;
            now -= (uint64_t)drafts[input].operation.outputs * (vector ? sizeof(int32_t) : 1);
        }
    }
    return most;
}

/* Positions whose activations fit: the widest moment holds the inner network's
 * three vectors and the residual's few, in models of usual shape. */
static uint64_t positions_limit(const struct importing *im)
{
    uint64_t widest = 1;
    for (uint32_t i = 0; i + 1 < im->list.count; i++) {
        const bulla_operation *o = &im->list.drafts[i].operation;
        if (o->kind == BULLA_GATE)
            widest = 13 * (uint64_t)o->outputs > widest ? 13 * (uint64_t)o->outputs : widest;
    }
    uint64_t fits = VALUE_BYTES / (widest + 16 * im->list.drafts[0].operation.outputs);
    uint64_t wanted = im->options->fast ? FAST_POSITIONS : TEXT_POSITIONS;
    uint64_t unusual = (VALUE_BYTES + VALUE_BYTES / 2) / value_bytes(im);
    fits = fits < unusual ? fits : unusual;
    uint64_t limit = fits < wanted ? fits : wanted;
    return limit < 256 ? 256 : limit;
}

/* A simple generator for ids (D. Knuth's MMIX constants); quality is no matter. */
static uint32_t random_id(uint64_t *state, uint32_t vocabulary)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*state >> 33) % vocabulary);
}

static void add_sequence(struct importing *im, const uint32_t *ids, uint64_t count)
{
    if (count == 0)
        return;
    memcpy(im->ids + im->positions, ids, count * sizeof *ids);
    im->positions += count;
    im->sequence_starts[++im->sequences] = im->positions;
}

/* --- sections --- */

/* The section at `text`, which the next call finds after it; NULL at the end. */
static const char *next_section(const char **text, const char *end, size_t *length)
{
    const char *section = *text;
    if (section == end)
        return NULL;
    const char *feed = memchr(section, '\f', (size_t)(end - section));
    *length = (size_t)((feed ? feed - 1 : end) - section); /* without the newline before the form feed */
    *text = feed ? feed + 2 : end;
    return section;
}

static uint64_t count_sections(const char *text, const char *end)
{
    uint64_t count = 0;
    for (size_t length; next_section(&text, end, &length);)
        count++;
    return count;
}

/* Cuts a conversation into its turns; the roles' names are static. The built-in text alone comes here, whose turns
 * tests/python/test_calibration.py checks: a line that begins with '@' is a role, and text follows. */
static size_t find_turns(const char *text, size_t length, struct chat_message turns[SECTION_TURNS])
{
    static const char *const roles[] = {"system", "user", "assistant"};
    const char *end = text + length;
    size_t count = 0;
    while (text < end && count < SECTION_TURNS) {
        struct chat_message *turn = &turns[count++];
        for (int i = 0; i < 3; i++)
            if (strncmp(text + 1, roles[i], strlen(roles[i])) == 0)
                turn->role = roles[i];
        turn->content = (const char *)memchr(text, '\n', (size_t)(end - text)) + 1;
        const char *next = memmem(turn->content, (size_t)(end - turn->content), "\n@", 2);
        turn->length = (size_t)((next ? next : end) - turn->content);
        text = next ? next + 1 : end;
    }
    return count;
}

static int encode_text(const bulla_tokenizer *tokenizer, const char *text, size_t length, uint32_t **ids, size_t *count,
                       bulla_error *error)
{
    return bulla_tokenizer_encode(tokenizer, text, length, BULLA_ENCODE_START, SIZE_MAX, ids, count, error);
}

/* Turns for a model without a chat template. */
static int encode_plain(const bulla_tokenizer *tokenizer, const struct chat_message *turns, size_t turn_count,
                        uint32_t **ids, size_t *count, bulla_error *error)
{
    struct buffer text = {0};
    for (size_t i = 0; i < turn_count; i++) {
        buffer_append_format(&text, "%s%c%s: ", i ? "\n\n" : "", turns[i].role[0] - 'a' + 'A', turns[i].role + 1);
        buffer_append(&text, turns[i].content, turns[i].length);
    }
    int code = text.error.code ? bulla_fail(error, text.error.code, "%s", text.error.text)
                               : encode_text(tokenizer, (const char *)text.data, text.length, ids, count, error);
    buffer_free(&text);
    return code;
}

/* A template may refuse a conversation, for instance one with a system turn: then it is plain text. */
static int encode_conversation(const bulla_tokenizer *tokenizer, const bulla_chat_template *chat_template,
                               const char *text, size_t length, uint32_t **ids, size_t *count, bulla_error *error)
{
    struct chat_message turns[SECTION_TURNS];
    size_t turn_count = find_turns(text, length, turns);
    if (chat_template) {
        int code = chat_encode_messages(tokenizer, chat_template, turns, turn_count, 0, TEMPLATE_TIME, ids, count,
                                        error);
        if (code == BULLA_OK || code == BULLA_E_MEMORY)
            return code;
        bulla_error_clear(error);
    }
    return encode_plain(tokenizer, turns, turn_count, ids, count, error);
}

static int add_section(struct importing *im, const bulla_tokenizer *tokenizer, const bulla_chat_template *chat_template,
                       const char *text, size_t length, uint64_t most, bulla_error *error)
{
    uint32_t *ids = NULL;
    size_t count = 0;
    int code = text[0] == '@' ? encode_conversation(tokenizer, chat_template, text, length, &ids, &count, error)
                              : encode_text(tokenizer, text, length, &ids, &count, error);
    if (code == BULLA_OK)
        add_sequence(im, ids, count < most ? count : most);
    bulla_tokens_free(ids);
    return code;
}

int import_make_sequences(struct importing *im, const bulla_tokenizer *tokenizer,
                          const bulla_chat_template *chat_template, bulla_error *error)
{
    const char *text = calibration_text, *end = text + calibration_text_length(), *section;
    uint64_t sections = count_sections(text, end), most = positions_limit(im) / sections;
    if (most > im->list.context)
        most = im->list.context;
    im->ids = memory_alloc(sections * most + RANDOM_SEQUENCES * RANDOM_LENGTH, sizeof *im->ids, error);
    im->sequence_starts = memory_alloc(sections + RANDOM_SEQUENCES + 1, sizeof *im->sequence_starts, error);
    if (!im->ids || !im->sequence_starts)
        return BULLA_E_MEMORY;
    for (size_t length; (section = next_section(&text, end, &length));) {
        int code = add_section(im, tokenizer, chat_template, section, length, most, error);
        if (code != BULLA_OK)
            return code;
    }
    im->text_positions = im->positions;
    uint64_t state = 1;
    for (int i = 0; i < RANDOM_SEQUENCES; i++) {
        uint32_t ids[RANDOM_LENGTH], length = RANDOM_LENGTH < im->list.context ? RANDOM_LENGTH : im->list.context;
        for (uint32_t j = 0; j < length; j++)
            ids[j] = random_id(&state, im->list.vocabulary);
        add_sequence(im, ids, length);
    }
    return BULLA_OK;
}
