/* `bulla log witness`: one round of a witness (C2SP tlog-cosignature). It signs a checkpoint only after it has shown that the
 * log has but grown since the one before, and has remembered it. */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "cli/log_state.h"
#include "cli/log_verbs.h"
#include "cli/output.h"

enum { SEED = 32, MOST_KEY_FILE = 4096 };

static const char private_head[] = "PRIVATE+KEY+";

struct witness {
    int has_new_key; /* made in this run */
    struct note_key key;
    EVP_PKEY *private_key;
};

static int set_key(struct witness *witness, const char *path, const uint8_t seed[SEED], bulla_error *error)
{
    size_t length = NOTE_KEY_BYTES;
    witness->key.algorithm = NOTE_COSIGNATURE;
    witness->private_key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, SEED);
    if (witness->private_key && EVP_PKEY_get_raw_public_key(witness->private_key, witness->key.key, &length) == 1)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_INPUT, "%s: its key cannot be used", path);
}

/* PRIVATE+KEY+NAME+ID+BASE64 of the algorithm and the seed, as in golang.org/x/mod/sumdb/note. The id is that of the public
 * key, which note_key_read checks. */
static int write_key(struct witness *witness, const char *path, const uint8_t seed[SEED], bulla_error *error)
{
    uint8_t bytes[1 + SEED] = {NOTE_COSIGNATURE}, id[4];
    char hex[9];
    struct buffer line = {0}, public_line = {0};
    struct note_key again;
    memcpy(bytes + 1, seed, SEED);
    note_key_write(&witness->key, &public_line);
    int code = note_key_id(&witness->key, id, error);
    if (code == BULLA_OK && note_key_read((const char *)public_line.data, public_line.length, &again, NULL) != BULLA_OK)
        code = bulla_fail(error, BULLA_E_USAGE, "\"%s\" cannot be a witness's name: no blanks, no plus signs", witness->key.name);
    hex_encode(id, sizeof id, hex);
    buffer_append_format(&line, "%s%s+%s+", private_head, witness->key.name, hex);
    base64_append(&line, bytes, sizeof bytes);
    buffer_append_byte(&line, '\n');
    if (code == BULLA_OK && line.error.code != BULLA_OK)
        code = bulla_fail(error, line.error.code, "%s", line.error.text);
    if (code == BULLA_OK)
        code = file_write_private(path, line.data, line.length, error);
    if (code == BULLA_OK)
        fprintf(stderr, "a new key; who follows witnesses takes %s\n", (const char *)public_line.data);
    memory_wipe(bytes, sizeof bytes);
    if (line.data)
        memory_wipe(line.data, line.length);
    buffer_free(&line);
    buffer_free(&public_line);
    return code;
}

static int make_key(struct witness *witness, const char *path, const char *name, bulla_error *error)
{
    uint8_t seed[SEED];
    if (strlen(name) == 0 || strlen(name) >= NOTE_NAME)
        return bulla_fail(error, BULLA_E_USAGE, "a witness's name has 1 to %d characters", NOTE_NAME - 1);
    memcpy(witness->key.name, name, strlen(name) + 1);
    int code = random_bytes(seed, sizeof seed, error);
    if (code == BULLA_OK)
        code = set_key(witness, path, seed, error);
    if (code == BULLA_OK)
        code = write_key(witness, path, seed, error);
    memory_wipe(seed, sizeof seed);
    return code;
}

/* The parts of a key's line; 0 where it is none. */
static int read_line(struct witness *witness, const char *line, size_t length, uint8_t seed[SEED], uint8_t id[4])
{
    uint8_t bytes[2 * SEED];
    size_t head = sizeof private_head - 1, bytes_length = 0;
    const char *name = line + head, *plus = length > head ? memchr(name, '+', length - head) : NULL;
    size_t rest = plus ? length - (size_t)(plus - line) - 1 : 0;
    if (!plus || memcmp(line, private_head, head) != 0 || plus == name || plus - name >= NOTE_NAME || rest < 10 ||
        plus[9] != '+' || !hex_decode(plus + 1, 8, id, 4) || base64_most(rest - 9) > sizeof bytes ||
        !base64_decode(plus + 10, rest - 9, bytes, &bytes_length) || bytes_length != 1 + SEED || bytes[0] != NOTE_COSIGNATURE)
        return 0;
    memcpy(witness->key.name, name, (size_t)(plus - name));
    memcpy(seed, bytes + 1, SEED);
    memory_wipe(bytes, sizeof bytes);
    return 1;
}

static int read_key(struct witness *witness, const char *path, bulla_error *error)
{
    uint8_t *text, seed[SEED] = {0}, id[4] = {0}, found[4] = {0};
    size_t length;
    int code = file_read(path, MOST_KEY_FILE, &text, &length, error);
    if (code != BULLA_OK)
        return code;
    size_t line = strcspn((const char *)text, "\r\n");
    if (!read_line(witness, (const char *)text, line, seed, id))
        code = bulla_fail(error, BULLA_E_INPUT, "%s: not a witness's key: one line PRIVATE+KEY+NAME+ID+KEY", path);
    if (code == BULLA_OK)
        code = set_key(witness, path, seed, error);
    if (code == BULLA_OK)
        code = note_key_id(&witness->key, found, error);
    if (code == BULLA_OK && memcmp(found, id, sizeof id) != 0)
        code = bulla_fail(error, BULLA_E_INPUT, "%s: its id is not that of its key", path);
    memory_wipe(seed, sizeof seed);
    memory_wipe(text, length);
    memory_free(text);
    return code;
}

