/* `bulla watch`: follows a log and audits a share of its receipts. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/auditing.h"
#include "cli/interrupt.h"
#include "cli/log_follow.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "cli/watch_folder.h"
#include "cli/watch_state.h"

struct watch_choice {
    const char *log, *state, *requests, *ca;
    struct option_texts models;
    uint64_t share, every, timeout, threads;
    int once, as_json;
};

static const struct option_spec options[] = {
    {"log", 0, OPTION_TEXT, offsetof(struct watch_choice, log), "KEY",
     "the log's verifier key, NAME+ID+KEY, which `bulla log key` and a server's /log/key print", 0, 0},
    {"state", 0, OPTION_TEXT, offsetof(struct watch_choice, state), "FILE",
     "where the newest checkpoint found consistent is kept, and beside it FILE.audits and FILE.secret", 0, 0},
    {"requests", 0, OPTION_TEXT, offsetof(struct watch_choice, requests), "FOLDER",
     "of receipt documents with their transcripts, as `bulla connect --receipts` keeps them", 0, 0},
    {"model", 'm', OPTION_TEXTS, offsetof(struct watch_choice, models), "FILE",
     "a model to compute with, as `bulla audit` takes it; may be given again", 0, 0},
    {"share", 0, OPTION_DECIMAL, offsetof(struct watch_choice, share), "N",
     "so many of the log's receipts are audited, chosen by FILE.secret; default 1: all", 0, AUDIT_ALL},
    {"ca", 0, OPTION_TEXT, offsetof(struct watch_choice, ca), "FILE",
     "certificates that an https server's must be by; default: the system's", 0, 0},
    {"once", 0, OPTION_FLAG, offsetof(struct watch_choice, once), NULL, "looks once", 0, 0},
    {"every", 0, OPTION_INTEGER, offsetof(struct watch_choice, every), "SECONDS", "between looks; default 60", 1, 86400},
    {"timeout", 0, OPTION_INTEGER, offsetof(struct watch_choice, timeout), "SECONDS",
     "longest time for one file from a server; default 30", 1, 3600},
    {"json", 0, OPTION_FLAG, offsetof(struct watch_choice, as_json), NULL, "what is told as JSON, an object a line", 0, 0},
    {"threads", 't', OPTION_INTEGER, offsetof(struct watch_choice, threads), "N", "threads; default: one a core", 1, 1024},
};

enum { MOST_WAITING = 4096 }; /* receipts for which there is no document, from look to look */

struct watcher {
    const struct watch_choice *chosen;
    double kept; /* clock_seconds() of when the state was kept last */
    uint64_t failed_before; /* what the state knows of already when this begins */
    int has_said;
    struct watch_state state;
    struct watch_folder folder;
    struct auditor *auditors[OPTION_MOST_TEXTS];
    size_t auditor_count;
};

/* ---- What is told ---- */

static void say_look(const struct watcher *watcher, const struct checkpoint *last, const struct checkpoint *next)
{
    const struct watch_counts *counts = &watcher->state.counts;
    uint64_t without = watcher->state.waiting_count + counts->given_up;
    char when[LOG_TIME];
    log_time(when);
    if (watcher->chosen->as_json)
        printf("{\"event\":\"look\",\"time\":\"%s\",\"receipts\":%" PRIu64 ",\"new\":%" PRIu64 ",\"chosen\":%" PRIu64
               ",\"passed\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"unchecked\":%" PRIu64 ",\"without_request\":%" PRIu64 "}\n",
               when, next->size, next->size - last->size, counts->chosen, counts->passed, counts->failed, counts->unchecked,
               without);
    else
        printf("%s %s: %" PRIu64 " receipts, %" PRIu64 " new; of %" PRIu64 " chosen %" PRIu64 " passed, %" PRIu64 " failed, %"
               PRIu64 " not checked, %" PRIu64 " without a request\n", when, next->origin, next->size, next->size - last->size,
               counts->chosen, counts->passed, counts->failed, counts->unchecked, without);
    fflush(stdout);
}

static const char *const finding_names[] = {[AUDIT_PASSED] = "passed", [AUDIT_FAILED] = "failed",
                                            [AUDIT_UNCHECKED] = "unchecked", [AUDIT_UNBOUND] = "unbound"};
static const char *const finding_words[] = {[AUDIT_PASSED] = "passes", [AUDIT_FAILED] = "FAILS",
                                            [AUDIT_UNCHECKED] = "cannot all be checked",
                                            [AUDIT_UNBOUND] = "is not what was signed, and is passed over"};

