/* A log that is followed: below a URL, or in a folder. */
#ifndef CLI_LOG_SOURCE_H
#define CLI_LOG_SOURCE_H

#include "trust/checkpoint.h"
#include "trust/tlog_tiles.h"

struct log_source;

/* `place` begins with http:// or https://, or is a folder. `ca_file`: as upstream_target_open. `seconds`: in which a server
 * has to give each file, whole. */
int log_source_open(const char *place, const char *ca_file, unsigned seconds, struct log_source **source, bulla_error *error);
void log_source_close(struct log_source *source); /* NULL is fine */
/* The checkpoint, signed by the log whose key that is; its note into `note`. */
int log_source_checkpoint(struct log_source *source, const struct note_key *key, struct buffer *note,
                          struct checkpoint *checkpoint, bulla_error *error);
/* Its tiles, as long as it is open. */
struct tlog_source log_source_tiles(struct log_source *source);

#endif
