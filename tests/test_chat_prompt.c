/* Conversations to ids: words that spell control tokens stay words, and nothing else changes. */
#include "test.h"

#include "base/arena.h"
#include "base/memory.h"
#include "model/chat_prompt.h"
#include "tokenizer_samples.h"

struct fixture {
    struct buffer block;
    bulla_tokenizer *tokenizer;
    bulla_chat_template *chat_template;
    struct arena arena;
};

#define TURNS "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}<end>{% endfor %}"
#define ANSWER "{% if add_generation_prompt %}<s>assistant\n{% endif %}"

static void fixture_open(struct fixture *fixture, uint32_t algorithm, uint32_t flags, const char *source)
{
    bulla_error error = {0};
    *fixture = (struct fixture){0};
    assert_ok(sample_build(algorithm, algorithm == TOKENIZER_BYTE_LEVEL ? TOKENIZER_SPLIT_GPT2 : TOKENIZER_SPLIT_NONE,
                           flags,
                           &fixture->block, &error), error);
    assert_ok(bulla_tokenizer_open(fixture->block.data, fixture->block.length, &fixture->tokenizer, &error), error);
    assert_ok(bulla_chat_template_compile(source, strlen(source), &fixture->chat_template, &error), error);
}

static void fixture_close(struct fixture *fixture)
{
    bulla_chat_template_free(fixture->chat_template);
    bulla_tokenizer_close(fixture->tokenizer);
    buffer_free(&fixture->block);
    arena_free(&fixture->arena);
}

static const struct json *parse(struct fixture *fixture, const char *text)
{
    bulla_error error = {0};
    struct json *value = json_parse(text, strlen(text), "test", &fixture->arena, &error);
    if (!value)
        fail_msg("%s", error.text);
    return value;
}

/* The tokens, with '|' between them and control tokens in square brackets. */
static char *spell(const struct fixture *fixture, const struct chat_rendering *rendering)
{
    static char found[4096];
    bulla_error error = {0};
    uint32_t *ids;
    size_t count, used = 0;
    assert_ok(chat_encode_rendering(fixture->tokenizer, rendering, SIZE_MAX, &ids, &count, &error), error);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes;
        size_t length;
        bulla_tokenizer_token_bytes(fixture->tokenizer, ids[i], &bytes, &length);
        used += (size_t)snprintf(found + used, sizeof found - used,
                                 bulla_tokenizer_is_control(fixture->tokenizer,
                                                            ids[i]) ? "[%.*s]" : "|%.*s", (int)length,
                                 (const char *)bytes);
    }
    found[used] = 0;
    bulla_tokens_free(ids);
    return found;
}

static void expect(struct fixture *fixture, const struct chat_variables *variables, const char *text,
                   const char *tokens)
{
    bulla_error error = {0};
    struct chat_rendering rendering;
    assert_ok(chat_render(fixture->tokenizer, fixture->chat_template, variables, &rendering, &error), error);
    assert_string_equal(rendering.text, text);
    assert_int_equal(rendering.length, strlen(text));
    if (tokens)
        assert_string_equal(spell(fixture, &rendering), tokens);
    chat_rendering_free(&rendering);
}

static void spelled_tokens_stay_text(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, TOKENIZER_BYTE_LEVEL, 0, TURNS ANSWER);
    struct chat_variables variables = {.begins_answer = 1};
    variables.messages = parse(&fixture, "[{\"role\":\"u\",\"content\":\"low\"}]");
    expect(&fixture, &variables, "<s>u\nlow<end><s>assistant\n", "[<s>]|u|\n|low[<end>][<s>]|a|s|s|i|s|t|a|n|t|\n");
    variables.begins_answer = 0;
    variables.messages = parse(&fixture, "[{\"role\":\"u\",\"content\":\"x<end><s>y\"}]");
    expect(&fixture, &variables, "<s>u\nx<end><s>y<end>", "[<s>]|u|\n|x|<|e|n|d|>|<|s|>|y[<end>]");
    /* The template's own token right behind a beginning of one. */
    variables.messages = parse(&fixture,
                               "[{\"role\":\"u\",\"content\":\"<\"},{\"role\":\"u\",\"content\":\"a <en \"}]");
    expect(&fixture, &variables, "<s>u\n<<end><s>u\na <en <end>", "[<s>]|u|\n|<[<end>][<s>]|u|\n|a| |<|e|n| [<end>]");
    /* White space that a token takes is taken by the template's only; others' tokens are found everywhere. */
    variables.messages = parse(&fixture, "[{\"role\":\"u\",\"content\":\"a <left><b>\"}]");
    expect(&fixture, &variables, "<s>u\na <left><b><end>", "[<s>]|u|\n|a| |<|l|e|f|t|>|<b>[<end>]");
    fixture_close(&fixture);
}

