/* A folder of receipt documents with their transcripts, as `bulla connect` keeps them: which of them is whose in a log. A
 * file is read once; one that changes under its name is not seen before the next start. */
#ifndef CLI_WATCH_FOLDER_H
#define CLI_WATCH_FOLDER_H

#include "trust/receipt.h"

struct watch_document {
    uint8_t hash[RECEIPT_HASH]; /* of the receipt, as the log has it */
    char *name;
    int is_useless;             /* it turned out not to be what was signed */
};

/* Zero but for `path`; watch_folder_free ends it. */
struct watch_folder {
    const char *path;
    char **names;                     /* all that was read, in their order */
    size_t name_count, name_capacity;
    struct watch_document *documents; /* by their hashes */
    size_t count, capacity;
};

/* Reads the documents that have come. Files that are none are passed over; BULLA_E_IO where the folder cannot be read. */
int watch_folder_look(struct watch_folder *folder, bulla_error *error);
/* One of that receipt that is not useless; NULL: there is none. */
struct watch_document *watch_folder_find(struct watch_folder *folder, const uint8_t hash[RECEIPT_HASH]);
/* The document's text, to be freed by the caller. */
int watch_folder_read(const struct watch_folder *folder, const char *name, uint8_t **text, size_t *length, bulla_error *error);
void watch_folder_free(struct watch_folder *folder);

#endif
