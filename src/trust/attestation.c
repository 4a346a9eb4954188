#define _GNU_SOURCE
#include "trust/attestation.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/random.h"
#include "trust/attestation_internal.h"
#include "trust/policy.h"
#include "trust/ra_tls_write.h"

enum {
    RETRY_SECONDS = 60, /* after a renewal that failed */
    WAIT_SECONDS = 10   /* at most, before it looks at the clock again: the thread's own stands still while the machine sleeps */
};
#define SECOND UINT64_C(1000000000)

struct ask {
    attestation_done done;
    void *context;
};

/* Who waits, with the nonces side by side as the tree takes them. */
struct queue {
    uint8_t (*nonces)[32];
    struct ask *asks;
    size_t count;
};

struct kept {
    uint8_t hash[ATTESTATION_HASH];
    char *text;
    size_t length;
};

struct attestation {
    const struct attester *attester; /* NULL: "none" */
    struct attester_options machine;
    void *state;                     /* the attester's; the thread's, as what follows */
    int is_open;
    struct queue batch;              /* being answered */
    struct collateral collateral;
    attestation_told told;
    void *context;

    char *policy;                    /* canonical, or NULL */
    size_t policy_length;
    unsigned renewal_seconds, most_waiting;
    int makes_extension;

    pthread_t thread;
    int has_thread;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    struct binding binding;          /* all but the nonce; only the models change */
    struct queue waiting;            /* has room for most_waiting */
    struct kept kept[ATTESTATION_KEPT]; /* a ring: `made` documents so far */
    struct binding bound;            /* of the newest */
    struct buffer extension;         /* of the newest */
    uint64_t made, quotes;
    int is_stale, is_closing;
    uint64_t (*clock)(void);
    uint64_t made_at, renew_at;      /* by it: of the newest */
    bulla_error trouble;             /* why there is no standing evidence */
};

static uint64_t read_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* ---- Quotes, on the thread ---- */

static void tell(struct attestation *attestation, enum attestation_event event, const uint8_t *hash, const char *reason)
{
    if (attestation->told)
        attestation->told(attestation->context, attestation->attester, event, hash, reason);
}

/* A new collateral that cannot be read leaves the old one in force, and is told. */
static int read_collateral(struct attestation *attestation, bulla_error *error)
{
    bulla_error own = {0};
    int code = collateral_read(&attestation->collateral, &own);
    if (code == BULLA_OK || attestation->collateral.text) {
        if (code != BULLA_OK)
            tell(attestation, ATTESTATION_OLD_COLLATERAL, NULL, own.text);
        return BULLA_OK;
    }
    return bulla_fail(error, code, "%s", own.text);
}

/* After a failure the attester is opened anew for the next one: a TPM may have been reset. */
static int quote(struct attestation *attestation, const uint8_t report_data[REPORT_DATA_BYTES], struct buffer *given,
                 bulla_error *error)
{
    pthread_mutex_lock(&attestation->lock);
    attestation->quotes++;
    pthread_mutex_unlock(&attestation->lock);
    int code = attestation->is_open ? BULLA_OK
                                    : attestation->attester->open(&attestation->machine, &attestation->state, error);
    if (code != BULLA_OK)
        return code;
    attestation->is_open = 1;
    code = attestation->attester->quote(attestation->state, report_data, given, error);
    if (code == BULLA_OK)
        return given->error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, given->error.code, "%s", given->error.text);
    attestation->attester->close(attestation->state);
    attestation->state = NULL;
    attestation->is_open = 0;
    return code;
}

/* One quote over the binding. */
static int make_document(struct attestation *attestation, const struct binding *binding, struct document *document,
                         bulla_error *error)
{
    uint8_t report_data[REPORT_DATA_BYTES];
    struct buffer given = {0};
    *document = (struct document){0};
    int code = read_collateral(attestation, error);
    if (code == BULLA_OK)
        code = binding_report_data(binding, report_data, error);
    if (code == BULLA_OK)
        code = quote(attestation, report_data, &given, error);
    if (code == BULLA_OK)
        code = document_make(&given, binding, &attestation->collateral, document, error);
    buffer_free(&given);
    return code;
}

