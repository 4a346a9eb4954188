/* Characters one byte at a time: UTF-8 (RFC 3629) and, inside JSON strings, escapes (RFC 8259 section 7). Of a
 * character that is read in part, a range of code points is known; it is gone on with only while one of them is
 * possible. */
#include <string.h>

#include "exec/grammar_run.h"

/* frame.phase: what was read of a character; frame.c is its value so far. UTF8_n_m: m of n bytes are to come. */
enum {
    WHOLE, UTF8_2_1, UTF8_3_2, UTF8_3_1, UTF8_4_3, UTF8_4_2, UTF8_4_1, ESCAPE,
    HEX_0, HEX_1, HEX_2, HEX_3,             /* after \u: digits so far */
    LOW_BACKSLASH, LOW_U, LOW_0, LOW_1, LOW_2, LOW_3 /* after a high surrogate, which frame.c has in its upper half */
};

struct characters {
    const struct automaton *automaton;
    const struct text_language *language; /* NULL: of a key, whose length is in the automaton */
};

static struct characters characters_of(const struct run *run, const struct frame *frame)
{
    if (frame->kind == FRAME_KEY)
        return (struct characters){run->grammar->automata[frame->id], NULL};
    const struct text_language *language = run->grammar->languages[frame->id];
    return (struct characters){language->automaton, language};
}

static uint32_t longer(const struct characters *characters, uint32_t length)
{
    const struct text_language *language = characters->language;
    if (!language)
        return 0;
    if (language->maximum == GRAMMAR_ENDLESS)
        return length < language->minimum ? length + 1 : length;
    return length + 1;
}

static uint32_t completions(const struct characters *characters, uint32_t state, uint32_t length)
{
    return characters->language ? text_language_completions(characters->language, state, length)
                                : characters->automaton->completions[state];
}

static int may_end(const struct characters *characters, const struct frame *frame)
{
    return characters->automaton->accepts[frame->a] &&
           (!characters->language || frame->b >= characters->language->minimum);
}

/* Whether one of the code points from `low` to `high` can come next. */
static int is_possible(const struct run *run, const struct characters *characters, const struct frame *frame,
                       uint32_t low, uint32_t high)
{
    const struct automaton *automaton = characters->automaton;
    uint32_t length = longer(characters, frame->b);
    uint64_t count = 0;
    for (uint32_t i = automaton_interval_of(automaton, low); i < automaton->intervals && automaton->lows[i] <= high;
         i++) {
        uint32_t target = automaton->next[(size_t)frame->a * automaton->classes + automaton->interval_class[i]];
        uint32_t ways = target == AUTOMATON_DEAD ? 0 : completions(characters, target, length);
        if (ways == AUTOMATON_MANY || (ways > 0 && frame->content == 0))
            return 1;
        uint32_t first = automaton->lows[i] > low ? automaton->lows[i] : low;
        uint32_t end = i + 1 < automaton->intervals ? automaton->lows[i + 1] : AUTOMATON_LAST_CODE_POINT + 1;
        count += (uint64_t)ways * ((end <= high ? end : high + 1) - first);
    }
    return count > 0 &&
           count > run_count_used(run, frame->used, frame->content, automaton, frame->a, low, high, 0);
}

int run_start_characters(struct run *run, struct frame *frame)
{
    struct characters characters = characters_of(run, frame);
    if (frame->a == AUTOMATON_DEAD)
        return 0;
    uint32_t ways = completions(&characters, frame->a, 0);
    if (frame->content == 0 || ways == AUTOMATON_MANY)
        return ways > 0;
    return ways > run_count_used(run, frame->used, frame->content, characters.automaton, frame->a, 0, UINT32_MAX, 1);
}

/* A whole character is read. */
static void take_character(struct run *run, const struct characters *characters, struct config *config,
                           uint32_t code_point, struct config_stack *out)
{
    struct frame *frame = &config->frame;
    uint32_t state = automaton_step(characters->automaton, frame->a, code_point);
    uint32_t length = longer(characters, frame->b);
    uint32_t ways = state == AUTOMATON_DEAD ? 0 : completions(characters, state, length);
    if (ways == 0)
        return;
    frame->a = state;
    frame->b = length;
    frame->c = 0;
    frame->phase = WHOLE;
    if (frame->content) {
        frame->content = run_pair(run, frame->content, code_point);
        if (ways < AUTOMATON_MANY &&
            ways <= run_count_used(run, frame->used, frame->content, characters->automaton, state, 0, UINT32_MAX, 1))
            return;
    }
    run_add(run, out, config);
    if (frame->kind == FRAME_TEXT)
        run_resume(run, out, config->parent, 0);
}