static int say_audit(const struct watcher *watcher, uint64_t index, const char *name, enum audit_finding finding,
                     const bulla_verdict *verdict, bulla_error *error)
{
    char when[LOG_TIME], *text = NULL;
    size_t length = 0;
    int as_json = watcher->chosen->as_json;
    int code = as_json || finding != AUDIT_PASSED ? bulla_verdict_text(verdict, as_json, &text, &length, error) : BULLA_OK;
    if (code != BULLA_OK)
        return code;
    log_time(when);
    if (as_json) {
        struct buffer file = {0};
        json_write_string(&file, name, strlen(name));
        printf("{\"event\":\"audit\",\"time\":\"%s\",\"index\":%" PRIu64 ",\"file\":%s,\"finding\":\"%s\",\"verdict\":%s}\n", when,
               index, file.error.code == BULLA_OK ? (const char *)file.data : "null", finding_names[finding], text);
        buffer_free(&file);
    } else {
        printf("%s receipt %" PRIu64 ", %s: %s\n", when, index, name, finding_words[finding]);
        output_text(stdout, text ? text : "", length);
    }
    fflush(stdout);
    bulla_verdict_text_free(text);
    return BULLA_OK;
}

/* ---- One audit ---- */

/* The auditor with the document's model; any other where there is none, which says so. */
static struct auditor *find_auditor(const struct watcher *watcher, const char *text, size_t length)
{
    struct arena arena = {0};
    uint8_t root[RECEIPT_HASH] = {0};
    const struct json *value = json_parse(text, length, "", &arena, NULL),
                      *said = json_get(json_get(json_get(value, "signed"), "receipt"), "model_root");
    struct auditor *found = watcher->auditors[0];
    if (json_is(said, JSON_STRING) && !hex_decode(said->text, said->length, root, sizeof root))
        memset(root, 0, sizeof root);
    arena_free(&arena);
    for (size_t i = 0; i < watcher->auditor_count; i++)
        if (memcmp(auditor_model_root(watcher->auditors[i]), root, sizeof root) == 0)
            found = watcher->auditors[i];
    return found;
}

/* STATE.failed-INDEX.json */
static int keep_failed(const struct watcher *watcher, uint64_t index, const uint8_t *text, size_t length, bulla_error *error)
{
    struct buffer path = {0};
    buffer_append_format(&path, "%s.failed-%" PRIu64 ".json", watcher->chosen->state, index);
    int code = path.error.code != BULLA_OK ? bulla_fail(error, path.error.code, "%s", path.error.text)
                                           : file_write_private((const char *)path.data, text, length, error);
    buffer_free(&path);
    return code;
}

/* A file that went, or was exchanged for something else, is nobody's doing. */
static int audit(const struct watcher *watcher, uint64_t index, const char *name, enum audit_finding *finding, bulla_error *error)
{
    const bulla_receipt_options receipt = {0};
    bulla_verdict *verdict = NULL;
    uint8_t *text = NULL;
    size_t length = 0;
    bulla_error own = {0};
    *finding = AUDIT_UNBOUND;
    int code = watch_folder_read(&watcher->folder, name, &text, &length, &own);
    if (code == BULLA_OK)
        code = auditor_audit(find_auditor(watcher, (const char *)text, length), (const char *)text, length, &receipt, &verdict,
                             NULL, &own);
    if (code == BULLA_OK) {
        *finding = audit_find(&verdict->verdict);
        code = say_audit(watcher, index, name, *finding, verdict, error);
    } else {
        code = code == BULLA_E_IO || code == BULLA_E_INPUT ? BULLA_OK : bulla_fail(error, code, "%s: %s", name, own.text);
    }
    if (code == BULLA_OK && *finding == AUDIT_FAILED)
        code = keep_failed(watcher, index, text, length, error);
    bulla_verdict_free(verdict);
    memory_free(text);
    return code;
}

/* ---- Looks ---- */

static int on_entry(void *context, uint64_t index, const uint8_t hash[RECEIPT_HASH], bulla_error *error)
{
    struct watcher *watcher = context;
    int is_chosen;
    int code = audit_is_chosen(watcher->state.secret, hash, watcher->chosen->share, &is_chosen, error);
    return code == BULLA_OK ? watch_state_take(&watcher->state, index, hash, is_chosen, error) : code;
}

static int keep(struct watcher *watcher, bulla_error *error)
{
    watcher->kept = clock_seconds();
    return watch_state_keep(&watcher->state, error);
}

static int on_accept(void *context, const struct checkpoint *next, bulla_error *error)
{
    return keep(context, error);
}

static uint64_t *count_of(struct watch_counts *counts, enum audit_finding finding)
{
    return finding == AUDIT_PASSED ? &counts->passed : finding == AUDIT_FAILED ? &counts->failed : &counts->unchecked;
}

