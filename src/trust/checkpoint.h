/* Checkpoints of a transparency log (C2SP tlog-checkpoint): the text of a signed note, of three lines and maybe more.
 *
 *     example.com/log          the log's name
 *     1234                     how many leaves it has
 *     BASE64                   root of their tree (RFC 6962)
 *
 * Source: c2sp.org/tlog-checkpoint. */
#ifndef TRUST_CHECKPOINT_H
#define TRUST_CHECKPOINT_H

#include <stdint.h>

#include "trust/note.h"

enum { CHECKPOINT_ROOT = 32 };

struct checkpoint {
    char origin[NOTE_NAME];
    uint64_t size;
    uint8_t root[CHECKPOINT_ROOT];
};

/* Reads the text of a note that was opened. Lines behind the third are extensions, and passed over. */
int checkpoint_read(const char *text, size_t length, struct checkpoint *checkpoint, bulla_error *error);
void checkpoint_write(const struct checkpoint *checkpoint, struct buffer *out);

/* How many witnesses signed the note, of which the log's key is one of those that it was opened with: each key counts once,
 * under whatever names, and the log's own not at all. *is_signed: whether the log signed. */
size_t checkpoint_cosigned(const struct note *note, const struct note_key *log, int *is_signed);

/* Reads a signed checkpoint: it must be of the log whose key is keys[0], signed by it, and by at least `witnesses` of the
 * other keys. */
int checkpoint_open(const char *note, size_t length, const struct note_key *keys, size_t key_count, size_t witnesses,
                    struct checkpoint *checkpoint, bulla_error *error);

#endif
