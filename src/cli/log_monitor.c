/* `bulla log monitor`: follows a log, computes its tree anew from the entries, and looks for receipts in it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/interrupt.h"
#include "cli/log_follow.h"
#include "cli/log_verbs.h"
#include "cli/output.h"
#include "trust/receipt.h"

enum { LARGEST_RECEIPT = 64 << 20 };

/* ---- A receipt ---- */

struct document {
    const struct json *signed_part, *log, *index, *path, *checkpoint;
};

static int find_parts(const struct json *value, struct document *document)
{
    document->signed_part = json_get(value, "signed");
    document->log = json_get(value, "log");
    document->index = json_get(document->log, "index");
    document->path = json_get(document->log, "path");
    document->checkpoint = json_get(document->log, "checkpoint");
    return json_is(value, JSON_OBJECT) && json_is(document->signed_part, JSON_OBJECT) && json_is(document->log, JSON_OBJECT) &&
           json_is(document->index, JSON_NUMBER) && document->index->is_integer && document->index->integer >= 0 &&
           json_is(document->path, JSON_ARRAY) && document->path->length <= TLOG_MOST_PATH &&
           json_is(document->checkpoint, JSON_STRING);
}

static int read_path(const struct json *list, uint8_t path[TLOG_MOST_PATH][MERKLE_HASH])
{
    for (size_t i = 0; i < list->length; i++)
        if (!json_is(list->items[i], JSON_STRING) ||
            !hex_decode(list->items[i]->text, list->items[i]->length, path[i], MERKLE_HASH))
            return 0;
    return 1;
}

/* By its own proof, and in the newest tree: the same leaf, of a tree that has grown from the receipt's. */
static int check_document(const struct document *document, const struct note_key *key, struct tlog_reader *reader,
                          const struct checkpoint *newest, bulla_error *error)
{
    uint8_t hash[RECEIPT_HASH], leaf[MERKLE_HASH], found[MERKLE_HASH], path[TLOG_MOST_PATH][MERKLE_HASH];
    uint64_t index = (uint64_t)document->index->integer;
    struct checkpoint own;
    int code = checkpoint_open(document->checkpoint->text, document->checkpoint->length, key, 1, 0, &own, error);
    if (code == BULLA_OK)
        code = receipt_hash(document->signed_part, hash, error);
    if (code == BULLA_OK)
        code = merkle_leaf_hash(hash, sizeof hash, leaf, error);
    unsigned path_length = (unsigned)document->path->length;
    if (code == BULLA_OK && (!read_path(document->path, path) ||
                             !merkle_path_verify(leaf, index, own.size, path[0], path_length, own.root, error)))
        code = bulla_fail(error, BULLA_E_INPUT, "the receipt's own proof does not lead to its checkpoint");
    if (code == BULLA_OK && own.size > newest->size)
        code = bulla_fail(error, BULLA_E_INPUT, "its checkpoint is of %" PRIu64 " receipts, the log shows %" PRIu64,
                          own.size, newest->size);
    if (code == BULLA_OK)
        code = tlog_reader_root(reader, own.size, found, error);
    if (code == BULLA_OK && memcmp(found, own.root, MERKLE_HASH) != 0)
        code = bulla_fail(error, BULLA_E_INPUT, "the log has forked: its tree did not begin as the receipt's checkpoint says");
    if (code == BULLA_OK)
        code = tlog_reader_leaf(reader, index, found, error);
    if (code == BULLA_OK && memcmp(found, leaf, MERKLE_HASH) != 0)
        code = bulla_fail(error, BULLA_E_INPUT, "leaf %" PRIu64 " of the log is another receipt", index);
    return code;
}

static int check_receipt(const char *path, const struct note_key *key, struct log_source *source,
                         const struct checkpoint *newest, bulla_error *error)
{
    const struct tlog_source tiles = log_source_tiles(source);
    struct arena arena = {0};
    struct tlog_reader *reader = NULL;
    struct document document = {0};
    uint8_t *text = NULL;
    size_t length = 0;
    bulla_error own = {0};
    int code = file_read(path, LARGEST_RECEIPT, &text, &length, error);
    if (code != BULLA_OK)
        return code;
    const struct json *value = json_parse((const char *)text, length, path, &arena, &own);
    code = value ? BULLA_OK : own.code;
    if (code == BULLA_OK && !find_parts(value, &document))
        code = bulla_fail(&own, BULLA_E_INPUT, "not a receipt document with its place in a log");
    if (code == BULLA_OK)
        code = tlog_reader_open(&tiles, newest->size, newest->root, &reader, &own);
    if (code == BULLA_OK)
        code = check_document(&document, key, reader, newest, &own);
    if (code == BULLA_OK)
        printf("%s is receipt %" PRId64 " of the log\n", path, document.index->integer);
    tlog_reader_close(reader);
    arena_free(&arena);
    memory_free(text);
    return code == BULLA_OK ? code : bulla_fail(error, code, "%s: %s", path, own.text);
}

/* ---- Monitoring ---- */

static void say(const struct checkpoint *last, const struct checkpoint *next)
{
    char when[LOG_TIME], root[2 * MERKLE_HASH + 1];
    log_time(when);
    hex_encode(next->root, MERKLE_HASH, root);
    printf("%s %s: %" PRIu64 " receipts, %" PRIu64 " new, root %s\n", when, next->origin, next->size,
           next->size - last->size, root);
    fflush(stdout);
}

/* What a monitor does beyond following. */
struct monitor {
    const struct log_choice *chosen;
    const struct note_key *key;
    struct log_source *source;
    int is_known; /* it has said something of the log, now or when the state was made */
};

static int on_done(void *context, const struct checkpoint *last, const struct checkpoint *next, bulla_error *error)
{
    struct monitor *monitor = context;
    const struct log_choice *chosen = monitor->chosen;
    int is_first = !monitor->is_known;
    monitor->is_known = 1;
    if (is_first || chosen->once || next->size > last->size)
        say(last, next);
    return chosen->receipt ? check_receipt(chosen->receipt, monitor->key, monitor->source, next, error) : BULLA_OK;
}

int log_monitor(const struct log_choice *chosen, const char *place, bulla_error *error)
{
    struct note_key key;
    struct log_source *source = NULL;
    struct log_state state = {.lock = -1};
    if (!chosen->log || !chosen->state)
        return bulla_fail(error, BULLA_E_USAGE, "a monitor needs --log KEY and --state FILE");
    int code = note_key_read(chosen->log, strlen(chosen->log), &key, error);
    if (code == BULLA_OK)
        code = log_source_open(place, chosen->ca, (unsigned)chosen->timeout, &source, error);
    if (code == BULLA_OK)
        code = log_state_open(chosen->state, &key, &state, error);
    struct monitor monitor = {.chosen = chosen, .key = &key, .source = source, .is_known = state.note.length > 0};
    const struct log_follow follow = {.name = "log", .key = &key, .source = source, .state = &state, .every = chosen->every,
                                      .is_once = chosen->once || chosen->receipt,
                                      .events = {.context = &monitor, .done = on_done}};
    interrupt_catch();
    if (code == BULLA_OK)
        code = log_follow(&follow, error);
    interrupt_release();
    log_state_close(&state);
    log_source_close(source);
    return code;
}