static void copy_binding(struct attestation *attestation, struct binding *binding)
{
    pthread_mutex_lock(&attestation->lock);
    *binding = attestation->binding;
    pthread_mutex_unlock(&attestation->lock);
}

/* ---- The standing evidence ---- */

/* The newest; NULL: there is none yet. With the lock. */
static const struct kept *newest(const struct attestation *attestation)
{
    return attestation->made ? &attestation->kept[(attestation->made - 1) % ATTESTATION_KEPT] : NULL;
}

/* The quote of what an attester gave, in bytes. */
static int take_quote(const struct buffer *given, struct buffer *bytes, bulla_error *error)
{
    struct arena arena = {0};
    size_t length = 0;
    const struct json *value = json_parse((const char *)given->data, given->length, "the attester's answer", &arena, error);
    const struct json *text = json_get(value, "quote");
    uint8_t *room = json_is(text, JSON_STRING) ? buffer_extend(bytes, base64_most(text->length)) : NULL;
    int is_read = room && base64_decode(text->text, text->length, room, &length);
    buffer_cut(bytes, length);
    arena_free(&arena);
    return is_read ? BULLA_OK : bulla_fail(error, BULLA_E_INTERNAL, "the attester gave no quote");
}

/* As other RA-TLS clients read it: a quote whose report data are the claims about the key. */
static int quote_key(struct attestation *attestation, const uint8_t key[BINDING_BYTES], struct buffer *extension,
                     bulla_error *error)
{
    uint8_t report_data[REPORT_DATA_BYTES] = {0};
    struct buffer claims = {0}, given = {0}, bytes = {0};
    ra_tls_write_claims(key, &claims);
    int code = claims.error.code == BULLA_OK ? hash_sha256(claims.data, claims.length, report_data, error)
                                             : bulla_fail(error, claims.error.code, "%s", claims.error.text);
    if (code == BULLA_OK)
        code = quote(attestation, report_data, &given, error);
    if (code == BULLA_OK)
        code = take_quote(&given, &bytes, error);
    if (code == BULLA_OK)
        ra_tls_write_tagged(bytes.data, bytes.length, &claims, extension);
    buffer_free(&claims);
    buffer_free(&given);
    buffer_free(&bytes);
    return code;
}

static int make_extension(struct attestation *attestation, const struct binding *binding, const struct buffer *standing,
                          struct buffer *extension, bulla_error *error)
{
    struct arena arena = {0};
    const struct json *value = json_parse((const char *)standing->data, standing->length, "the evidence", &arena, error);
    const struct json *type = json_get(value, "type");
    int is_intel = json_is(type, JSON_STRING) && (strcmp(type->text, "sgx") == 0 || strcmp(type->text, "tdx") == 0);
    arena_free(&arena);
    if (!value)
        return BULLA_E_MEMORY;
    int code = is_intel ? quote_key(attestation, binding->tls_key, extension, error) : BULLA_OK;
    if (!is_intel)
        ra_tls_write_wrapped(standing->data, standing->length, extension);
    if (code == BULLA_OK && extension->error.code != BULLA_OK)
        code = bulla_fail(error, extension->error.code, "%s", extension->error.text);
    if (code == BULLA_OK && extension->length > ATTESTATION_MOST_EXTENSION)
        code = bulla_fail(error, BULLA_E_LIMIT, "the evidence has %zu bytes, and a certificate has room for %d: do without "
                          "RA-TLS, clients can ask for evidence (GET /v1/evidence)", extension->length,
                          ATTESTATION_MOST_EXTENSION);
    return code;
}

static void keep(struct attestation *attestation, const struct binding *binding, struct buffer *text,
                 struct buffer *extension, const uint8_t hash[ATTESTATION_HASH], uint64_t began_at)
{
    struct buffer before = attestation->extension;
    pthread_mutex_lock(&attestation->lock);
    struct kept *kept = &attestation->kept[attestation->made++ % ATTESTATION_KEPT];
    memory_free(kept->text);
    *kept = (struct kept){.text = (char *)text->data, .length = text->length};
    memcpy(kept->hash, hash, sizeof kept->hash);
    attestation->extension = *extension;
    attestation->bound = *binding;
    attestation->made_at = began_at;
    attestation->renew_at = began_at + SECOND * attestation->renewal_seconds;
    pthread_mutex_unlock(&attestation->lock);
    buffer_free(&before);
    *text = *extension = (struct buffer){0};
}