static void go_on(struct run *run, struct config *config, int phase, uint32_t value, struct config_stack *out)
{
    config->frame.phase = (uint8_t)phase;
    config->frame.c = value;
    run_add(run, out, config);
}

/* `value` holds the bits of a character of which `rest` bytes of six bits are to come; its least code point is
 * `least`. */
static void take_part(struct run *run, const struct characters *characters, struct config *config, int phase,
                      uint32_t value, unsigned rest, uint32_t least, struct config_stack *out)
{
    uint32_t low = value << (6 * rest), high = low + (1u << (6 * rest)) - 1;
    if (low < least)
        low = least;
    if (high > AUTOMATON_LAST_CODE_POINT)
        high = AUTOMATON_LAST_CODE_POINT;
    if (low <= high && is_possible(run, characters, &config->frame, low, high))
        go_on(run, config, phase, value, out);
}

static void step_utf8(struct run *run, const struct characters *characters, struct config *config, uint8_t byte,
                      struct config_stack *out)
{
    static const struct {
        uint8_t next, rest;
        uint32_t least;
    } phases[] = {[UTF8_2_1] = {WHOLE, 0, 0x80}, [UTF8_3_2] = {UTF8_3_1, 1, 0x800}, [UTF8_3_1] = {WHOLE, 0, 0x800},
                  [UTF8_4_3] = {UTF8_4_2, 2, 0x10000}, [UTF8_4_2] = {UTF8_4_1, 1, 0x10000},
                  [UTF8_4_1] = {WHOLE, 0, 0x10000}};
    unsigned phase = config->frame.phase;
    if ((byte & 0xC0) != 0x80)
        return;
    uint32_t value = config->frame.c << 6 | (byte & 0x3F);
    if (phases[phase].next == WHOLE)
        take_character(run, characters, config, value, out);
    else
        take_part(run, characters, config, phases[phase].next, value, phases[phase].rest, phases[phase].least, out);
}

static void step_first(struct run *run, const struct characters *characters, struct config *config, uint8_t byte,
                       struct config_stack *out)
{
    if (byte < 0x80)
        take_character(run, characters, config, byte, out);
    else if (byte >= 0xC2 && byte < 0xE0)
        take_part(run, characters, config, UTF8_2_1, byte & 0x1F, 1, 0x80, out);
    else if (byte >= 0xE0 && byte < 0xF0)
        take_part(run, characters, config, UTF8_3_2, byte & 0x0F, 2, 0x800, out);
    else if (byte >= 0xF0 && byte < 0xF5)
        take_part(run, characters, config, UTF8_4_3, byte & 0x07, 3, 0x10000, out);
}

