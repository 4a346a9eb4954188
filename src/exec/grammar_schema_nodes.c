/* The places of a schema: their names for errors, their base URIs, and what references lead to (JSON Schema 2020-12
 * core, sections 8.2 and 9.2). Nothing outside the document is ever looked up. */
#include <stdio.h>
#include <string.h>

#include "exec/grammar_compile.h"

enum {
    MAX_NODES = 200000,
    INDEX_COST = 1500 /* of a node: a look-up for each keyword that holds schemas */
};

static size_t hash_pointer(const struct json *json)
{
    uint64_t hash = (uint64_t)(uintptr_t)json * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(hash >> 20);
}

static void write_pointer(const struct compiler *compiler, uint32_t node, struct buffer *out)
{
    uint32_t path[2 * JSON_MAX_DEPTH + 4];
    size_t depth = 0;
    for (; node != GRAMMAR_ENDLESS && depth < sizeof path / sizeof *path; node = compiler->nodes.items[node].parent)
        path[depth++] = node;
    while (depth-- > 0) {
        const struct node *at = &compiler->nodes.items[path[depth]];
        if (at->parent == GRAMMAR_ENDLESS)
            continue;
        buffer_append_byte(out, '/');
        if (!at->key)
            buffer_append_format(out, "%zu", at->index);
        for (size_t i = 0; at->key && i < at->key_length; i++) {
            if (at->key[i] == '~' || at->key[i] == '/')
                buffer_append_text(out, at->key[i] == '~' ? "~0" : "~1");
            else
                buffer_append_byte(out, (uint8_t)at->key[i]);
        }
    }
}

void node_refuse(struct compiler *compiler, uint32_t node, const char *keyword, int code, const char *format, ...)
{
    bulla_error detail = {0};
    struct buffer pointer = {0};
    va_list arguments;
    char text[700];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (compiler->error->code)
        return;
    write_pointer(compiler, node, &pointer);
    if (pointer.length > 200) /* the end says more than the beginning */
        bulla_fail(&detail, code, "schema: \"%s\" at ...%s: %s", keyword, (char *)pointer.data + pointer.length - 200,
                   text);
    else
        bulla_fail(&detail, code, "schema: \"%s\" at \"%s\": %s", keyword, pointer.data ? (char *)pointer.data : "",
                   text);
    buffer_free(&pointer);
    bulla_fail(compiler->error, detail.code, "%s", detail.text);
}

static int grow_slots(struct compiler *compiler)
{
    size_t count = compiler->node_slot_count ? 2 * compiler->node_slot_count : 256;
    uint32_t *slots = compiler_alloc(compiler, count, sizeof *slots);
    if (!slots || !compiler_work(compiler, 20 * (uint64_t)compiler->nodes.count))
        return 0;
    for (uint32_t i = 0; i < compiler->nodes.count; i++) {
        size_t slot = hash_pointer(compiler->nodes.items[i].json) & (count - 1);
        while (slots[slot])
            slot = (slot + 1) & (count - 1);
        slots[slot] = i + 1;
    }
    compiler->node_slots = slots;
    compiler->node_slot_count = count;
    return 1;
}

uint32_t node_add(struct compiler *compiler, const struct json *json, uint32_t parent, const char *key,
                  size_t key_length, size_t index)
{
    if (!compiler_work(compiler, 40) ||
        (2 * compiler->nodes.count >= compiler->node_slot_count && !grow_slots(compiler)))
        return 0;
    size_t mask = compiler->node_slot_count - 1, slot = hash_pointer(json) & mask;
    for (; compiler->node_slots[slot]; slot = (slot + 1) & mask)
        if (compiler->nodes.items[compiler->node_slots[slot] - 1].json == json)
            return compiler->node_slots[slot] - 1;
    if (compiler->nodes.count > MAX_NODES)
        bulla_fail(compiler->error, BULLA_E_LIMIT, "the schema has more than %d places", MAX_NODES);
    struct node node = {.json = json, .parent = parent, .key = key, .key_length = key_length, .index = index};
    if (parent != GRAMMAR_ENDLESS)
        node.base = compiler->nodes.items[parent].base;
    LIST_ADD(compiler, compiler->nodes, node);
    if (compiler->error->code)
        return 0;
    compiler->node_slots[slot] = (uint32_t)compiler->nodes.count;
    return (uint32_t)compiler->nodes.count - 1;
}

static int is_schema(const struct json *json)
{
    return json_is(json, JSON_OBJECT) || json_is_bool(json);
}

uint32_t node_member(struct compiler *compiler, uint32_t parent, const char *key, const struct json *json)
{
    uint32_t node = node_add(compiler, json, parent, key, strlen(key), 0);
    if (!is_schema(json))
        node_refuse(compiler, parent, key, BULLA_E_INPUT, "a schema is an object or a boolean");
    return node;
}

