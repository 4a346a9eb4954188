/* Values, fixed texts and the specification's forms; grammar_run_characters.c and grammar_run_containers.c have the
 * rest. */
#include "exec/grammar_run.h"

#include <string.h>

#include "base/memory.h"

enum { MAX_CONFIGS = 512 };

static int is_blank(uint8_t byte, int loose)
{
    return byte == ' ' || (loose && (byte == '\n' || byte == '\t' || byte == '\r'));
}

static void start_rule(struct run *run, struct config_stack *out, uint32_t number, uint32_t parent)
{
    const struct rule *rule = &run->grammar->rules[number];
    struct config config;
    memset(&config, 0, sizeof config);
    config.frame.id = number;
    config.parent = parent;
    switch (rule->kind) {
    case RULE_VALUE:
        config.frame.kind = FRAME_VALUE;
        config.frame.phase = rule->loose ? VALUE_LOOSE : VALUE_AT_ONCE;
        config.frame.depth = rule->loose ? GRAMMAR_MAX_DEPTH - GRAMMAR_MAX_LOOSE_DEPTH : 0;
        run_add(run, out, &config);
        break;
    case RULE_LITERAL:
        config.frame.kind = FRAME_LITERAL;
        if (rule->count > 0)
            run_add(run, out, &config);
        else
            run_resume(run, out, parent, 0);
        break;
    case RULE_TEXT:
        config.frame.kind = FRAME_TEXT;
        config.frame.id = rule->language;
        config.frame.a = run->grammar->languages[rule->language]->automaton->start;
        run_add(run, out, &config);
        run_resume(run, out, parent, 0);
        break;
    case RULE_CHOICE:
        for (uint32_t i = 0; i < rule->count; i++)
            start_rule(run, out, rule->children[i], parent);
        break;
    case RULE_SEQUENCE:
    case RULE_REPEAT:
        config.frame.kind = rule->kind == RULE_SEQUENCE ? FRAME_SEQUENCE : FRAME_REPEAT;
        run_resume(run, out, run_push(run, &config), 0);
        break;
    }
}

static void resume_form(struct run *run, struct config_stack *out, struct config config)
{
    const struct rule *rule = &run->grammar->rules[config.frame.id];
    uint32_t done = config.frame.a, parent = config.parent;
    int is_sequence = config.frame.kind == FRAME_SEQUENCE;
    int may_end = is_sequence ? done == rule->count : done >= rule->minimum;
    int may_go_on = is_sequence ? done < rule->count : done < rule->maximum;
    /* Counts above the least number of times are alike where there is no greatest. */
    if (is_sequence || rule->maximum != GRAMMAR_ENDLESS || done < rule->minimum)
        config.frame.a++;
    if (may_go_on)
        start_rule(run, out, rule->children[is_sequence ? done : 0], run_push(run, &config));
    if (may_end)
        run_resume(run, out, parent, 0);
}

void run_resume(struct run *run, struct config_stack *out, uint32_t parent, uint32_t content)
{
    struct config config;
    if (run->error.code)
        return;
    if (parent == 0) {
        memset(&config, 0, sizeof config);
        config.frame.kind = FRAME_END;
        run_add(run, out, &config);
        return;
    }
    config = run->nodes[parent - 1].config;
    if (config.frame.kind == FRAME_SEQUENCE || config.frame.kind == FRAME_REPEAT) {
        for (size_t i = 0; i < run->resumed_count; i++)
            if (run->resumed[i] == parent)
                return;
        if (run->resumed_count == sizeof run->resumed / sizeof *run->resumed)
            return;
        run->resumed[run->resumed_count++] = parent;
        resume_form(run, out, config);
        return;
    }
    if (content && config.frame.kind == FRAME_ARRAY)
        config.frame.used = run_use(run, config.frame.used, content);
    run_add(run, out, &config);
}

void run_begin_set(struct run *run, struct config_stack *out)
{
    out->level = out->count;
    run->resumed_count = 0;
}

void run_start(struct run *run, struct config_stack *out)
{
    run_begin_set(run, out);
    start_rule(run, out, run->grammar->root, 0);
}

static void step_bytes(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out)
{
    const struct automaton *automaton = run->grammar->automata[config->frame.id];
    uint32_t state = automaton_step(automaton, config->frame.a, byte);
    if (state == AUTOMATON_DEAD)
        return;
    struct config next = *config;
    uint32_t ends = automaton->accepts[state], more = automaton->completions[state];
    next.frame.a = state;
    if (config->frame.content) {
        next.frame.content = run_pair(run, config->frame.content, byte);
        if (more < AUTOMATON_MANY)
            more -= run_count_used(run, next.frame.used, next.frame.content, automaton, state, 0, UINT32_MAX, 1);
        ends = ends && !run_is_used(run, next.frame.used, next.frame.content);
    }
    if (more > ends)
        run_add(run, out, &next);
    if (ends)
        run_resume(run, out, config->parent, next.frame.content);
}

