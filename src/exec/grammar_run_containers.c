/* Arrays and objects. */
#include <string.h>

#include "exec/grammar_run.h"

static uint32_t depth_inside(const struct frame *frame)
{
    return GRAMMAR_MAX_DEPTH - frame->depth;
}

static int take_blank(struct run *run, const struct config *config, uint8_t byte, uint32_t most, int loose,
                      struct config_stack *out)
{
    struct config next = *config;
    if (byte != ' ' && !(loose && (byte == '\n' || byte == '\t' || byte == '\r')))
        return 0;
    if (next.frame.d++ < most)
        run_add(run, out, &next);
    return 1;
}

static void add_value(struct run *run, const struct config *container, uint32_t rule, int phase,
                      struct config_stack *out)
{
    struct config value;
    memset(&value, 0, sizeof value);
    value.frame.kind = FRAME_VALUE;
    value.frame.phase = (uint8_t)phase;
    value.frame.depth = container->frame.depth;
    value.frame.id = rule;
    if (run->grammar->rules[rule].tracked)
        value.frame.used = container->frame.used;
    value.parent = run_push(run, container);
    if (!run->error.code)
        run_add(run, out, &value);
}

/* Arrays: the state moves on when an item begins. */

static int has_item(const struct run *run, const struct config *config)
{
    const struct items *items = run->grammar->arrays[config->frame.id];
    for (uint32_t i = items->first_edge[config->frame.a]; i < items->first_edge[config->frame.a + 1]; i++)
        if (items_edge_depth(run->grammar, items, config->frame.a, &items->edges[i]) <= depth_inside(&config->frame))
            return 1;
    return 0;
}

static void add_items(struct run *run, const struct config *config, int phase, struct config_stack *out)
{
    const struct items *items = run->grammar->arrays[config->frame.id];
    for (uint32_t i = items->first_edge[config->frame.a]; i < items->first_edge[config->frame.a + 1]; i++) {
        const struct item_edge *edge = &items->edges[i];
        if (items_edge_depth(run->grammar, items, config->frame.a, edge) > depth_inside(&config->frame))
            continue;
        struct config next = *config;
        next.frame.phase = ARRAY_AFTER;
        next.frame.a = edge->target;
        next.frame.d = 0;
        add_value(run, &next, edge->rule, items->loose ? VALUE_LOOSE : phase, out);
    }
}

void run_start_array(struct run *run, const struct config *value, uint32_t array, struct config_stack *out)
{
    struct config config;
    memset(&config, 0, sizeof config);
    config.frame.kind = FRAME_ARRAY;
    config.frame.phase = ARRAY_FIRST;
    config.frame.depth = (uint16_t)(value->frame.depth + 1);
    config.frame.id = array;
    config.parent = value->parent;
    if (run->grammar->arrays[array]->accepts[0])
        run_add(run, out, &config);
    add_items(run, &config, VALUE_AT_ONCE, out);
}

static void step_array(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out)
{
    const struct items *items = run->grammar->arrays[config->frame.id];
    if (items->loose && take_blank(run, config, byte, GRAMMAR_MAX_BLANKS, 1, out))
        return;
    if (byte == ']' && items->accepts[config->frame.a])
        run_resume(run, out, config->parent, 0);
    else if (byte == ',' && config->frame.phase == ARRAY_AFTER && has_item(run, config))
        add_items(run, config, VALUE_AFTER_SPACE, out);
}

/* Objects. */

static uint32_t count_others(const struct run *run, const struct frame *frame)
{
    return run->pairs[frame->used].count;
}

static int may_write_member(const struct run *run, const struct frame *frame, uint32_t number)
{
    const struct members *members = run->grammar->objects[frame->id];
    return number >= frame->a && members->required_after[frame->a] == members->required_after[number] &&
           run->grammar->rules[members->list[number].rule].depth <= depth_inside(frame) &&
           members_can_finish(run->grammar, members, number + 1, frame->b + 1, count_others(run, frame),
                              depth_inside(frame));
}

static int may_write_other(const struct run *run, const struct frame *frame)
{
    const struct members *members = run->grammar->objects[frame->id];
    uint32_t others = count_others(run, frame);
    if (members->others == GRAMMAR_ENDLESS || members->others_depth > depth_inside(frame) ||
        others >= GRAMMAR_MAX_OTHERS || members->required_after[frame->a] > 0 ||
        !members_can_finish(run->grammar, members, members->count, frame->b + 1, others + 1, depth_inside(frame)))
        return 0;
    const struct automaton *keys = run->grammar->automata[members->others];
    return keys->start != AUTOMATON_DEAD && keys->completions[keys->start] > others;
}