/* The place of the keyword itself lies between the two. */
uint32_t node_nested(struct compiler *compiler, uint32_t parent, const char *key, const char *inner,
                     size_t inner_length, size_t index, const struct json *json)
{
    const struct json *holder = json_get(compiler->nodes.items[parent].json, key);
    uint32_t between = node_add(compiler, holder, parent, key, strlen(key), 0);
    uint32_t node = node_add(compiler, json, between, inner, inner_length, index);
    if (!is_schema(json))
        node_refuse(compiler, parent, key, BULLA_E_INPUT, "a schema is an object or a boolean");
    return node;
}

static const char *const single_keywords[] = {"additionalProperties", "additionalItems", "items", "contains", "not",
                                              "if", "then", "else", "propertyNames", "unevaluatedItems",
                                              "unevaluatedProperties", "contentSchema"};
static const char *const nested_keywords[] = {"allOf", "anyOf", "oneOf", "prefixItems", "items", "properties",
                                              "patternProperties", "$defs", "definitions", "dependentSchemas",
                                              "dependencies"};

static void anchor_add(struct compiler *compiler, uint32_t node, const struct json *name, int dynamic)
{
    struct node *at = &compiler->nodes.items[node];
    if (json_is(name, JSON_STRING))
        LIST_ADD(
            compiler, compiler->anchors,
            (struct anchor){.base = at->base, .name = {name->text, name->length}, .node = node, .dynamic = dynamic});
}

/* "$id" moves the base; an empty fragment at its end is no part of it. */
static void take_identity(struct compiler *compiler, uint32_t node)
{
    const struct json *json = compiler->nodes.items[node].json;
    const struct json *id = json_get(json, "$id");
    if (json_is(id, JSON_STRING)) {
        size_t length = id->length;
        const char *fragment = memchr(id->text, '#', length);
        struct text base = compiler->nodes.items[node].base;
        if (fragment)
            length = (size_t)(fragment - id->text);
        base = uri_resolve(compiler, &base, id->text, length);
        if (compiler->error->code)
            return;
        if (length > 0) {
            compiler->nodes.items[node].base = base;
            LIST_ADD(compiler, compiler->anchors, (struct anchor){.base = base, .node = node});
        }
        if (fragment && id->length > length + 1) /* drafts up to 7: a name */
            LIST_ADD(compiler, compiler->anchors,
                     (struct anchor){.base = base, .name = {fragment + 1, id->length - length - 1}, .node = node});
    }
    anchor_add(compiler, node, json_get(json, "$anchor"), 0);
    anchor_add(compiler, node, json_get(json, "$dynamicAnchor"), 1);
}

static void index_node(struct compiler *compiler, uint32_t node)
{
    const struct json *json = compiler->nodes.items[node].json;
    if (!json_is(json, JSON_OBJECT) || !compiler_work(compiler, INDEX_COST))
        return;
    take_identity(compiler, node);
    for (size_t i = 0; i < sizeof single_keywords / sizeof *single_keywords; i++) {
        const struct json *member = json_get(json, single_keywords[i]);
        if (is_schema(member))
            index_node(compiler, node_member(compiler, node, single_keywords[i], member));
    }
    for (size_t i = 0; i < sizeof nested_keywords / sizeof *nested_keywords; i++) {
        const struct json *holder = json_get(json, nested_keywords[i]);
        int is_list = json_is(holder, JSON_ARRAY);
        if (!is_list && (!json_is(holder, JSON_OBJECT) || strcmp(nested_keywords[i], "items") == 0))
            continue;
        for (size_t j = 0; j < holder->length; j++)
            if (is_schema(holder->items[j]))
                index_node(compiler, node_nested(compiler, node, nested_keywords[i], is_list ? NULL : holder->keys[j],
                                                 is_list ? 0 : holder->key_lengths[j], j, holder->items[j]));
    }
}

int nodes_index(struct compiler *compiler, const struct json *schema)
{
    compiler->root_node = node_add(compiler, schema, GRAMMAR_ENDLESS, NULL, 0, 0);
    if (compiler->error->code)
        return compiler->error->code;
    LIST_ADD(compiler, compiler->anchors, (struct anchor){.node = compiler->root_node});
    index_node(compiler, compiler->root_node);
    return compiler->error->code;
}

/* Undoes ~0, ~1 (RFC 6901) and %XX (RFC 3986) in a step of a pointer. */
static size_t decode_step(const char *step, size_t length, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)step[i];
        if (byte == '%' && i + 2 < length && hex_decode(step + i + 1, 2, &byte, 1))
            i += 2;
        if (used > 0 && out[used - 1] == '~' && (byte == '0' || byte == '1'))
            out[used - 1] = byte == '0' ? '\1' : '/';
        else
            out[used++] = (char)byte;
    }
    for (size_t i = 0; i < used; i++) /* a ~ that was written ~0; keys hold no \1 that matters here */
        if (out[i] == '\1')
            out[i] = '~';
    return used;
}

