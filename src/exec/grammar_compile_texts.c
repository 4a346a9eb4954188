/* Lists of different texts, which are found by their bytes. */
#include <string.h>

#include "exec/grammar_compile.h"

enum { MOST_WALKED = 8 }; /* longer lists have an index */

static uint64_t hash_text(const struct text *text)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < text->length; i++)
        hash = (hash ^ (uint8_t)text->bytes[i]) * UINT64_C(0x100000001B3);
    return (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93) >> 24;
}

/* The slot of the text, or the free one where it belongs. Every step is counted: texts may be made to collide. */
static uint32_t *find_slot(struct compiler *compiler, const struct texts *texts, const struct text *text)
{
    size_t mask = texts->slot_count - 1, slot = hash_text(text) & mask;
    compiler_work(compiler, 30 + 3 * (uint64_t)text->length);
    for (; texts->slots[slot]; slot = (slot + 1) & mask) {
        const struct text *other = &texts->items[texts->slots[slot] - 1];
        if (!compiler_work(compiler, 20 + (uint64_t)text->length / 8) || text_is(other, text->bytes, text->length))
            break;
    }
    return &texts->slots[slot];
}

uint32_t texts_find(struct compiler *compiler, const struct texts *texts, const struct text *text)
{
    if (texts->slots) {
        uint32_t found = *find_slot(compiler, texts, text);
        return found ? found - 1 : GRAMMAR_ENDLESS;
    }
    compiler_work(compiler, texts->count * (4 + (uint64_t)text->length / 8));
    for (size_t i = 0; i < texts->count; i++)
        if (text_is(&texts->items[i], text->bytes, text->length))
            return (uint32_t)i;
    return GRAMMAR_ENDLESS;
}

/* An index of twice as many slots, or the first one. */
static int grow_slots(struct compiler *compiler, struct texts *texts)
{
    size_t count = texts->slots ? 2 * texts->slot_count : 4 * MOST_WALKED;
    uint32_t *slots = compiler_alloc(compiler, count, sizeof *slots);
    if (!slots)
        return 0;
    texts->slots = slots;
    texts->slot_count = count;
    for (size_t i = 0; i < texts->count; i++)
        *find_slot(compiler, texts, &texts->items[i]) = (uint32_t)i + 1;
    return compiler->error->code == BULLA_OK;
}

int texts_add(struct compiler *compiler, struct texts *texts, const struct text *text)
{
    if (texts_find(compiler, texts, text) != GRAMMAR_ENDLESS || !list_grow(compiler, texts, sizeof *texts->items))
        return 0;
    if (texts->count >= MOST_WALKED && 2 * (texts->count + 1) > texts->slot_count && !grow_slots(compiler, texts))
        return 0;
    texts->items[texts->count++] = *text;
    if (texts->slots)
        *find_slot(compiler, texts, text) = (uint32_t)texts->count;
    return 1;
}

void texts_join(struct compiler *compiler, struct texts *texts, const struct texts *other)
{
    for (size_t i = 0; i < other->count && !compiler->error->code; i++)
        texts_add(compiler, texts, &other->items[i]);
}

void property_add(struct compiler *compiler, struct object_part *object, const struct text *key, uint32_t expression)
{
    uint32_t number = texts_find(compiler, &object->properties.keys, key);
    uint32_t *before = number == GRAMMAR_ENDLESS ? NULL : &object->properties.expressions.items[number];
    if (before)
        *before = expression_and(compiler, *before, expression);
    else if (list_grow(compiler, &object->properties.expressions, sizeof expression) &&
             texts_add(compiler, &object->properties.keys, key))
        object->properties.expressions.items[object->properties.expressions.count++] = expression;
}
