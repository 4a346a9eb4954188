/* note_open, note_key_read and checkpoint_read on any bytes: what is read lies in the input, a key that is read is written
 * as it was, and no signature is found that was not made: the target knows no private key. The input is a key's line, a
 * newline, and a note. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "trust/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_key(const char *line, size_t length, struct note_key *key)
{
    struct buffer written = {0};
    struct note_key again;
    if (note_key_read(line, length, key, NULL) != BULLA_OK)
        return;
    note_key_write(key, &written); /* but for the case of its id's digits */
    if (written.length != length || note_key_read((const char *)written.data, written.length, &again, NULL) != BULLA_OK ||
        memcmp(&again, key, sizeof again) != 0)
        abort();
    buffer_free(&written);
}

static void check_checkpoint(const struct note *note)
{
    struct checkpoint checkpoint, again;
    struct buffer written = {0};
    if (checkpoint_read(note->text, note->length, &checkpoint, NULL) != BULLA_OK)
        return;
    checkpoint_write(&checkpoint, &written);
    if (written.length > note->length || memcmp(written.data, note->text, written.length) != 0 ||
        checkpoint_read((const char *)written.data, written.length, &again, NULL) != BULLA_OK ||
        memcmp(&again, &checkpoint, sizeof again) != 0)
        abort();
    buffer_free(&written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The key of golang.org/x/mod/sumdb/note's documentation, whose one published note may be in the corpus; and the input's,
     * which may be of a weak point that signs anything. */
    static const char known[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    struct note_key keys[2] = {{.name = "none", .algorithm = NOTE_ED25519}, {.name = "none", .algorithm = NOTE_ED25519}};
    struct note note;
    bulla_error error = {0};
    const uint8_t *newline = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t line = newline ? (size_t)(newline - data) : size;
    const char *text = newline ? (const char *)newline + 1 : (const char *)data;
    size_t length = newline ? size - line - 1 : size;
    if (note_key_read(known, strlen(known), &keys[0], NULL) != BULLA_OK)
        abort();
    check_key((const char *)data, line, &keys[1]);
    int code = note_open(text, length, keys, 2, &note, &error);
    if ((code != BULLA_OK) != (error.code != BULLA_OK))
        abort();
    if (code == BULLA_OK && (note.text != text || note.length > length || note.count > 2 || note.text[note.length - 1] != '\n'))
        abort();
    if (code == BULLA_OK)
        check_checkpoint(&note);
    return 0;
}
