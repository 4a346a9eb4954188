/* What a referee says of a receipt's answer (docs/dispute.md), as checks of `bulla verify`. */
#ifndef CLI_VERIFY_DISPUTE_H
#define CLI_VERIFY_DISPUTE_H

#include "bulla/verify.h"

/* `path`: the referee's statement; `key`: the referee's, in hex; `document`: the receipt's. A final answer passes, an
 * overturned one fails; of one that is pending or disputed it is not checked yet, and the verdict does not pass. */
int verify_dispute(bulla_verdict *verdict, const char *document, size_t length, const char *path, const char *key,
                   bulla_error *error);

#endif
