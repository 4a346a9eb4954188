/* Whether an upstream is there and what it serves: GET /v1/models, now and then. */
#ifndef SERVE_UPSTREAM_PROBE_H
#define SERVE_UPSTREAM_PROBE_H

#include "serve/backend.h"
#include "serve/upstream_target.h"

struct upstream_probe;

/* Asks at once and then periodically until it is closed. `model`: the name that it must have, or NULL for its first.
 * Both pointers must outlive the probe. */
int upstream_probe_open(const struct upstream_target *target, const char *model, unsigned connect_seconds,
                        struct upstream_probe **probe, bulla_error *error);
void upstream_probe_close(struct upstream_probe *probe); /* NULL is fine */
/* The first model that it told of, NULL before. */
const char *upstream_probe_model(const struct upstream_probe *probe);
/* Sets state, trouble and context. */
void upstream_probe_describe(const struct upstream_probe *probe, struct backend_info *info);

#endif