static int make_standing(struct attestation *attestation, const struct binding *binding, uint8_t hash[ATTESTATION_HASH],
                         bulla_error *error)
{
    struct document document;
    struct buffer text = {0}, extension = {0};
    uint64_t began_at = attestation->clock();
    int code = make_document(attestation, binding, &document, error);
    if (code == BULLA_OK)
        document_write(&document, NULL, 0, &text);
    document_free(&document);
    if (code == BULLA_OK && text.error.code != BULLA_OK)
        code = bulla_fail(error, text.error.code, "%s", text.error.text);
    if (code == BULLA_OK)
        code = hash_sha256(text.data, text.length, hash, error);
    if (code == BULLA_OK && attestation->makes_extension)
        code = make_extension(attestation, binding, &text, &extension, error);
    if (code == BULLA_OK)
        keep(attestation, binding, &text, &extension, hash, began_at);
    buffer_free(&text);
    buffer_free(&extension);
    return code;
}

/* Where that fails, the one before stays and it is tried again soon. */
static void renew(struct attestation *attestation)
{
    struct binding binding;
    uint8_t hash[ATTESTATION_HASH];
    bulla_error error = {0};
    copy_binding(attestation, &binding);
    int code = random_bytes(binding.nonce, sizeof binding.nonce, &error);
    if (code == BULLA_OK)
        code = make_standing(attestation, &binding, hash, &error);
    if (code == BULLA_OK) {
        tell(attestation, ATTESTATION_RENEWED, hash, NULL);
        return;
    }
    unsigned seconds = attestation->renewal_seconds < RETRY_SECONDS ? attestation->renewal_seconds : RETRY_SECONDS;
    pthread_mutex_lock(&attestation->lock);
    if (!attestation->made)
        attestation->trouble = error;
    attestation->renew_at = attestation->clock() + SECOND * seconds;
    pthread_mutex_unlock(&attestation->lock);
    tell(attestation, ATTESTATION_NOT_RENEWED, NULL, error.text);
}

/* ---- Those who wait ---- */

struct attestation_ends {
    atomic_uint users;
    struct document document;
};

void attestation_ends_hold(struct attestation_ends *ends)
{
    atomic_fetch_add(&ends->users, 1);
}

void attestation_ends_release(struct attestation_ends *ends)
{
    if (!ends || atomic_fetch_sub(&ends->users, 1) > 1)
        return;
    document_free(&ends->document);
    memory_free(ends);
}

const void *attestation_ends_head(const struct attestation_ends *ends, size_t *length)
{
    *length = ends->document.head.length;
    return ends->document.head.data;
}

const void *attestation_ends_tail(const struct attestation_ends *ends, size_t *length)
{
    *length = ends->document.tail.length;
    return ends->document.tail.data;
}

static void answer_all(const struct queue *batch, struct attestation_ends *ends, const struct nonce_tree *tree,
                       const bulla_error *error)
{
    struct buffer middle = {0};
    for (size_t i = 0; i < batch->count; i++) {
        const struct ask *ask = &batch->asks[i];
        buffer_clear(&middle);
        if (!error)
            document_write_middle(tree, i, &middle);
        if (error || middle.error.code != BULLA_OK)
            ask->done(ask->context, NULL, NULL, 0, error ? error : &middle.error);
        else
            ask->done(ask->context, ends, (const char *)middle.data, middle.length, NULL);
    }
    buffer_free(&middle);
}

