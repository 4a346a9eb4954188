/* What `bulla audit` and `bulla watch` share. */
#ifndef CLI_AUDITING_H
#define CLI_AUDITING_H

#include "serve/auditor.h"

/* Of what `path` names, as for model_cache_open. */
int auditing_open(const char *path, unsigned threads, struct auditor **auditor, bulla_error *error);

#endif
