/* The sequences that import runs: the built-in text's sections, conversations through a chat template or plain, within
 * the positions that fit. The tokenizer's ids are bytes, so that a sequence can be read. */
#include "test.h"

#include "base/memory.h"
#include "model/calibration.h"
#include "model/import_state.h"
#include "small_model.h"

static const char TURNS[] = "{% for m in messages %}[{{ m.role }}|{{ m.content }}]{% endfor %}"
                            "{{ add_generation_prompt }}";
static const char REFUSES_SYSTEM[] =
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}[{{ m.content }}]{% endfor %}";

struct sequences {
    struct importing importing;
    struct import_options options;
    struct draft drafts[3];
    uint32_t last_use[3];
    struct buffer block;
    bulla_tokenizer *tokenizer;
    bulla_chat_template *chat_template;
};

/* A model of one gate of `width`, which decides how many positions fit. */
static void open_sequences(struct sequences *s, const char *chat_template, uint32_t width)
{
    bulla_error error = {0};
    *s = (struct sequences){0};
    small_tokenizer(256, &s->block);
    assert_ok(bulla_tokenizer_open(s->block.data, s->block.length, &s->tokenizer, &error), error);
    if (chat_template)
        assert_ok(bulla_chat_template_compile(chat_template, strlen(chat_template), &s->chat_template, &error), error);
    s->drafts[0].operation = (bulla_operation){.kind = BULLA_EMBED, .inputs = {-1, -1, -1}, .outputs = 64};
    s->drafts[1].operation = (bulla_operation){.kind = BULLA_GATE, .inputs = {0, 0, -1}, .n = 64, .outputs = width};
    s->drafts[2].operation = (bulla_operation){.kind = BULLA_LINEAR, .inputs = {1, -1, -1}, .n = width, .outputs = 256};
    s->last_use[0] = 1;
    s->last_use[1] = s->last_use[2] = 2;
    s->importing = (struct importing){.options = &s->options, .last_use = s->last_use,
                                      .list = {.drafts = s->drafts, .count = 3, .vocabulary = 256, .context = 4096}};
}

static void close_sequences(struct sequences *s)
{
    memory_free(s->importing.ids);
    memory_free(s->importing.sequence_starts);
    bulla_chat_template_free(s->chat_template);
    bulla_tokenizer_close(s->tokenizer);
    buffer_free(&s->block);
}

static void make(struct sequences *s)
{
    bulla_error error = {0};
    assert_ok(import_make_sequences(&s->importing, s->tokenizer, s->chat_template, &error), error);
    assert_int_equal(error.code, 0);
}

static size_t sequence(const struct sequences *s, uint64_t index, char text[4096])
{
    uint64_t start = s->importing.sequence_starts[index], length = s->importing.sequence_starts[index + 1] - start;
    assert_true(length > 0 && length <= 4095);
    for (uint64_t i = 0; i < length; i++)
        text[i] = (char)s->importing.ids[start + i];
    text[length] = 0;
    return length;
}

/* What a conversation should become, made from the section by other means. */
static void expected_conversation(const char *section, size_t length, const char *chat_template, char *out)
{
    int system = strncmp(section, "@system", 7) == 0;
    int plain = !chat_template || (chat_template == REFUSES_SYSTEM && system);
    char copy[8192];
    assert_true(length < sizeof copy - 2);
    memcpy(copy, section, length);
    copy[length] = '\n';
    copy[length + 1] = 0;
    *out = 0;
    int turns = 0;
    for (char *turn = copy; turn; turns++) {
        char *content = strchr(turn, '\n'), *next = strstr(content, "\n@");
        *content++ = 0;
        if (next)
            *next++ = 0;
        else
            content[strlen(content) - 1] = 0;
        if (plain)
            out += sprintf(out, "%s%s: %s", turns ? "\n\n" : "",
                           turn[1] == 's' ? "System" : turn[1] == 'u' ? "User" : "Assistant", content);
        else if (chat_template == TURNS)
            out += sprintf(out, "[%s|%s]", turn + 1, content);
        else
            out += sprintf(out, "[%s]", content);
        turn = next;
    }
    assert_true(turns > 2);
    if (!plain && chat_template == TURNS)
        strcpy(out, "False");
}

static void check_text(const char *chat_template)
{
    struct sequences s;
    open_sequences(&s, chat_template, 64);
    make(&s);
    const char *text = calibration_text, *end = text + calibration_text_length();
    uint64_t index = 0, conversations = 0, most = 0;
    for (const char *next; text < end; text = next, index++) {
        char found[4096], expected[8192];
        const char *feed = memchr(text, '\f', (size_t)(end - text)), *stop = feed ? feed - 1 : end;
        next = feed ? feed + 2 : end;
        size_t length = sequence(&s, index, found);
        if (*text == '@') {
            expected_conversation(text, (size_t)(stop - text), chat_template, expected);
            conversations++;
        } else {
            assert_true((size_t)(stop - text) < sizeof expected);
            memcpy(expected, text, (size_t)(stop - text));
            expected[stop - text] = 0;
        }
        most = length > most ? length : most;
        assert_true(strlen(expected) >= length);
        assert_memory_equal(found, expected, length);
    }
    assert_true(conversations >= 10);
    assert_true(most == 12288 / index); /* the same share of the positions for each */
    assert_true(s.importing.text_positions <= 12288);
    assert_int_equal(s.importing.sequences, index + 4); /* and random ids */
    assert_int_equal(s.importing.positions, s.importing.text_positions + 4 * 48);
    close_sequences(&s);
}

static void test_templates(void **state)
{
    check_text(TURNS);
    check_text(NULL);
    check_text(REFUSES_SYSTEM);
}

/* A wide model, a short context and --fast make sequences shorter, never fewer. */
static void test_limits(void **state)
{
    struct sequences s;
    uint64_t sequences = 0;
    for (int limit = 0; limit < 4; limit++) {
        open_sequences(&s, NULL, limit == 1 ? 1 << 16 : limit == 2 ? 1 << 30 : 64);
        s.options.fast = limit == 3;
        s.importing.list.context = limit == 0 ? 8 : 4096;
        make(&s);
        uint64_t text = s.importing.text_positions, most = s.importing.sequence_starts[1];
        sequences = sequences ? sequences : s.importing.sequences;
        assert_int_equal(s.importing.sequences, sequences);
        assert_true(limit != 0 || most == 8);
        assert_true(limit != 1 || (text < 700 && text > 500)); /* 500 MiB / (13 * 2^16) */
        assert_true(limit != 2 || text <= 256);                /* the least */
        assert_true(limit != 3 || (text <= 768 && text > 640));
        close_sequences(&s);
    }
}

static void test_allocations(void **state)
{
    struct sequences s;
    uint64_t n = 1;
    for (int code = BULLA_E_MEMORY; code != BULLA_OK; n += n < 40 ? 1 : 37) {
        bulla_error error = {0};
        open_sequences(&s, TURNS, 64);
        memory_inject_failure(n, 0);
        code = import_make_sequences(&s.importing, s.tokenizer, s.chat_template, &error);
        memory_inject_failure(0, 0);
        assert_true(code == BULLA_OK || (code == BULLA_E_MEMORY && error.code == code));
        close_sequences(&s);
    }
    assert_true(n > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates), cmocka_unit_test(test_limits), cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