/* One quote for all of them: over the only nonce, or over the root of their tree. */
static void serve_batch(struct attestation *attestation, const struct queue *batch)
{
    struct binding binding;
    struct nonce_tree tree = {0};
    bulla_error error = {0};
    copy_binding(attestation, &binding);
    struct attestation_ends *ends = memory_alloc(1, sizeof *ends, &error);
    int code = !ends ? BULLA_E_MEMORY : nonce_tree_make((const uint8_t(*)[32])batch->nonces, batch->count, &tree, &error);
    if (code == BULLA_OK) {
        memcpy(binding.nonce, batch->count == 1 ? batch->nonces[0] : nonce_tree_root(&tree), sizeof binding.nonce);
        code = make_document(attestation, &binding, &ends->document, &error);
    }
    if (code != BULLA_OK)
        tell(attestation, ATTESTATION_NOT_QUOTED, NULL, error.text);
    if (ends)
        atomic_init(&ends->users, 1);
    answer_all(batch, ends, batch->count == 1 ? NULL : &tree, code == BULLA_OK ? NULL : &error);
    nonce_tree_free(&tree);
    attestation_ends_release(ends);
}

/* Takes all who wait, and leaves an empty queue for those who come. With the lock. */
static void take_waiting(struct attestation *attestation)
{
    struct queue taken = attestation->waiting;
    attestation->waiting = attestation->batch;
    attestation->waiting.count = 0;
    attestation->batch = taken;
}

/* ---- The thread ---- */

static void wait_for_work(struct attestation *attestation)
{
    uint64_t now = attestation->clock(), left = attestation->renew_at > now ? attestation->renew_at - now : 0;
    uint64_t at = clock_nanoseconds() + (left < WAIT_SECONDS * SECOND ? left : WAIT_SECONDS * SECOND);
    struct timespec until = {.tv_sec = (time_t)(at / SECOND), .tv_nsec = (long)(at % SECOND)};
    pthread_cond_timedwait(&attestation->changed, &attestation->lock, &until);
}

static void *run(void *context)
{
    struct attestation *attestation = context;
    bulla_error lack = {0};
    if (attestation->attester->find_lack && attestation->attester->find_lack(&attestation->machine, &lack) != BULLA_OK)
        tell(attestation, ATTESTATION_LACKS, NULL, lack.text);
    pthread_mutex_lock(&attestation->lock);
    while (!attestation->is_closing) {
        if (attestation->is_stale || attestation->clock() >= attestation->renew_at) {
            attestation->is_stale = 0;
            pthread_mutex_unlock(&attestation->lock);
            renew(attestation);
        } else if (attestation->waiting.count) {
            take_waiting(attestation);
            pthread_mutex_unlock(&attestation->lock);
            serve_batch(attestation, &attestation->batch);
        } else {
            wait_for_work(attestation);
            continue;
        }
        pthread_mutex_lock(&attestation->lock);
    }
    pthread_mutex_unlock(&attestation->lock);
    return NULL;
}

/* Signals are the main thread's to take. */
static int start_thread(struct attestation *attestation, bulla_error *error)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(&attestation->thread, NULL, run, attestation);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    attestation->has_thread = number == 0;
    return number == 0 ? BULLA_OK : bulla_fail(error, BULLA_E_IO, "cannot start the thread of evidence: %s", strerror(number));
}

/* ---- Open and close ---- */

static int choose_attester(struct attestation *attestation, const struct attestation_options *options, bulla_error *error)
{
    struct buffer names = {0};
    size_t count;
    if (options->own || !options->attester) {
        attestation->attester = options->own ? options->own : attester_find(&options->machine);
        return attestation->attester ? BULLA_OK
                                     : bulla_fail(error, BULLA_E_UNSUPPORTED,
                                                  "this machine has nothing that attests (docs/attesters.md); "
                                                  "the attester \"none\" does without evidence");
    }
    if (strcmp(options->attester, "none") == 0)
        return BULLA_OK;
    attestation->attester = attester_named(options->attester);
    if (attestation->attester)
        return BULLA_OK;
    const struct attester *const *all = attesters(&count);
    for (size_t i = 0; i < count; i++)
        buffer_append_format(&names, "%s, ", all[i]->name);
    int code = bulla_fail(error, BULLA_E_USAGE, "there is no attester \"%.60s\"; expected one of %snone", options->attester,
                          names.data ? (const char *)names.data : "");
    buffer_free(&names);
    return code;
}

