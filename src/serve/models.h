/* The models that a server answers for, by name and alias, each with its backend; loaded, unloaded and listed while it
 * runs. */
#ifndef SERVE_MODELS_H
#define SERVE_MODELS_H

#include <stdint.h>

#include "serve/backend.h"

enum { MODEL_MOST_ALIASES = 16 };

struct served_model {
    const char *name;
    const char *aliases[MODEL_MOST_ALIASES];
    size_t alias_count;
    uint64_t most_tokens;   /* limit of max_tokens, 0: the context */
    uint64_t most_seconds;  /* for an answer from its request on, 0: no limit */
    uint64_t created;       /* Unix time */
    struct backend *backend;
    int is_awaited;         /* the server is not ready before this model was: of its command line or configuration */
    uint32_t busy;          /* answers under way: it is closed after the last one once it was removed */
    int is_removed;
};

struct models; /* the set */

int models_open(struct models **models, bulla_error *error);
void models_close(struct models *models); /* closes the backends too. NULL is fine */
/* Takes the backend over, also where it fails: a name or alias that is taken is BULLA_E_USAGE. Texts are copied. */
int models_add(struct models *models, const struct served_model *model, bulla_error *error);
/* No new answers; closed when the last one under way has ended. BULLA_E_USAGE: no such model. */
int models_remove(struct models *models, const char *name, bulla_error *error);
/* By name or alias; NULL where there is none. An empty or NULL name stands for the only model where there is
 * just one. */
struct served_model *models_find(struct models *models, const char *name);
/* The n-th in the order they were added, NULL after the last. */
struct served_model *models_at(struct models *models, size_t number);
/* Its root: zeros for one that has none, as an upstream's. */
void models_root(const struct served_model *model, uint8_t root[32]);
/* The roots of those that are served, and of those whose last answers are still under way; at most `most`. */
size_t models_roots(struct models *models, uint8_t (*roots)[32], size_t most);
/* Bracket an answer. The second never closes a backend itself, because it is called from inside a backend's callbacks:
 * models_sweep does. */
void models_begin(struct served_model *model);
void models_end(struct models *models, struct served_model *model);
/* Closes removed models whose last answer has ended; called from the event loop, outside any backend's callback. */
void models_sweep(struct models *models);

#endif
