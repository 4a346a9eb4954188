/* checkpoint_open on any bytes. The key is of a log that signed one checkpoint, which is in the corpus, and is gone: only that
 * text passes, whatever lines of others' signatures stand around the log's. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "trust/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char log_key[] = "bulla-e08fdc2f26be6d30+82c17e7e+ARGLQXsLbD+gAlv5U4hWmy8j6+D8130ClUKoWGQ5zRjC";
    static const char text[] = "bulla-e08fdc2f26be6d30\n"
                               "3\n"
                               "2ygtkYeleX6YHLAJmDExAfxm5sqqCOflLI8s+Wy5LCc=\n";
    struct note_key key;
    struct checkpoint checkpoint;
    bulla_error error = {0};
    if (note_key_read(log_key, strlen(log_key), &key, NULL) != BULLA_OK)
        abort();
    if (checkpoint_open((const char *)data, size, &key, 1, 0, &checkpoint, &error) == BULLA_OK &&
        (size < strlen(text) || memcmp(data, text, strlen(text)) != 0))
        abort();
    if (checkpoint_open((const char *)data, size, &key, 1, 1, &checkpoint, NULL) == BULLA_OK) /* no witness is known */
        abort();
    return 0;
}
