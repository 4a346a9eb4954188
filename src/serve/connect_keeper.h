/* A thread that writes what connect keeps, so that no answer waits for the disk but those whose own it is: checkpoints,
 * durably (written, synced, renamed), one write for all that wait for the same log; and receipt documents. */
#ifndef SERVE_CONNECT_KEEPER_H
#define SERVE_CONNECT_KEEPER_H

#include "base/buffer.h"

struct event_base;
struct connect_keeper;

struct connect_keep {
    struct buffer checkpoint_path, checkpoint; /* path empty: none; a later one of the same path takes its place */
    struct buffer document_path, document;     /* path empty: none; only its owner may read the file */
    /* Called in the loop of `base` once both are there. `error` NULL: they are. */
    void (*done)(void *context, const bulla_error *error);
    void *context;
};

int connect_keeper_open(struct event_base *base, struct connect_keeper **keeper, bulla_error *error);
/* Writes what waits; `done` of those is not called any more. NULL is fine. */
void connect_keeper_close(struct connect_keeper *keeper);
/* Takes the buffers over where it could be queued. */
int connect_keeper_put(struct connect_keeper *keeper, struct connect_keep *keep, bulla_error *error);

#endif