static int take_policy(struct attestation *attestation, const char *text, size_t length, bulla_error *error)
{
    struct policy *policy;
    struct arena arena = {0};
    struct buffer canonical = {0};
    int code = policy_parse(text, length, "the policy", &policy, error);
    if (code != BULLA_OK)
        return code;
    memcpy(attestation->binding.policy, policy_hash(policy), sizeof attestation->binding.policy);
    policy_free(policy);
    const struct json *value = json_parse(text, length, "the policy", &arena, error);
    if (value)
        json_write_canonical(&canonical, value);
    arena_free(&arena);
    if (!value || canonical.error.code != BULLA_OK) {
        code = bulla_fail(error, BULLA_E_MEMORY, "out of memory for the policy");
        buffer_free(&canonical);
        return code;
    }
    attestation->policy = (char *)canonical.data;
    attestation->policy_length = canonical.length;
    return BULLA_OK;
}

static int compare_roots(const void *one, const void *other)
{
    return memcmp(one, other, BINDING_BYTES);
}

/* Sorted, none twice; none at all: one of zeros. */
static int sort_models(const uint8_t (*models)[32], size_t count, struct binding *binding, bulla_error *error)
{
    if (count > MOST_MODELS)
        return bulla_fail(error, BULLA_E_LIMIT, "evidence binds at most %d models, not %zu", MOST_MODELS, count);
    memset(binding->models, 0, sizeof binding->models);
    if (count)
        memcpy(binding->models, models, count * BINDING_BYTES);
    qsort(binding->models, count, BINDING_BYTES, compare_roots);
    binding->model_count = count ? 1 : 0;
    for (size_t i = 1; i < count; i++)
        if (memcmp(binding->models[binding->model_count - 1], binding->models[i], BINDING_BYTES) != 0)
            memmove(binding->models[binding->model_count++], binding->models[i], BINDING_BYTES);
    binding->model_count += count == 0;
    return BULLA_OK;
}

static void take_key(uint8_t key[BINDING_BYTES], const uint8_t *given)
{
    if (given)
        memcpy(key, given, BINDING_BYTES);
}

static int take_options(struct attestation *attestation, const struct attestation_options *options, bulla_error *error)
{
    attestation->machine = options->machine;
    attestation->told = options->told;
    attestation->context = options->context;
    attestation->collateral.path = options->collateral;
    attestation->makes_extension = options->makes_extension;
    attestation->renewal_seconds = options->renewal_seconds ? options->renewal_seconds : ATTESTATION_SECONDS;
    attestation->most_waiting = options->most_waiting ? options->most_waiting : ATTESTATION_MOST_WAITING;
    attestation->clock = options->clock ? options->clock : read_clock;
    take_key(attestation->binding.tls_key, options->tls_key);
    take_key(attestation->binding.receipt_key, options->receipt_key);
    int code = choose_attester(attestation, options, error);
    if (code == BULLA_OK && options->policy)
        code = take_policy(attestation, options->policy, options->policy_length, error);
    return code == BULLA_OK ? sort_models(options->models, options->model_count, &attestation->binding, error) : code;
}