/* Audits one that waits, with the documents that there are of it. *is_settled: it waits no longer. */
static int settle(struct watcher *watcher, size_t at, int *is_settled, bulla_error *error)
{
    struct watch_waiting waiting = watcher->state.waiting[at];
    struct watch_document *document;
    *is_settled = 0;
    while (!*is_settled && (document = watch_folder_find(&watcher->folder, waiting.hash)) != NULL) {
        enum audit_finding finding;
        int code = audit(watcher, waiting.index, document->name, &finding, error);
        if (code != BULLA_OK)
            return code;
        document->is_useless = finding == AUDIT_UNBOUND;
        *is_settled = finding != AUDIT_UNBOUND;
        if (*is_settled)
            ++*count_of(&watcher->state.counts, finding);
    }
    if (!*is_settled)
        return BULLA_OK;
    watch_state_drop(&watcher->state, at);
    return clock_seconds() - watcher->kept < 1 ? BULLA_OK : keep(watcher, error); /* what is lost is audited again */
}

static int on_done(void *context, const struct checkpoint *last, const struct checkpoint *next, bulla_error *error)
{
    struct watcher *watcher = context;
    size_t waiting = watcher->state.waiting_count;
    int code = watch_folder_look(&watcher->folder, error);
    for (size_t at = 0; code == BULLA_OK && at < watcher->state.waiting_count && !interrupt_came();) {
        int is_settled;
        code = settle(watcher, at, &is_settled, error);
        at += !is_settled;
    }
    if (code != BULLA_OK)
        return code;
    if (!interrupt_came()) /* then each was looked for */
        watch_state_give_up(&watcher->state, MOST_WAITING);
    code = keep(watcher, error);
    if (code != BULLA_OK)
        return code;
    if (!watcher->has_said || next->size > last->size || watcher->state.waiting_count < waiting)
        say_look(watcher, last, next);
    watcher->has_said = 1;
    uint64_t failed = watcher->state.counts.failed - watcher->failed_before;
    return failed == 0 ? BULLA_OK
                       : bulla_fail(error, BULLA_E_INPUT, "%" PRIu64 " of the log's receipts are not what was computed: they are "
                                    "kept in %s.failed-INDEX.json", failed, watcher->chosen->state);
}

/* ---- All of it ---- */

static int open_auditors(struct watcher *watcher, bulla_error *error)
{
    const struct watch_choice *chosen = watcher->chosen;
    int code = BULLA_OK;
    for (size_t i = 0; code == BULLA_OK && i < chosen->models.count; i++) {
        code = auditing_open(chosen->models.texts[i], (unsigned)chosen->threads, &watcher->auditors[i], error);
        watcher->auditor_count += code == BULLA_OK;
    }
    return code;
}

static int watch(const struct watch_choice *chosen, const char *place, bulla_error *error)
{
    struct note_key key;
    struct log_source *source = NULL;
    struct log_state state = {.lock = -1};
    struct watcher watcher = {.chosen = chosen, .folder = {.path = chosen->requests}};
    int code = note_key_read(chosen->log, strlen(chosen->log), &key, error);
    if (code == BULLA_OK)
        code = log_source_open(place, chosen->ca, (unsigned)chosen->timeout, &source, error);
    if (code == BULLA_OK)
        code = log_state_open(chosen->state, &key, &state, error);
    if (code == BULLA_OK)
        code = watch_state_open(chosen->state, &watcher.state, error);
    watcher.failed_before = watcher.state.counts.failed;
    if (code == BULLA_OK)
        code = open_auditors(&watcher, error);
    const struct log_follow follow = {.name = "watch", .key = &key, .source = source, .state = &state, .every = chosen->every,
                                      .is_once = chosen->once,
                                      .events = {.context = &watcher, .entry = on_entry, .accept = on_accept, .done = on_done}};
    interrupt_catch();
    if (code == BULLA_OK)
        code = log_follow(&follow, error);
    interrupt_release();
    for (size_t i = 0; i < watcher.auditor_count; i++)
        auditor_close(watcher.auditors[i]);
    watch_folder_free(&watcher.folder);
    watch_state_close(&watcher.state);
    log_state_close(&state);
    log_source_close(source);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct watch_choice chosen = {.share = AUDIT_ALL, .every = 60, .timeout = 30};
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code == BULLA_OK && (!chosen.log || !chosen.state || !chosen.requests || chosen.models.count == 0))
        code = bulla_fail(error, BULLA_E_USAGE, "a watcher needs --log KEY, --state FILE, --requests FOLDER and --model FILE");
    signal(SIGPIPE, SIG_IGN); /* a server that closes is an error of its connection */
    return code == BULLA_OK ? watch(&chosen, argv[0], error) : code;
}

const struct verb verb_watch = {
    .name = "watch",
    .summary = "follow a transparency log and audit a share of its receipts",
    .arguments = "LOG --log KEY --state FILE --requests FOLDER --model FILE",
    .details = "LOG is a log's folder or a URL, as https://example.com/log. The log is followed as `bulla log\n"
               "monitor` follows it; of its receipts a share is chosen that its server cannot foresee, and those\n"
               "of them are audited, as by `bulla audit`, whose documents are in FOLDER or come there later. A\n"
               "receipt that fails is kept as evidence, and ends it with status 1; started again it goes on behind\n"
               "that. docs/audit.md says who must give a watcher what.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