/* The first byte of a value that is a list of bytes. */
static void start_bytes(struct run *run, const struct config *value, uint32_t number, int tracked, uint8_t byte,
                        struct config_stack *out)
{
    const struct automaton *automaton = number == GRAMMAR_ENDLESS ? NULL : run->grammar->automata[number];
    if (!automaton || automaton->start == AUTOMATON_DEAD)
        return;
    struct config config = {.parent = value->parent};
    config.frame = (struct frame){.kind = FRAME_BYTES, .id = number, .a = automaton->start, .used = value->frame.used,
                                  .content = tracked ? RUN_ROOT_BYTES : 0};
    step_bytes(run, &config, byte, out);
}

static void start_string(struct run *run, const struct config *value, uint32_t number, int tracked,
                         struct config_stack *out)
{
    struct config config = {.parent = value->parent};
    config.frame = (struct frame){.kind = FRAME_STRING, .id = number, .used = value->frame.used,
                                  .a = run->grammar->languages[number]->automaton->start,
                                  .content = tracked ? RUN_ROOT_STRING : 0};
    if (run_start_characters(run, &config.frame))
        run_add(run, out, &config);
}

static void step_value(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out)
{
    const struct rule *rule = &run->grammar->rules[config->frame.id];
    uint32_t most = config->frame.phase == VALUE_LOOSE ? GRAMMAR_MAX_BLANKS : config->frame.phase == VALUE_AFTER_SPACE;
    uint32_t depth = GRAMMAR_MAX_DEPTH - config->frame.depth;
    if (is_blank(byte, config->frame.phase == VALUE_LOOSE)) {
        struct config next = *config;
        next.frame.a++;
        if (config->frame.a < most)
            run_add(run, out, &next);
        return;
    }
    for (uint32_t i = 0; i < rule->count; i++) {
        const struct alternative *way = &rule->alternatives[i];
        start_bytes(run, config, way->words, rule->tracked, byte, out);
        if (byte == '-' || (byte >= '0' && byte <= '9'))
            start_bytes(run, config, way->number, rule->tracked, byte, out);
        if (byte == '"' && way->language != GRAMMAR_ENDLESS)
            start_string(run, config, way->language, rule->tracked, out);
        if (byte == '[' && way->array != GRAMMAR_ENDLESS && way->array_depth <= depth)
            run_start_array(run, config, way->array, out);
        if (byte == '{' && way->object != GRAMMAR_ENDLESS && way->object_depth <= depth)
            run_start_object(run, config, way->object, out);
    }
}

static void step_literal(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out)
{
    const struct rule *rule = &run->grammar->rules[config->frame.id];
    struct config next = *config;
    if (rule->bytes[config->frame.a] != byte)
        return;
    if (++next.frame.a < rule->count)
        run_add(run, out, &next);
    else
        run_resume(run, out, config->parent, 0);
}

void run_step(struct run *run, const struct config *from, uint8_t byte, struct config_stack *out)
{
    struct config config = *from; /* it may lie on `out`, which may move */
    switch ((enum frame_kind)config.frame.kind) {
    case FRAME_STRING:
    case FRAME_KEY:
    case FRAME_TEXT:
        run_step_characters(run, &config, byte, out);
        break;
    case FRAME_BYTES:
        step_bytes(run, &config, byte, out);
        break;
    case FRAME_VALUE:
        step_value(run, &config, byte, out);
        break;
    case FRAME_ARRAY:
    case FRAME_OBJECT:
        run_step_container(run, &config, byte, out);
        break;
    case FRAME_LITERAL:
        step_literal(run, &config, byte, out);
        break;
    case FRAME_END:
    case FRAME_SEQUENCE:
    case FRAME_REPEAT:
        break;
    }
}

void run_add(struct run *run, struct config_stack *out, const struct config *config)
{
    if (run->error.code || out->count - out->level >= MAX_CONFIGS)
        return;
    for (size_t i = out->level; i < out->count; i++)
        if (memcmp(&out->items[i], config, sizeof *config) == 0)
            return;
    if (out->count == out->capacity) {
        size_t capacity = out->capacity ? 2 * out->capacity : 64;
        struct config *items = memory_resize(out->items, capacity, sizeof *items, &run->error);
        if (!items)
            return;
        out->items = items;
        out->capacity = capacity;
    }
    out->items[out->count++] = *config;
}