static void start_lock(struct attestation *attestation)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&attestation->lock, NULL);
    pthread_cond_init(&attestation->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static int make_queue(const struct attestation *attestation, struct queue *queue, bulla_error *error)
{
    queue->nonces = memory_alloc(attestation->most_waiting, sizeof *queue->nonces, error);
    queue->asks = memory_alloc(attestation->most_waiting, sizeof *queue->asks, error);
    return queue->nonces && queue->asks ? BULLA_OK : BULLA_E_MEMORY;
}

static void free_queue(struct queue *queue)
{
    memory_free(queue->nonces);
    memory_free(queue->asks);
}

int attestation_open(const struct attestation_options *options, struct attestation **result, bulla_error *error)
{
    struct attestation *attestation = memory_alloc(1, sizeof *attestation, error);
    *result = NULL;
    if (!attestation)
        return BULLA_E_MEMORY;
    start_lock(attestation);
    int code = take_options(attestation, options, error);
    if (code == BULLA_OK && attestation->attester)
        code = make_queue(attestation, &attestation->waiting, error);
    if (code == BULLA_OK && attestation->attester)
        code = make_queue(attestation, &attestation->batch, error);
    if (code == BULLA_OK && attestation->attester)
        code = start_thread(attestation, error);
    if (code == BULLA_OK)
        *result = attestation;
    else
        attestation_close(attestation);
    return code;
}

static void stop_thread(struct attestation *attestation)
{
    bulla_error stopping = {.code = BULLA_E_CANCELLED, .text = "the server stops"};
    pthread_mutex_lock(&attestation->lock);
    attestation->is_closing = 1;
    pthread_cond_broadcast(&attestation->changed);
    pthread_mutex_unlock(&attestation->lock);
    pthread_join(attestation->thread, NULL);
    answer_all(&attestation->waiting, NULL, NULL, &stopping);
}

void attestation_close(struct attestation *attestation)
{
    if (!attestation)
        return;
    if (attestation->has_thread)
        stop_thread(attestation);
    if (attestation->is_open)
        attestation->attester->close(attestation->state);
    for (size_t i = 0; i < ATTESTATION_KEPT; i++)
        memory_free(attestation->kept[i].text);
    free_queue(&attestation->waiting);
    free_queue(&attestation->batch);
    buffer_free(&attestation->extension);
    collateral_free(&attestation->collateral);
    memory_free(attestation->policy);
    pthread_cond_destroy(&attestation->changed);
    pthread_mutex_destroy(&attestation->lock);
    memory_free(attestation);
}

/* ---- What others ask ---- */

int attestation_is_ready(struct attestation *attestation, bulla_error *error)
{
    pthread_mutex_lock(&attestation->lock);
    int is_ready = !attestation->attester || attestation->made > 0;
    if (!is_ready && attestation->trouble.code != BULLA_OK) {
        bulla_fail(error, attestation->trouble.code, "%s", attestation->trouble.text);
        is_ready = -1;
    }
    pthread_mutex_unlock(&attestation->lock);
    return is_ready;
}

int attestation_is_old(struct attestation *attestation)
{
    pthread_mutex_lock(&attestation->lock);
    int is_old = attestation->made > 0 &&
                 attestation->clock() - attestation->made_at > 2 * SECOND * attestation->renewal_seconds;
    pthread_mutex_unlock(&attestation->lock);
    return is_old;
}

static int fail_without_evidence(bulla_error *error)
{
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "this server has no evidence: nothing attests to it");
}

static int give(const struct kept *kept, uint8_t *hash, struct buffer *document, bulla_error *error)
{
    if (hash)
        memcpy(hash, kept->hash, sizeof kept->hash);
    if (document)
        buffer_append(document, kept->text, kept->length);
    if (document && document->error.code != BULLA_OK)
        return bulla_fail(error, document->error.code, "%s", document->error.text);
    return BULLA_OK;
}

int attestation_standing(struct attestation *attestation, uint8_t hash[ATTESTATION_HASH], struct buffer *document,
                         bulla_error *error)
{
    if (!attestation->attester)
        return fail_without_evidence(error);
    pthread_mutex_lock(&attestation->lock);
    const struct kept *kept = newest(attestation);
    int code = kept ? give(kept, hash, document, error)
                    : bulla_fail(error, BULLA_E_UNSUPPORTED, "the server's evidence is not made yet");
    pthread_mutex_unlock(&attestation->lock);
    return code;
}

int attestation_find(struct attestation *attestation, const uint8_t hash[ATTESTATION_HASH], struct buffer *document,
                     bulla_error *error)
{
    const struct kept *found = NULL;
    if (!attestation->attester)
        return fail_without_evidence(error);
    pthread_mutex_lock(&attestation->lock);
    for (size_t i = 0; i < ATTESTATION_KEPT && !found; i++)
        if (attestation->kept[i].text && memcmp(attestation->kept[i].hash, hash, ATTESTATION_HASH) == 0)
            found = &attestation->kept[i];
    int code = found ? give(found, NULL, document, error)
                     : bulla_fail(error, BULLA_E_INPUT,
                                  "there is no evidence of this hash: it is not this process's, or older than the last %d",
                                  ATTESTATION_KEPT);
    pthread_mutex_unlock(&attestation->lock);
    return code;
}