static int read_index(const char *text, size_t length, size_t *index)
{
    *index = 0;
    if (length == 0 || length > 9 || (length > 1 && text[0] == '0'))
        return 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        *index = 10 * *index + (size_t)(text[i] - '0');
    }
    return 1;
}

/* The node that a JSON pointer leads to from `node`; a "$id" on the way moves the base. */
static uint32_t follow_pointer(struct compiler *compiler, uint32_t node, const char *pointer, size_t length)
{
    char *step = compiler_alloc(compiler, length + 1, 1);
    compiler_work(compiler, 8 * (uint64_t)length);
    for (size_t at = 0; step && at < length;) {
        size_t end = at + 1, index;
        while (end < length && pointer[end] != '/')
            end++;
        const struct json *json = compiler->nodes.items[node].json, *member = NULL;
        size_t step_length = decode_step(pointer + at + 1, end - at - 1, step);
        if (json_is(json, JSON_OBJECT)) {
            const char *key = arena_copy_text(&compiler->scratch, step, step_length, compiler->error);
            member = json_get_bytes(json, step, step_length);
            if (!key || !member)
                return GRAMMAR_ENDLESS;
            node = node_add(compiler, member, node, key, step_length, 0);
        } else if (json_is(json, JSON_ARRAY) && read_index(step, step_length, &index) && index < json->length) {
            node = node_add(compiler, json->items[index], node, NULL, 0, index);
        } else {
            return GRAMMAR_ENDLESS;
        }
        if (compiler->error->code)
            return GRAMMAR_ENDLESS;
        at = end;
    }
    return node;
}

static const struct anchor *find_anchor(struct compiler *compiler, const struct text *base, const struct text *name)
{
    if (!compiler_work(compiler, compiler->anchors.count * (20 + ((uint64_t)base->length + name->length) / 8)))
        return NULL;
    for (size_t i = 0; i < compiler->anchors.count; i++) {
        const struct anchor *anchor = &compiler->anchors.items[i];
        if (text_is(&anchor->base, base->bytes, base->length) && text_is(&anchor->name, name->bytes, name->length))
            return anchor;
    }
    return NULL;
}

/* Whether another "$dynamicAnchor" has the same name: then where it leads depends on the way that led here. */
static int is_ambiguous(struct compiler *compiler, const struct anchor *anchor)
{
    if (!compiler_work(compiler, compiler->anchors.count * (20 + (uint64_t)anchor->name.length / 8)))
        return 0;
    for (size_t i = 0; i < compiler->anchors.count; i++) {
        const struct anchor *other = &compiler->anchors.items[i];
        if (other->dynamic && other->node != anchor->node &&
            text_is(&other->name, anchor->name.bytes, anchor->name.length))
            return 1;
    }
    return 0;
}

uint32_t node_resolve(struct compiler *compiler, uint32_t node, const char *keyword, const struct json *reference)
{
    static const struct text none = {"", 0};
    if (!json_is(reference, JSON_STRING)) {
        node_refuse(compiler, node, keyword, BULLA_E_INPUT, "a reference is a string");
        return GRAMMAR_ENDLESS;
    }
    const char *fragment = memchr(reference->text, '#', reference->length);
    size_t before = fragment ? (size_t)(fragment - reference->text) : reference->length;
    struct text name = {fragment ? fragment + 1 : "", fragment ? reference->length - before - 1 : 0};
    struct text from = compiler->nodes.items[node].base;
    struct text base = uri_resolve(compiler, &from, reference->text, before);
    const struct anchor *holder = find_anchor(compiler, &base, &none);
    int is_pointer = name.length == 0 || name.bytes[0] == '/';
    const struct anchor *anchor = is_pointer ? holder : find_anchor(compiler, &base, &name);
    uint32_t target = !anchor ? GRAMMAR_ENDLESS
                      : is_pointer ? follow_pointer(compiler, anchor->node, name.bytes, name.length) : anchor->node;
    if (strcmp(keyword, "$dynamicRef") == 0 && anchor && anchor->dynamic && is_ambiguous(compiler, anchor))
        node_refuse(compiler, node, keyword, BULLA_E_UNSUPPORTED, "\"%.80s\" may lead to several places; only \"$ref\" "
                    "to one place is possible", reference->text);
    if (target == GRAMMAR_ENDLESS)
        node_refuse(compiler, node, keyword, BULLA_E_UNSUPPORTED, "\"%.120s\" is nowhere in this schema, and nothing "
                    "outside it is looked up", reference->text);
    else if (!is_schema(compiler->nodes.items[target].json))
        node_refuse(compiler, node, keyword, BULLA_E_INPUT, "\"%.120s\" leads to what is no schema", reference->text);
    return compiler->error->code ? GRAMMAR_ENDLESS : target;
}
