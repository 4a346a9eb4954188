/* json_parse on any bytes; what it accepts, written canonically, must be
 * accepted again and give the same bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {.limit = 64 << 20};
    struct buffer first = {0}, second = {0};
    bulla_error error = {0};
    struct json *value = json_parse((const char *)data, size, "input", &arena, &error);
    if (value) {
        json_write_canonical(&first, value);
        struct json *again = json_parse((char *)first.data, first.length, "canonical", &arena, &error);
        if (again) {
            json_write_canonical(&second, again);
            if (first.length != second.length || memcmp(first.data, second.data, first.length) != 0)
                abort();
        } else if (error.code != BULLA_E_LIMIT) {
            abort();
        }
    } else if (error.code == BULLA_OK) {
        abort();
    }
    buffer_free(&first);
    buffer_free(&second);
    arena_free(&arena);
    return 0;
}