static int open_key(struct witness *witness, const struct log_choice *chosen, bulla_error *error)
{
    enum file_kind kind;
    int code = file_find_kind(chosen->key, &kind, error);
    if (code != BULLA_OK)
        return code;
    if (kind == FILE_ABSENT && !chosen->name)
        return bulla_fail(error, BULLA_E_USAGE, "%s is not there; with --name NAME a key is made", chosen->key);
    witness->has_new_key = kind == FILE_ABSENT;
    code = kind == FILE_ABSENT ? make_key(witness, chosen->key, chosen->name, error) : read_key(witness, chosen->key, error);
    if (code == BULLA_OK && chosen->name && strcmp(chosen->name, witness->key.name) != 0)
        code = bulla_fail(error, BULLA_E_USAGE, "%s: is the key of %s, not of %s", chosen->key, witness->key.name, chosen->name);
    return code;
}

/* The note with its signatures but for earlier ones of this witness. */
static void copy_note(const struct witness *witness, const struct buffer *note, size_t text_length, struct buffer *out)
{
    const char *at = (const char *)note->data + text_length + 1, *end = (const char *)note->data + note->length;
    struct buffer own = {0};
    buffer_append_format(&own, "\xe2\x80\x94 %s ", witness->key.name);
    buffer_append(out, note->data, text_length + 1);
    while (at < end && own.error.code == BULLA_OK) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t line = newline ? (size_t)(newline - at) + 1 : (size_t)(end - at);
        if (line < own.length || memcmp(at, own.data, own.length) != 0)
            buffer_append(out, at, line);
        at += line;
    }
    buffer_free(&own);
}

static int cosign(struct witness *witness, const struct note_key *log_key, const struct buffer *note, struct buffer *out,
                  bulla_error *error)
{
    const struct note_key keys[2] = {*log_key, witness->key};
    struct note opened;
    struct checkpoint checkpoint;
    int code = note_open((const char *)note->data, note->length, log_key, 1, &opened, error);
    if (code != BULLA_OK)
        return code;
    copy_note(witness, note, opened.length, out);
    code = note_sign(opened.text, opened.length, &witness->key, witness->private_key, (uint64_t)time(NULL), out, error);
    return code == BULLA_OK ? checkpoint_open((const char *)out->data, out->length, keys, 2, 1, &checkpoint, error) : code;
}

static int run_round(struct witness *witness, const struct log_choice *chosen, const struct note_key *log_key,
                     struct log_source *source, struct log_state *state, bulla_error *error)
{
    struct buffer note = {0}, out = {0};
    struct checkpoint checkpoint;
    int code = log_source_checkpoint(source, log_key, &note, &checkpoint, error);
    if (code == BULLA_OK)
        code = log_state_check(state, source, &note, &checkpoint, error);
    if (code == BULLA_OK)
        code = cosign(witness, log_key, &note, &out, error);
    if (code == BULLA_OK) /* before the cosignature leaves: it is a promise about every later one */
        code = log_state_keep(state, &note, &checkpoint, error);
    if (code == BULLA_OK && chosen->out)
        code = file_write(chosen->out, out.data, out.length, error);
    else if (code == BULLA_OK)
        output_text(stdout, (const char *)out.data, out.length);
    buffer_free(&note);
    buffer_free(&out);
    return code;
}

int log_witness(const struct log_choice *chosen, const char *place, bulla_error *error)
{
    struct witness witness = {0};
    struct note_key log_key;
    struct log_source *source = NULL;
    struct log_state state = {.lock = -1};
    if (!chosen->log || !chosen->key || !chosen->state)
        return bulla_fail(error, BULLA_E_USAGE, "a witness needs --log KEY, --key FILE and --state FILE");
    int code = note_key_read(chosen->log, strlen(chosen->log), &log_key, error);
    if (code == BULLA_OK)
        code = open_key(&witness, chosen, error);
    if (code == BULLA_OK)
        code = log_source_open(place, chosen->ca, (unsigned)chosen->timeout, &source, error);
    if (code == BULLA_OK)
        code = log_state_open(chosen->state, &log_key, &state, error);
    /* A state that is lost, or another place's, must not make it cosign a fork of what it cosigned. */
    if (code == BULLA_OK && state.note.length == 0 && !witness.has_new_key && !chosen->first)
        code = bulla_fail(error, BULLA_E_INPUT, "%s: is not there, but the witness's key is: what it cosigned is not known; "
                                                "restore it, or begin anew with --first", chosen->state);
    if (code == BULLA_OK)
        code = run_round(&witness, chosen, &log_key, source, &state, error);
    log_state_close(&state);
    log_source_close(source);
    EVP_PKEY_free(witness.private_key);
    return code;
}