static void texts_side_by_side_make_no_token(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, TOKENIZER_BYTE_LEVEL, 0, "{% for m in messages %}{{ m.content | trim }}{% endfor %}<end>");
    struct chat_variables variables = {
        .messages = parse(&fixture,
                          "[{\"content\":\"<e \"},{\"content\":\"nd>\"},{\"content\":\"<\"},{\"content\":\"s>\"}]")};
    expect(&fixture, &variables, "<end><s><end>", "|<|e|n|d|>|<|s|>[<end>]");
    fixture_close(&fixture);
}

static void shown_as_json_or_as_python(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, TOKENIZER_BYTE_LEVEL, 0, "{{ tools | tojson }}{{ tools }}{{ mood }}<s>");
    struct chat_variables variables = {.messages = parse(&fixture, "[]"),
                                       .tools = parse(&fixture, "[{\"z<s>\":\"<end>\",\"a\":[1.50,true,null]}]"),
                                       .more = parse(&fixture, "{\"mood\":\"<s>\"}")};
    expect(&fixture, &variables,
           "[{\"z<s>\": \"<end>\", \"a\": [1.5, true, null]}][{'z<s>': '<end>', 'a': [1.5, True, None]}]"
           "<s><s>", NULL);
    struct chat_rendering rendering;
    bulla_error error = {0};
    assert_ok(chat_render(fixture.tokenizer, fixture.chat_template, &variables, &rendering, &error), error);
    assert_int_equal(rendering.mark_count, 5);
    const char *tokens = spell(&fixture, &rendering);
    assert_non_null(strstr(tokens, "[<s>]"));
    assert_null(strstr(strstr(tokens, "[<s>]") + 1, "[<s>]"));
    assert_null(strstr(tokens, "[<end>]"));
    chat_rendering_free(&rendering);
    fixture_close(&fixture);
}

static void absent_variables_are_none(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, TOKENIZER_BYTE_LEVEL, 0,
                 "{{ tools is none }}{{ documents is none }}{{ bos_token }}{{ eos_token }}");
    struct chat_variables variables = {.messages = parse(&fixture, "[]")};
    expect(&fixture, &variables, "TrueTrue<s><end>", NULL);
    bulla_error error = {0};
    struct chat_rendering rendering;
    variables.more = parse(&fixture, "{\"tools\":[]}");
    assert_int_equal(chat_render(fixture.tokenizer, fixture.chat_template, &variables, &rendering, &error),
                     BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "\"tools\""));
    fixture_close(&fixture);
}

static void the_last_message_is_continued(void **state)
{
    (void)state;
    struct fixture fixture;
    bulla_error error = {0};
    struct chat_rendering rendering;
    fixture_open(&fixture, TOKENIZER_BYTE_LEVEL, 0,
                 "{% for m in messages %}<s>{{ m.role }}\n{{ m.content | trim | replace('q', 'k') }}<end>{% endfor %}");
    struct chat_variables variables = {.continues_last = 1};
    variables.messages = parse(&fixture,
                               "[{\"role\":\"u\",\"content\":\"ab\"},{\"role\":\"a\",\"content\":\" ab\\n\"}]");
    expect(&fixture, &variables, "<s>u\nab<end><s>a\nab", "[<s>]|u|\n|a|b[<end>][<s>]|a|\n|a|b");
    variables.messages = parse(&fixture, "[{\"role\":\"a\",\"content\":\"b<end>\"}]");
    expect(&fixture, &variables, "<s>a\nb<end>", "[<s>]|a|\n|b|<|e|n|d|>");
    static const char *const refused[] = {"[]", "[{\"role\":\"a\"}]", "[{\"role\":\"a\",\"content\":\"\"}]",
                                          "[{\"role\":\"a\",\"content\":\"q\"}]"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        variables.messages = parse(&fixture, refused[i]);
        bulla_error_clear(&error);
        assert_int_equal(chat_render(fixture.tokenizer, fixture.chat_template, &variables, &rendering, &error),
                         BULLA_E_INPUT);
    }
    fixture_close(&fixture);
}

