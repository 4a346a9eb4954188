/* The writing half of note.h and checkpoint.h: what logs and witnesses do. */
#include <inttypes.h>
#include <string.h>

#include "trust/checkpoint.h"
#include "trust/signature.h"

void note_key_write(const struct note_key *key, struct buffer *out)
{
    uint8_t bytes[1 + NOTE_KEY_BYTES] = {(uint8_t)key->algorithm}, id[NOTE_ID_BYTES];
    char hex[2 * NOTE_ID_BYTES + 1];
    memcpy(bytes + 1, key->key, NOTE_KEY_BYTES);
    if (note_key_id(key, id, &out->error) != BULLA_OK)
        return;
    hex_encode(id, NOTE_ID_BYTES, hex);
    buffer_append_format(out, "%s+%s+", key->name, hex);
    base64_append(out, bytes, sizeof bytes);
}

int note_sign(const char *text, size_t length, const struct note_key *key, EVP_PKEY *private_key, uint64_t time,
              struct buffer *out, bulla_error *error)
{
    struct buffer message = {0};
    uint8_t bytes[NOTE_ID_BYTES + NOTE_TIME_BYTES + NOTE_SIGNATURE_BYTES];
    size_t used = NOTE_ID_BYTES;
    int code = note_key_id(key, bytes, error);
    if (code != BULLA_OK)
        return code;
    for (int i = 0; key->algorithm == NOTE_COSIGNATURE && i < NOTE_TIME_BYTES; i++)
        bytes[used++] = (uint8_t)(time >> (56 - 8 * i));
    note_write_message(key->algorithm, time, text, length, &message);
    int is_made = message.error.code == BULLA_OK &&
                  signature_ed25519_sign(private_key, message.data, message.length, bytes + used);
    if (message.error.code != BULLA_OK)
        bulla_fail(error, message.error.code, "%s", message.error.text);
    code = is_made ? BULLA_OK : bulla_fail(error, BULLA_E_INTERNAL, "a note could not be signed by %s", key->name);
    buffer_free(&message);
    if (code != BULLA_OK)
        return code;
    buffer_append_format(out, "%s%s ", NOTE_DASH, key->name);
    base64_append(out, bytes, used + NOTE_SIGNATURE_BYTES);
    buffer_append_byte(out, '\n');
    return out->error.code != BULLA_OK ? bulla_fail(error, out->error.code, "%s", out->error.text) : BULLA_OK;
}

void checkpoint_write(const struct checkpoint *checkpoint, struct buffer *out)
{
    buffer_append_format(out, "%s\n%" PRIu64 "\n", checkpoint->origin, checkpoint->size);
    base64_append(out, checkpoint->root, CHECKPOINT_ROOT);
    buffer_append_byte(out, '\n');
}
