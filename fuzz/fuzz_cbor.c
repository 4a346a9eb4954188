/* cbor_parse on any bytes: what it reads lies in the input, and no part of the input alone is read as all of it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "trust/cose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t check(const struct cbor *item, const uint8_t *data, size_t size)
{
    size_t found = 1, children = item->type == CBOR_MAP ? 2 * item->length : item->length;
    if (item->type == CBOR_BYTES || item->type == CBOR_TEXT) {
        if (item->bytes < data || item->bytes + item->length > data + size)
            abort();
        return found;
    }
    for (size_t i = 0; i < children; i++)
        found += check(&item->items[i], data, size);
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {.limit = 1 << 20};
    struct cose_sign1 sign1;
    bulla_error error = {0}, shorter = {0}, other = {0};
    const struct cbor *item = cbor_parse(data, size, &arena, &error);
    if ((item == NULL) != (error.code != BULLA_OK) || error.code == BULLA_E_MEMORY)
        abort();
    if (item && (check(item, data, size) > MOST_CBOR_ITEMS + 1 || cbor_parse(data, size - 1, &arena, &shorter)))
        abort();
    if (cose_sign1_read(data, size, &arena, &sign1, &other) == BULLA_OK && (!item || !sign1.algorithm))
        abort();
    arena_free(&arena);
    return 0;
}