/* Where it may stand at a million places, each of which is nearly it; the test's own time limit notices. */
static void a_long_last_message_is_continued(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    struct fixture fixture;
    bulla_error error = {0};
    struct buffer json = {0};
    struct chat_rendering rendering;
    char *text = memory_alloc(BYTES, 1, &error);
    memset(text, 'a', BYTES);
    fixture_open(&fixture, TOKENIZER_BYTE_LEVEL, 0, "{% for m in messages %}{{ m.content | trim }}<end>{% endfor %}");
    buffer_append_text(&json, "[{\"role\":\"u\",\"content\":\"");
    buffer_append(&json, text, BYTES);
    buffer_append_text(&json, "\"},{\"role\":\"a\",\"content\":\"");
    buffer_append(&json, text, BYTES / 2);
    buffer_append_text(&json, " \"}]");
    struct chat_variables variables = {.messages = parse(&fixture, (char *)json.data), .continues_last = 1};
    assert_ok(chat_render(fixture.tokenizer, fixture.chat_template, &variables, &rendering, &error), error);
    assert_int_equal(rendering.length, BYTES + strlen("<end>") + BYTES / 2);
    chat_rendering_free(&rendering);
    buffer_free(&json);
    memory_free(text);
    fixture_close(&fixture);
}

/* Control tokens searched in normalised text, where U+2581 is a space: marks move with it. */
static void marks_move_with_normalisation(void **state)
{
    (void)state;
    struct compile compile;
    struct fixture fixture = {0};
    bulla_error error = {0};
    char bytes[256];
    assert_ok(compile_start(&compile, 300, &error), error);
    compile.algorithm = TOKENIZER_SENTENCEPIECE;
    compile.flags = TOKENIZER_PREFIX | TOKENIZER_PREFIX_FIRST;
    compile.start = compile.end = compile.unknown = TOKENIZER_NONE;
    for (uint32_t id = 0; id < 256; id++) {
        bytes[id] = (char)id;
        sample_token(&compile, id, bytes + id, 1, TOKEN_BYTE);
    }
    sample_token(&compile, 260, "<a b>", 5, TOKEN_CONTROL);
    assert_ok(compile_add_added(&compile, 260, ADDED_SPECIAL | ADDED_NORMALIZED, "<a b>", 5, &error), error);
    assert_ok(compile_write(&compile, &fixture.block, &error), error);
    compile_free(&compile);
    assert_ok(bulla_tokenizer_open(fixture.block.data, fixture.block.length, &fixture.tokenizer, &error), error);
    const char *source = "\xE2\x96\x81<a b>{{ messages[0].content }}<a b>";
    assert_ok(bulla_chat_template_compile(source, strlen(source), &fixture.chat_template, &error), error);
    struct chat_variables variables = {
        .messages = parse(&fixture, "[{\"content\":\"\xE2\x96\x81.<a\xE2\x96\x81" "b><a b>.\"}]")};
    expect(&fixture, &variables, "\xE2\x96\x81<a b>\xE2\x96\x81.<a\xE2\x96\x81" "b><a b>.<a b>",
           "| | [<a b>]| |.|<|a| |b|>|<|a| |b|>|.[<a b>]");
    fixture_close(&fixture);
}

/* Random conversations: the ids spell the plain rendering, and control tokens are where those of a conversation of
 * harmless words are. */
static uint64_t random_state = 11;

static uint32_t next_random(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % below);
}

static void write_conversation(struct buffer *json, int is_harmless)
{
    static const char *const pieces[] = {"<", "s", ">", "<s>", "<end>", "<en", "d>", " ", "low", "\\n", "<left>",
                                         "<<s>>",
                                         "\xC3\xA9", "<b>", "<unk>", "\xE2\x96\x81", "<right>  "};
    uint32_t messages = 1 + next_random(4);
    buffer_append_byte(json, '[');
    for (uint32_t i = 0; i < messages; i++) {
        buffer_append_text(json, i ? ",{\"role\":\"u\",\"content\":\"" : "{\"role\":\"u\",\"content\":\"");
        for (uint32_t count = next_random(6); count > 0; count--) {
            const char *piece = pieces[next_random(sizeof pieces / sizeof *pieces)];
            buffer_append_text(json, is_harmless ? "x" : piece);
        }
        buffer_append_text(json, "\"}");
    }
    buffer_append_byte(json, ']');
}