static uint32_t surrogates(uint32_t high, uint32_t low)
{
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* Whether a \u escape whose unit is from `low` to `high` can stand here, alone or as a high surrogate. */
static int unit_is_possible(const struct run *run, const struct characters *characters, const struct frame *frame,
                            uint32_t low, uint32_t high)
{
    if (is_possible(run, characters, frame, low, high))
        return 1;
    if (high < 0xD800 || low > 0xDBFF)
        return 0;
    uint32_t first = low < 0xD800 ? 0xD800 : low, last = high > 0xDBFF ? 0xDBFF : high;
    return is_possible(run, characters, frame, surrogates(first, 0xDC00), surrogates(last, 0xDFFF));
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static void step_hex(struct run *run, const struct characters *characters, struct config *config, uint8_t byte,
                     struct config_stack *out)
{
    unsigned digits = config->frame.phase - HEX_0 + 1u, rest = 4 * (4 - digits);
    int digit = hex_digit(byte);
    if (digit < 0)
        return;
    uint32_t value = config->frame.c << 4 | (uint32_t)digit;
    uint32_t low = value << rest, high = low + (1u << rest) - 1;
    if (!unit_is_possible(run, characters, &config->frame, low, high))
        return;
    if (digits < 4)
        go_on(run, config, HEX_0 + (int)digits, value, out);
    else if (value >= 0xD800 && value <= 0xDBFF)
        go_on(run, config, LOW_BACKSLASH, value << 16, out);
    else
        take_character(run, characters, config, value, out);
}

static void step_low(struct run *run, const struct characters *characters, struct config *config, uint8_t byte,
                     struct config_stack *out)
{
    unsigned digits = config->frame.phase - LOW_0 + 1u, rest = 4 * (4 - digits);
    uint32_t high = config->frame.c >> 16;
    int digit = hex_digit(byte);
    if (digit < 0)
        return;
    uint32_t value = (config->frame.c & 0xFFFF) << 4 | (uint32_t)digit;
    uint32_t first = value << rest, last = first + (1u << rest) - 1;
    first = first < 0xDC00 ? 0xDC00 : first;
    last = last > 0xDFFF ? 0xDFFF : last;
    if (first > last)
        return;
    if (digits == 4)
        take_character(run, characters, config, surrogates(high, value), out);
    else if (is_possible(run, characters, &config->frame, surrogates(high, first), surrogates(high, last)))
        go_on(run, config, LOW_0 + (int)digits, high << 16 | value, out);
}

static void step_escape(struct run *run, const struct characters *characters, struct config *config, uint8_t byte,
                        struct config_stack *out)
{
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *letter = byte ? strchr(letters, byte) : NULL;
    if (letter)
        take_character(run, characters, config, (uint8_t)values[letter - letters], out);
    else if (byte == 'u' && unit_is_possible(run, characters, &config->frame, 0, 0xFFFF))
        go_on(run, config, HEX_0, 0, out);
}

/* What a backslash may begin: any character, but of those above U+FFFF only pairs of surrogates. */
static void start_escape(struct run *run, const struct characters *characters, struct config *config,
                         struct config_stack *out)
{
    if (unit_is_possible(run, characters, &config->frame, 0, 0xFFFF))
        go_on(run, config, ESCAPE, 0, out);
}

static void end_string(struct run *run, const struct characters *characters, const struct config *config,
                       struct config_stack *out)
{
    const struct frame *frame = &config->frame;
    if (!may_end(characters, frame) || (frame->content && run_is_used(run, frame->used, frame->content)))
        return;
    if (frame->kind == FRAME_STRING) {
        run_resume(run, out, config->parent, frame->content);
        return;
    }
    struct config object = run->nodes[config->parent - 1].config;
    object.frame.phase = OBJECT_COLON;
    object.frame.a = run->grammar->objects[object.frame.id]->count;
    object.frame.b++;
    object.frame.d = run->grammar->objects[object.frame.id]->other_rules[frame->a];
    object.frame.used = run_use(run, object.frame.used, frame->content);
    run_add(run, out, &object);
}

void run_step_characters(struct run *run, const struct config *from, uint8_t byte, struct config_stack *out)
{
    struct config config = *from;
    struct characters characters = characters_of(run, &config.frame);
    int is_text = config.frame.kind == FRAME_TEXT;
    unsigned phase = config.frame.phase;
    if (phase == WHOLE) {
        if (byte == '"' && !is_text)
            end_string(run, &characters, &config, out);
        else if (byte == '\\' && !is_text)
            start_escape(run, &characters, &config, out);
        else if (byte >= 0x20 || is_text)
            step_first(run, &characters, &config, byte, out);
    } else if (phase < ESCAPE) {
        step_utf8(run, &characters, &config, byte, out);
    } else if (phase == ESCAPE) {
        step_escape(run, &characters, &config, byte, out);
    } else if (phase <= HEX_3) {
        step_hex(run, &characters, &config, byte, out);
    } else if (phase == LOW_BACKSLASH || phase == LOW_U) {
        if (byte == (phase == LOW_U ? 'u' : '\\'))
            go_on(run, &config, (int)phase + 1, config.frame.c, out);
    } else {
        step_low(run, &characters, &config, byte, out);
    }
}