int attestation_extension(struct attestation *attestation, struct buffer *extension, bulla_error *error)
{
    if (!attestation->attester)
        return fail_without_evidence(error);
    pthread_mutex_lock(&attestation->lock);
    buffer_append(extension, attestation->extension.data, attestation->extension.length);
    pthread_mutex_unlock(&attestation->lock);
    return extension->error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, extension->error.code, "%s", extension->error.text);
}

int attestation_quote(struct attestation *attestation, const uint8_t nonce[32], attestation_done done, void *context,
                      bulla_error *error)
{
    if (!attestation->attester)
        return fail_without_evidence(error);
    pthread_mutex_lock(&attestation->lock);
    struct queue *waiting = &attestation->waiting;
    int has_room = waiting->count < attestation->most_waiting && !attestation->is_closing;
    if (has_room) {
        memcpy(waiting->nonces[waiting->count], nonce, sizeof *waiting->nonces);
        waiting->asks[waiting->count++] = (struct ask){done, context};
        pthread_cond_broadcast(&attestation->changed);
    }
    pthread_mutex_unlock(&attestation->lock);
    return has_room ? BULLA_OK
                    : bulla_fail(error, BULLA_E_LIMIT, "%u askers wait for evidence, as many as may; ask again later",
                                 attestation->most_waiting);
}

int attestation_cancel(struct attestation *attestation, const void *context)
{
    struct queue *waiting = &attestation->waiting;
    size_t place = 0;
    pthread_mutex_lock(&attestation->lock);
    while (place < waiting->count && waiting->asks[place].context != context)
        place++;
    int is_there = place < waiting->count;
    if (is_there) { /* the last takes its place: their order means nothing */
        waiting->count--;
        waiting->asks[place] = waiting->asks[waiting->count];
        memcpy(waiting->nonces[place], waiting->nonces[waiting->count], sizeof *waiting->nonces);
    }
    pthread_mutex_unlock(&attestation->lock);
    return is_there;
}

int attestation_set_models(struct attestation *attestation, const uint8_t (*models)[32], size_t count, bulla_error *error)
{
    struct binding sorted = {0};
    int code = sort_models(models, count, &sorted, error);
    if (code != BULLA_OK)
        return code;
    pthread_mutex_lock(&attestation->lock);
    struct binding *binding = &attestation->binding;
    if (binding->model_count != sorted.model_count ||
        memcmp(binding->models, sorted.models, sorted.model_count * BINDING_BYTES) != 0) {
        memcpy(binding->models, sorted.models, sizeof binding->models);
        binding->model_count = sorted.model_count;
        attestation->is_stale = 1;
        pthread_cond_broadcast(&attestation->changed);
    }
    pthread_mutex_unlock(&attestation->lock);
    return BULLA_OK;
}

int attestation_binds(struct attestation *attestation, const uint8_t root[32])
{
    int is_bound = !attestation->attester;
    pthread_mutex_lock(&attestation->lock);
    for (size_t i = 0; i < attestation->bound.model_count && !is_bound; i++)
        is_bound = memcmp(attestation->bound.models[i], root, BINDING_BYTES) == 0;
    pthread_mutex_unlock(&attestation->lock);
    return is_bound;
}

const struct attester *attestation_attester(const struct attestation *attestation)
{
    return attestation->attester;
}

int attestation_is_simulated(const struct attestation *attestation)
{
    return attestation->attester && attestation->attester->is_simulated;
}

const uint8_t *attestation_policy_hash(const struct attestation *attestation)
{
    return attestation->binding.policy;
}

const char *attestation_policy(const struct attestation *attestation, size_t *length)
{
    *length = attestation->policy_length;
    return attestation->policy;
}

uint64_t attestation_quotes(struct attestation *attestation)
{
    pthread_mutex_lock(&attestation->lock);
    uint64_t quotes = attestation->quotes;
    pthread_mutex_unlock(&attestation->lock);
    return quotes;
}