static void control_tokens_of(struct fixture *fixture, const char *json, struct buffer *controls, struct buffer *text)
{
    bulla_error error = {0};
    struct chat_variables variables = {.messages = parse(fixture, json), .begins_answer = 1};
    struct chat_rendering rendering;
    uint32_t *ids;
    size_t count, length;
    char *decoded;
    assert_ok(chat_render(fixture->tokenizer, fixture->chat_template, &variables, &rendering, &error), error);
    assert_ok(chat_encode_rendering(fixture->tokenizer, &rendering, SIZE_MAX, &ids, &count, &error), error);
    for (size_t i = 0; i < count; i++)
        if (bulla_tokenizer_is_control(fixture->tokenizer, ids[i]) || ids[i] == SAMPLE_UNKNOWN)
            buffer_append_u32(controls, ids[i]);
    assert_ok(bulla_tokenizer_decode(fixture->tokenizer, ids, count, 1, &decoded, &length, &error), error);
    buffer_append(text, decoded, length);
    assert_int_equal(length, rendering.length);
    assert_memory_equal(decoded, rendering.text, length);
    bulla_text_free(decoded);
    bulla_tokens_free(ids);
    chat_rendering_free(&rendering);
}

static void random_conversations(void **state)
{
    (void)state;
    static const char *const templates[] = {TURNS ANSWER, "{% for m in messages %}{{ m.content }}{% endfor %}<end>",
                                            "{% for m in messages %}<s>{{ m.content }}<end>{% endfor %}<s>"};
    for (uint64_t i = 0; i < test_count(3000, 100000); i++) {
        struct fixture fixture;
        struct buffer wild = {0}, tame = {0}, controls = {0}, expected = {0}, text = {0};
        fixture_open(&fixture, TOKENIZER_BYTE_LEVEL, i & 1 ? TOKENIZER_NFC : 0, templates[i % 3]);
        uint64_t before = random_state;
        write_conversation(&wild, 0);
        random_state = before;
        write_conversation(&tame, 1);
        control_tokens_of(&fixture, (const char *)wild.data, &controls, &text);
        control_tokens_of(&fixture, (const char *)tame.data, &expected, &text);
        if (controls.length != expected.length || memcmp(controls.data, expected.data, expected.length) != 0)
            fail_msg("%s: %zu control tokens, expected %zu", (const char *)wild.data, controls.length / 4,
                     expected.length / 4);
        buffer_free(&wild);
        buffer_free(&tame);
        buffer_free(&controls);
        buffer_free(&expected);
        buffer_free(&text);
        fixture_close(&fixture);
    }
}

static void allocations_fail(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, TOKENIZER_SENTENCEPIECE, 0, TURNS);
    struct chat_variables variables = {.messages = parse(&fixture, "[{\"role\":\"u\",\"content\":\"a<end>b\"}]")};
    for (uint64_t n = 1;; n++) {
        bulla_error error = {0};
        struct chat_rendering rendering = {0};
        uint32_t *ids = NULL;
        size_t count;
        memory_inject_failure(n, 0);
        uint64_t before = memory_allocation_count();
        int code = chat_render(fixture.tokenizer, fixture.chat_template, &variables, &rendering, &error);
        if (code == BULLA_OK)
            code = chat_encode_rendering(fixture.tokenizer, &rendering, SIZE_MAX, &ids, &count, &error);
        uint64_t made = memory_allocation_count() - before;
        memory_inject_failure(0, 0);
        chat_rendering_free(&rendering);
        if (code == BULLA_OK) {
            bulla_tokens_free(ids);
            assert_true(made < n && n > 10);
            break;
        }
        assert_int_equal(code, BULLA_E_MEMORY);
        assert_int_equal(error.code, BULLA_E_MEMORY);
    }
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spelled_tokens_stay_text),
        cmocka_unit_test(texts_side_by_side_make_no_token),
        cmocka_unit_test(shown_as_json_or_as_python),
        cmocka_unit_test(absent_variables_are_none),
        cmocka_unit_test(the_last_message_is_continued),
        cmocka_unit_test(a_long_last_message_is_continued),
        cmocka_unit_test(marks_move_with_normalisation),
        cmocka_unit_test(random_conversations),
        cmocka_unit_test(allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
