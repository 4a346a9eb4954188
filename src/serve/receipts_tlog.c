#include "serve/receipts_tlog.h"

#include <string.h>

#include "base/memory.h"
#include "trust/tlog.h"

struct receipts_tlog {
    struct tlog *log;
    struct buffer key;
};

/* An append that was taken. */
struct append {
    receipts_logged done;
    void *context;
};

static void on_done(void *context, const struct tlog_inclusion *inclusion, const bulla_error *error)
{
    struct append append = *(struct append *)context;
    struct buffer text = {0};
    memory_free(context);
    if (inclusion && !error)
        tlog_inclusion_write(inclusion, &text);
    append.done(append.context, (const char *)text.data, text.length, text.error.code != BULLA_OK ? &text.error : error);
    buffer_free(&text);
}

static int append(void *context, const uint8_t id[RECEIPT_ID], const void *receipt, size_t length, receipts_logged done,
                  void *done_context, bulla_error *error)
{
    struct receipts_tlog *own = context;
    struct append *append = memory_alloc(1, sizeof *append, error);
    if (!append)
        return BULLA_E_MEMORY;
    *append = (struct append){done, done_context};
    int code = tlog_append(own->log, id, receipt, length, on_done, append, error);
    if (code != BULLA_OK)
        memory_free(append);
    return code;
}

static int find(void *context, const uint8_t id[RECEIPT_ID], struct buffer *receipt, struct buffer *inclusion, int *is_found,
                bulla_error *error)
{
    struct receipts_tlog *own = context;
    struct tlog_inclusion proof;
    bulla_error why = {0};
    int code = tlog_find(own->log, id, receipt, &proof, &why);
    *is_found = code == BULLA_OK;
    if (code == BULLA_E_USAGE)
        return BULLA_OK;
    if (code != BULLA_OK)
        return bulla_fail(error, code, "%s", why.text);
    tlog_inclusion_write(&proof, inclusion);
    tlog_inclusion_free(&proof);
    return BULLA_OK;
}

int receipts_tlog_open(const char *folder, const char *origin, struct receipts_log *log, bulla_error *error)
{
    const struct tlog_options options = {.folder = folder, .origin = origin};
    struct receipts_tlog *own = memory_alloc(1, sizeof *own, error);
    *log = (struct receipts_log){0};
    if (!own)
        return BULLA_E_MEMORY;
    log->context = own;
    int code = tlog_open(&options, &own->log, error);
    if (code == BULLA_OK) {
        note_key_write(tlog_key(own->log), &own->key);
        code = own->key.error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, BULLA_E_MEMORY, "%s", own->key.error.text);
    }
    if (code != BULLA_OK) {
        receipts_tlog_close(log);
        return code;
    }
    *log = (struct receipts_log){.context = own, .append = append, .find = find, .folder = tlog_folder(own->log),
                                 .key = (const char *)own->key.data};
    return BULLA_OK;
}

void receipts_tlog_close(struct receipts_log *log)
{
    struct receipts_tlog *own = log->context;
    if (!own)
        return;
    tlog_close(own->log);
    buffer_free(&own->key);
    memory_free(own);
    *log = (struct receipts_log){0};
}
