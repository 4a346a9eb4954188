#include "trust/checkpoint.h"

#include <string.h>

/* The next line without its newline; 0 at the end. */
static int next_line(const char **at, const char *end, const char **line, size_t *length)
{
    const char *newline = *at < end ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;
    if (!newline)
        return 0;
    *line = *at;
    *length = (size_t)(newline - *at);
    *at = newline + 1;
    return 1;
}

/* Decimal without leading zeros. */
static int read_size(const char *text, size_t length, uint64_t *size)
{
    *size = 0;
    if (length == 0 || length > 19 || (length > 1 && text[0] == '0'))
        return 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        *size = *size * 10 + (uint64_t)(text[i] - '0');
    }
    return *size <= INT64_MAX;
}

int checkpoint_read(const char *text, size_t length, struct checkpoint *checkpoint, bulla_error *error)
{
    const char *at = text, *end = text + length, *origin, *size, *root;
    size_t origin_length, size_length, root_length, bytes_length = 0;
    uint8_t bytes[CHECKPOINT_ROOT + 4];
    *checkpoint = (struct checkpoint){0};
    if (!next_line(&at, end, &origin, &origin_length) || origin_length == 0 || origin_length >= NOTE_NAME)
        return bulla_fail(error, BULLA_E_INPUT, "a checkpoint does not begin with the log's name");
    if (!next_line(&at, end, &size, &size_length) || !read_size(size, size_length, &checkpoint->size))
        return bulla_fail(error, BULLA_E_INPUT, "the checkpoint's second line is not the number of leaves");
    if (!next_line(&at, end, &root, &root_length) || base64_most(root_length) > sizeof bytes ||
        !base64_decode(root, root_length, bytes, &bytes_length) || bytes_length != CHECKPOINT_ROOT)
        return bulla_fail(error, BULLA_E_INPUT, "the checkpoint's third line is not a root of %d bytes in base64", CHECKPOINT_ROOT);
    memcpy(checkpoint->origin, origin, origin_length);
    memcpy(checkpoint->root, bytes, CHECKPOINT_ROOT);
    return BULLA_OK;
}

size_t checkpoint_cosigned(const struct note *note, const struct note_key *log, int *is_signed)
{
    size_t cosigned = 0;
    *is_signed = 0;
    for (size_t i = 0; i < note->count; i++) {
        const uint8_t *key = note->signatures[i].key->key;
        int is_known = memcmp(key, log->key, NOTE_KEY_BYTES) == 0;
        for (size_t k = 0; k < i; k++)
            is_known |= memcmp(key, note->signatures[k].key->key, NOTE_KEY_BYTES) == 0;
        *is_signed |= note->signatures[i].key == log;
        cosigned += !is_known;
    }
    return cosigned;
}

int checkpoint_open(const char *bytes, size_t length, const struct note_key *keys, size_t key_count, size_t witnesses,
                    struct checkpoint *checkpoint, bulla_error *error)
{
    struct note note;
    size_t cosigned = 0;
    int is_signed = 0;
    int code = note_open(bytes, length, keys, key_count, &note, error);
    if (code == BULLA_OK)
        cosigned = checkpoint_cosigned(&note, keys, &is_signed);
    if (code == BULLA_OK && !is_signed)
        code = bulla_fail(error, BULLA_E_INPUT, "the checkpoint is not signed by the log's key (%s)", keys[0].name);
    if (code == BULLA_OK && cosigned < witnesses)
        code = bulla_fail(error, BULLA_E_INPUT, "%zu known witnesses cosigned the checkpoint, %zu are wanted", cosigned, witnesses);
    if (code == BULLA_OK)
        code = checkpoint_read(note.text, note.length, checkpoint, error);
    if (code == BULLA_OK && strcmp(checkpoint->origin, keys[0].name) != 0)
        code = bulla_fail(error, BULLA_E_INPUT, "the checkpoint is of the log %s, expected %s", checkpoint->origin, keys[0].name);
    return code;
}
