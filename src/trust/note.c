#include "trust/note.h"

#include <inttypes.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/utf8.h"
#include "trust/signature.h"

enum { ID_BYTES = 4, TIME_BYTES = 8, LONGEST_LINE = 4096 };

static const char dash[] = "\xe2\x80\x94 "; /* U+2014 and a blank */

/* Not empty, without blanks and plus signs. */
static int is_name(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] <= ' ' || name[i] == '+' || name[i] == 0x7f)
            return 0;
    return length > 0 && length < NOTE_NAME;
}

int note_key_id(const struct note_key *key, uint8_t id[4], bulla_error *error)
{
    uint8_t text[NOTE_NAME + 2 + NOTE_KEY_BYTES], digest[HASH_SHA256_BYTES];
    size_t name = strlen(key->name);
    memcpy(text, key->name, name);
    text[name] = '\n';
    text[name + 1] = (uint8_t)key->algorithm;
    memcpy(text + name + 2, key->key, NOTE_KEY_BYTES);
    int code = hash_sha256(text, name + 2 + NOTE_KEY_BYTES, digest, error);
    memcpy(id, digest, ID_BYTES);
    return code;
}

int note_key_read(const char *text, size_t length, struct note_key *key, bulla_error *error)
{
    uint8_t id[ID_BYTES], found[ID_BYTES], bytes[3 * (1 + NOTE_KEY_BYTES)];
    size_t bytes_length = 0;
    const char *plus = memchr(text, '+', length);
    size_t name = plus ? (size_t)(plus - text) : 0, rest = plus ? length - name - 1 : 0;
    if (!plus || !is_name(text, name) || rest < 10 || plus[9] != '+' || base64_most(rest - 9) > sizeof bytes ||
        !hex_decode(plus + 1, 8, id, ID_BYTES) || !base64_decode(plus + 10, rest - 9, bytes, &bytes_length) ||
        bytes_length != 1 + NOTE_KEY_BYTES || (bytes[0] != NOTE_ED25519 && bytes[0] != NOTE_COSIGNATURE))
        return bulla_fail(error, BULLA_E_INPUT, "a verifier key is not NAME+ID+KEY with an Ed25519 key or a witness's");
    *key = (struct note_key){.algorithm = (enum note_algorithm)bytes[0]};
    memcpy(key->name, text, name);
    memcpy(key->key, bytes + 1, NOTE_KEY_BYTES);
    int code = note_key_id(key, found, error);
    if (code == BULLA_OK && memcmp(id, found, ID_BYTES) != 0)
        code = bulla_fail(error, BULLA_E_INPUT, "the verifier key of %s has another id than its key gives", key->name);
    return code;
}

void note_key_write(const struct note_key *key, struct buffer *out)
{
    uint8_t bytes[1 + NOTE_KEY_BYTES] = {(uint8_t)key->algorithm}, id[ID_BYTES];
    char hex[2 * ID_BYTES + 1];
    memcpy(bytes + 1, key->key, NOTE_KEY_BYTES);
    if (note_key_id(key, id, &out->error) != BULLA_OK)
        return;
    hex_encode(id, ID_BYTES, hex);
    buffer_append_format(out, "%s+%s+", key->name, hex);
    base64_append(out, bytes, sizeof bytes);
}

/* ---- What is signed ---- */

/* The bytes that a key signs, into an empty buffer. */
static void write_message(enum note_algorithm algorithm, uint64_t time, const char *text, size_t length, struct buffer *out)
{
    if (algorithm == NOTE_COSIGNATURE)
        buffer_append_format(out, "cosignature/v1\ntime %" PRIu64 "\n", time);
    buffer_append(out, text, length);
}

static int verify(const struct note_key *key, const char *text, size_t length, const uint8_t *signature, uint64_t time,
                  int *is_right, bulla_error *error)
{
    struct buffer message = {0};
    EVP_PKEY *public_key = signature_key_from_ed25519(key->key);
    write_message(key->algorithm, time, text, length, &message);
    int code = message.error.code != BULLA_OK ? bulla_fail(error, message.error.code, "%s", message.error.text) : BULLA_OK;
    *is_right = code == BULLA_OK && public_key &&
                signature_verify(public_key, NULL, message.data, message.length, signature, NOTE_SIGNATURE_BYTES);
    EVP_PKEY_free(public_key);
    buffer_free(&message);
    return code;
}

/* ---- Reading ---- */

/* The line's parts; 0 where it is malformed. */
static int read_line(const char *line, size_t length, const char **name, size_t *name_length, uint8_t *bytes,
                     size_t *bytes_length)
{
    size_t mark = sizeof dash - 1;
    if (length <= mark || length > LONGEST_LINE || memcmp(line, dash, mark) != 0)
        return 0;
    *name = line + mark;
    const char *blank = memchr(*name, ' ', length - mark);
    if (!blank)
        return 0;
    *name_length = (size_t)(blank - *name);
    return is_name(*name, *name_length) && base64_decode(blank + 1, length - mark - *name_length - 1, bytes, bytes_length) &&
           *bytes_length > ID_BYTES;
}

static int has_signed(const struct note *note, const struct note_key *key)
{
    for (size_t i = 0; i < note->count; i++)
        if (note->signatures[i].key == key)
            return 1;
    return 0;
}

