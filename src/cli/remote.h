/* A place that is named by its URL, asked for one thing after another. A place that is no URL is a folder: nothing is opened
 * for it, and its files are read by whoever asks. */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include "base/buffer.h"
#include "bulla/error.h"
#include "serve/upstream_client.h"

enum { REMOTE_OK = 200, REMOTE_NOT_FOUND = 404, REMOTE_CONFLICT = 409, REMOTE_GONE = 410 };

struct remote {
    const char *place;       /* the caller's, as long as it is open */
    struct event_base *base; /* NULL: a folder */
    struct upstream_target target;
};

/* `ca_file`: as upstream_target_open. To be closed where it fails, too. */
int remote_open(const char *place, const char *ca_file, struct remote *remote, bulla_error *error);
void remote_close(struct remote *remote);

struct remote_request {
    const char *path, *accept;
    const struct buffer *body; /* it is posted; NULL: GET */
    unsigned idle_seconds;
    unsigned seconds;          /* in which all has to be there, as --timeout says; 0: no matter */
    size_t most;               /* bytes of a body */
    int takes_any_status;      /* bodies of other statuses than REMOTE_OK are appended too */
};
/* One request, and its answer's body at the end of `out`. Errors name no place: the caller does. */
int remote_call(const struct remote *remote, const struct remote_request *request, struct buffer *out, int *status,
                bulla_error *error);

#endif