/* Whether one of the names from `first` to before `end`, in order, may be written. */
static int may_write_between(const struct run *run, const struct frame *frame, uint32_t first, uint32_t end)
{
    const struct members *members = run->grammar->objects[frame->id];
    for (uint32_t i = first; i < end; i++)
        if (may_write_member(run, frame, members->order[i]))
            return 1;
    return 0;
}

/* A key's quote is read. */
static void start_key(struct run *run, const struct config *config, struct config_stack *out)
{
    const struct members *members = run->grammar->objects[config->frame.id];
    struct config next = *config;
    next.frame.d = 0;
    if (may_write_between(run, &config->frame, 0, members->count)) {
        next.frame.phase = OBJECT_NAME;
        next.frame.c = members->count; /* first 0 */
        next.frame.d = 1;
        run_add(run, out, &next);
    }
    if (may_write_other(run, &config->frame)) {
        struct config key;
        memset(&key, 0, sizeof key);
        next = *config;
        next.frame.phase = OBJECT_KEY;
        next.frame.d = 0;
        key.frame.kind = FRAME_KEY;
        key.frame.id = members->others;
        key.frame.a = run->grammar->automata[members->others]->start;
        key.frame.content = RUN_ROOT_STRING;
        key.frame.used = config->frame.used;
        key.parent = run_push(run, &next);
        if (!run->error.code)
            run_add(run, out, &key);
    }
}

/* Narrows the names to those that have `byte` next. */
static void step_name(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out)
{
    const struct members *members = run->grammar->objects[config->frame.id];
    uint32_t first = config->frame.c >> 16, end = config->frame.c & 0xFFFF, at = config->frame.d;
    while (first < end && (at >= members->list[members->order[first]].length ||
                           members->list[members->order[first]].text[at] < byte))
        first++;
    uint32_t last = first;
    while (last < end && members->list[members->order[last]].text[at] == byte)
        last++;
    if (!may_write_between(run, &config->frame, first, last))
        return;
    struct config next = *config;
    const struct member *member = &members->list[members->order[first]];
    next.frame.c = first << 16 | last;
    next.frame.d = at + 1;
    if (last - first == 1 && member->length == at + 1) { /* no name goes on behind another's closing quote */
        next.frame.phase = OBJECT_COLON;
        next.frame.a = members->order[first] + 1;
        next.frame.b++;
        next.frame.c = 0;
        next.frame.d = member->rule;
    }
    run_add(run, out, &next);
}

static void step_colon(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out)
{
    struct config next = *config;
    if (byte != ':')
        return;
    next.frame.phase = OBJECT_AFTER;
    next.frame.d = 0;
    add_value(run, &next, config->frame.d, run->grammar->objects[config->frame.id]->loose ? VALUE_LOOSE
                                                                                          : VALUE_AFTER_SPACE, out);
}

static int may_go_on(const struct run *run, const struct frame *frame)
{
    return may_write_between(run, frame, 0, run->grammar->objects[frame->id]->count) || may_write_other(run, frame);
}

static void step_object(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out)
{
    const struct members *members = run->grammar->objects[config->frame.id];
    const struct frame *frame = &config->frame;
    if (frame->phase == OBJECT_NAME) {
        step_name(run, config, byte, out);
        return;
    }
    if (frame->phase == OBJECT_COLON) {
        step_colon(run, config, byte, out);
        return;
    }
    int after_comma = frame->phase == OBJECT_COMMA;
    uint32_t blanks = members->loose ? GRAMMAR_MAX_BLANKS : (uint32_t)after_comma;
    if (blanks > 0 && take_blank(run, config, byte, blanks, members->loose, out))
        return;
    if (byte == '"' && frame->phase != OBJECT_AFTER) {
        start_key(run, config, out);
    } else if (byte == '}' && !after_comma) {
        if (members->required_after[frame->a] == 0 && frame->b >= members->minimum)
            run_resume(run, out, config->parent, 0);
    } else if (byte == ',' && frame->phase == OBJECT_AFTER && may_go_on(run, frame)) {
        struct config next = *config;
        next.frame.phase = OBJECT_COMMA;
        next.frame.d = 0;
        run_add(run, out, &next);
    }
}

void run_start_object(struct run *run, const struct config *value, uint32_t object, struct config_stack *out)
{
    struct config config;
    memset(&config, 0, sizeof config);
    config.frame.kind = FRAME_OBJECT;
    config.frame.phase = OBJECT_FIRST;
    config.frame.depth = (uint16_t)(value->frame.depth + 1);
    config.frame.id = object;
    config.parent = value->parent;
    run_add(run, out, &config);
}

void run_step_container(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out)
{
    if (config->frame.kind == FRAME_ARRAY)
        step_array(run, config, byte, out);
    else
        step_object(run, config, byte, out);
}