/* A line of one of the keys is checked. */
static int take_signature(const struct note_key *key, const uint8_t *bytes, size_t length, struct note *note,
                          bulla_error *error)
{
    uint64_t time = 0;
    size_t before = key->algorithm == NOTE_COSIGNATURE ? TIME_BYTES : 0;
    int is_right = 0, code = BULLA_OK;
    for (size_t i = 0; i < before && i < length; i++)
        time = time << 8 | bytes[i];
    if (length == before + NOTE_SIGNATURE_BYTES)
        code = verify(key, note->text, note->length, bytes + before, time, &is_right, error);
    if (code == BULLA_OK && (!is_right || has_signed(note, key)))
        code = bulla_fail(error, BULLA_E_INPUT, is_right ? "%s signed the note twice" : "the signature of %s is wrong", key->name);
    if (code == BULLA_OK)
        note->signatures[note->count++] = (struct note_signature){key, time};
    return code;
}

static int take_line(const char *line, size_t length, const struct note_key *keys, size_t key_count, struct note *note,
                     bulla_error *error)
{
    const char *name;
    uint8_t bytes[LONGEST_LINE], id[ID_BYTES];
    size_t name_length, bytes_length;
    if (!read_line(line, length, &name, &name_length, bytes, &bytes_length))
        return bulla_fail(error, BULLA_E_INPUT, "a signature line of the note is malformed");
    for (size_t i = 0; i < key_count; i++) {
        if (strlen(keys[i].name) != name_length || memcmp(keys[i].name, name, name_length) != 0)
            continue;
        int code = note_key_id(&keys[i], id, error);
        if (code == BULLA_OK && memcmp(id, bytes, ID_BYTES) == 0)
            code = take_signature(&keys[i], bytes + ID_BYTES, bytes_length - ID_BYTES, note, error);
        if (code != BULLA_OK)
            return code;
    }
    return BULLA_OK;
}

int note_open(const char *bytes, size_t length, const struct note_key *keys, size_t key_count, struct note *note,
              bulla_error *error)
{
    const char *end = NULL;
    size_t lines = 0;
    *note = (struct note){.text = bytes};
    if (length > MOST_NOTE_BYTES)
        return bulla_fail(error, BULLA_E_LIMIT, "a note of %zu bytes, at most %d are read", length, MOST_NOTE_BYTES);
    for (size_t i = 0; i + 1 < length; i++) /* the signatures come after the last empty line */
        if (bytes[i] == '\n' && bytes[i + 1] == '\n')
            end = bytes + i;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)bytes[i] < ' ' && bytes[i] != '\n')
            return bulla_fail(error, BULLA_E_INPUT, "the note holds a control character");
    if (!end || bytes[length - 1] != '\n' || utf8_check(bytes, length) != length)
        return bulla_fail(error, BULLA_E_INPUT, "not a signed note: text, an empty line, signatures, all in UTF-8");
    note->length = (size_t)(end - bytes) + 1;
    for (const char *line = end + 2; line < bytes + length; lines++) {
        const char *newline = memchr(line, '\n', (size_t)(bytes + length - line));
        int code = lines < MOST_NOTE_SIGNATURES
                       ? take_line(line, (size_t)(newline - line), keys, key_count, note, error)
                       : bulla_fail(error, BULLA_E_LIMIT, "a note with more than %d signatures", MOST_NOTE_SIGNATURES);
        if (code != BULLA_OK)
            return code;
        line = newline + 1;
    }
    return lines > 0 ? BULLA_OK : bulla_fail(error, BULLA_E_INPUT, "the note has no signature");
}

/* ---- Writing ---- */

int note_sign(const char *text, size_t length, const struct note_key *key, EVP_PKEY *private_key, uint64_t time,
              struct buffer *out, bulla_error *error)
{
    struct buffer message = {0};
    uint8_t bytes[ID_BYTES + TIME_BYTES + NOTE_SIGNATURE_BYTES];
    size_t used = ID_BYTES, signature_length = NOTE_SIGNATURE_BYTES;
    int code = note_key_id(key, bytes, error);
    if (code != BULLA_OK)
        return code;
    for (int i = 0; key->algorithm == NOTE_COSIGNATURE && i < TIME_BYTES; i++)
        bytes[used++] = (uint8_t)(time >> (56 - 8 * i));
    write_message(key->algorithm, time, text, length, &message);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int is_made = context && message.error.code == BULLA_OK &&
                  EVP_DigestSignInit_ex(context, NULL, NULL, NULL, NULL, private_key, NULL) == 1 &&
                  EVP_DigestSign(context, bytes + used, &signature_length, message.data, message.length) == 1 &&
                  signature_length == NOTE_SIGNATURE_BYTES;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    if (message.error.code != BULLA_OK)
        bulla_fail(error, message.error.code, "%s", message.error.text);
    code = is_made ? BULLA_OK : bulla_fail(error, BULLA_E_INTERNAL, "a note could not be signed by %s", key->name);
    buffer_free(&message);
    if (code != BULLA_OK)
        return code;
    buffer_append_format(out, "%s%s ", dash, key->name);
    base64_append(out, bytes, used + NOTE_SIGNATURE_BYTES);
    buffer_append_byte(out, '\n');
    return out->error.code != BULLA_OK ? bulla_fail(error, out->error.code, "%s", out->error.text) : BULLA_OK;
}
