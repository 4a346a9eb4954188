/* A confidential machine by Linux's configfs-tsm (Documentation/ABI/testing/configfs-tsm): a folder made below
 * /sys/kernel/config/tsm/report is a request; its `inblob` takes the report data, its `outblob` gives the report, its
 * `auxblob` what the host has beside it. `generation` counts writes, which shows whether someone else wrote to the same
 * request. `provider` says what the machine is. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/random.h"
#include "trust/attester.h"
#include "trust/attester/kernel_file.h"

enum { MOST_REPORT = 1 << 16, MOST_AUXILIARY = 1 << 18, MOST_TEXT = 64, TABLE_ROW = 24, GUID = 16, PEM_HEAD = 10 };

struct tsm {
    struct buffer folder;
};

static const char *folder_of(const struct attester_options *options)
{
    return options->tsm ? options->tsm : "/sys/kernel/config/tsm/report";
}

static int open_tsm(const struct attester_options *options, void **state, bulla_error *error)
{
    struct tsm *tsm = memory_alloc(1, sizeof *tsm, error);
    if (!tsm)
        return BULLA_E_MEMORY;
    buffer_append_text(&tsm->folder, folder_of(options));
    if (tsm->folder.error.code != BULLA_OK) {
        memory_free(tsm);
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory for a path");
    }
    *state = tsm;
    return BULLA_OK;
}

static void close_tsm(void *state)
{
    struct tsm *tsm = state;
    buffer_free(&tsm->folder);
    memory_free(tsm);
}

/* ---- The certificates of SNP's host ---- */

/* GHCB specification (AMD publication 56421), section 4.1.8.1: rows of GUID, offset and length, a row of zeros at the end.
 * Tools of hosts disagree about the order of a GUID's bytes: as it is written, or its first three parts little-endian. */
static const struct table_kind {
    uint8_t guid[GUID];
    int place; /* in the chain */
} kinds[] = {
    {{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}, 0}, /* VCEK */
    {{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}, 0}, /* VLEK */
    {{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}, 1}, /* ASK, ASVK */
    {{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}, 2}, /* ARK */
};

enum { PLACES = 3 };

struct part {
    const uint8_t *bytes;
    size_t length;
};

static int same_guid(const uint8_t *found, const uint8_t guid[GUID])
{
    static const uint8_t mixed[GUID] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    int is_mixed = 1;
    for (int i = 0; i < GUID; i++)
        is_mixed &= found[i] == guid[mixed[i]];
    return is_mixed || memcmp(found, guid, GUID) == 0;
}

static int place_of(const uint8_t *guid)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (same_guid(guid, kinds[i].guid))
            return kinds[i].place;
    return -1;
}

/* The first certificate of each place; rows of other GUIDs are passed over. */
static int read_table(const struct buffer *table, struct part chain[PLACES], bulla_error *error)
{
    static const uint8_t end[GUID];
    struct reader reader = reader_over(table->data, table->length);
    for (;;) {
        const uint8_t *guid = reader_bytes(&reader, GUID);
        size_t offset = reader_u32(&reader), length = reader_u32(&reader);
        if (reader.failed)
            return bulla_fail(error, BULLA_E_INPUT, "the host's certificate table has no last row of zeros");
        if (memcmp(guid, end, GUID) == 0)
            return BULLA_OK;
        int place = place_of(guid);
        if (length > table->length || offset > table->length - length)
            return bulla_fail(error, BULLA_E_INPUT, "the host's certificate table has a row that lies outside of it");
        if (place >= 0 && !chain[place].bytes && length > 0)
            chain[place] = (struct part){table->data + offset, length};
    }
}

static void write_certificate(struct buffer *out, const struct part *certificate)
{
    if (certificate->length > PEM_HEAD && memcmp(certificate->bytes, "-----BEGIN", PEM_HEAD) == 0) {
        json_write_string(out, (const char *)certificate->bytes, strnlen((const char *)certificate->bytes, certificate->length));
        return;
    }
    buffer_append_byte(out, '"');
    base64_append(out, certificate->bytes, certificate->length);
    buffer_append_byte(out, '"');
}

/* Hosts without a table are left to the collateral. */
static int write_certificates(const struct buffer *table, struct buffer *document, bulla_error *error)
{
    struct part chain[PLACES] = {{0}};
    const char *before = ",\"certificates\":[";
    if (table->length == 0)
        return BULLA_OK;
    int code = read_table(table, chain, error);
    if (code != BULLA_OK)
        return code;
    for (int i = 0; i < PLACES; i++) {
        if (!chain[i].bytes)
            continue;
        buffer_append_text(document, before);
        write_certificate(document, &chain[i]);
        before = ",";
    }
    if (*before == ',' && before[1] == 0)
        buffer_append_byte(document, ']');
    return BULLA_OK;
}

/* ---- A request ---- */

struct request {
    struct buffer path; /* its folder */
    size_t length;      /* of that path: names of files are put behind it */
};

static const char *file_of(struct request *request, const char *name)
{
    buffer_cut(&request->path, request->length);
    buffer_append_format(&request->path, "/%s", name);
    return request->path.error.code == BULLA_OK ? (const char *)request->path.data : "";
}

static int read_generation(struct request *request, uint64_t *generation, bulla_error *error)
{
    struct buffer text = {0};
    int code = kernel_file_read(file_of(request, "generation"), MOST_TEXT, 0, &text, error);
    if (code == BULLA_OK && (!text.data || sscanf((const char *)text.data, "%" SCNu64, generation) != 1))
        code = bulla_fail(error, BULLA_E_IO, "%s: is no number", file_of(request, "generation"));
    buffer_free(&text);
    return code;
}

struct answer {
    struct buffer report, auxiliary, provider;
};

/* All that was read is of the one write. */
static int ask(struct request *request, const uint8_t report_data[ATTESTER_DATA], struct answer *answer, bulla_error *error)
{
    uint64_t before = 0, after = 0;
    int code = read_generation(request, &before, error);
    if (code == BULLA_OK)
        code = kernel_file_write(file_of(request, "inblob"), report_data, ATTESTER_DATA, error);
    if (code == BULLA_OK)
        code = kernel_file_read(file_of(request, "outblob"), MOST_REPORT, 0, &answer->report, error);
    if (code == BULLA_OK)
        code = kernel_file_read(file_of(request, "auxblob"), MOST_AUXILIARY, 1, &answer->auxiliary, error);
    if (code == BULLA_OK)
        code = kernel_file_read(file_of(request, "provider"), MOST_TEXT, 0, &answer->provider, error);
    if (code == BULLA_OK)
        code = read_generation(request, &after, error);
    if (code == BULLA_OK && after != before + 1)
        code = bulla_fail(error, BULLA_E_IO, "%s went from %" PRIu64 " to %" PRIu64 " with one write: someone else uses this "
                          "request", file_of(request, "generation"), before, after);
    return code;
}

static int write_document(const struct answer *answer, struct buffer *document, bulla_error *error)
{
    static const struct {
        const char *provider, *type, *member;
    } machines[] = {{"sev_guest", "snp", "report"}, {"tdx_guest", "tdx", "quote"}, {"arm_cca_guest", "cca", "token"}};
    const char *provider = answer->provider.data ? (const char *)answer->provider.data : "";
    size_t length = strcspn(provider, "\n");
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        if (strlen(machines[i].provider) != length || strncmp(provider, machines[i].provider, length) != 0)
            continue;
        buffer_append_format(document, "{\"type\":\"%s\"", machines[i].type);
        document_add_bytes(document, machines[i].member, answer->report.data, answer->report.length);
        int code = strcmp(machines[i].type, "snp") == 0 ? write_certificates(&answer->auxiliary, document, error) : BULLA_OK;
        buffer_append_byte(document, '}');
        return code;
    }
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "the kernel's provider of reports is \"%.*s\"; expected sev_guest, tdx_guest "
                      "or arm_cca_guest", (int)length, provider);
}

/* The path of a request that is not there yet. */
static int name_request(const char *folder, struct request *request, bulla_error *error)
{
    uint8_t random[8];
    char name[2 * sizeof random + 1];
    int code = random_bytes(random, sizeof random, error);
    if (code != BULLA_OK)
        return code;
    hex_encode(random, sizeof random, name);
    buffer_append_format(&request->path, "%s/bulla-%s", folder, name);
    request->length = request->path.length;
    if (request->path.error.code != BULLA_OK)
        code = bulla_fail(error, request->path.error.code, "%s", request->path.error.text);
    return code;
}

static int make_request(const struct tsm *tsm, struct request *request, bulla_error *error)
{
    int code = name_request((const char *)tsm->folder.data, request, error);
    if (code != BULLA_OK || mkdir((const char *)request->path.data, 0700) == 0)
        return code;
    return bulla_fail(error, BULLA_E_IO, "%s: cannot be made: %s", (const char *)request->path.data, strerror(errno));
}

static void end_request(struct request *request)
{
    buffer_cut(&request->path, request->length);
    rmdir((const char *)request->path.data);
}

/* A kernel that has the folder but no provider of reports refuses a request with ENXIO. Any other refusal is told when a
 * quote is asked for: a confidential machine does not go without evidence because its server may not ask. */
static int is_there(const struct attester_options *options)
{
    struct request request = {.path = {0}};
    bulla_error error = {0};
    int is_good = access(folder_of(options), F_OK) == 0 && name_request(folder_of(options), &request, &error) == BULLA_OK;
    if (is_good && mkdir((const char *)request.path.data, 0700) == 0)
        end_request(&request);
    else if (is_good)
        is_good = errno != ENXIO;
    buffer_free(&request.path);
    return is_good;
}

static int quote(void *state, const uint8_t report_data[ATTESTER_DATA], struct buffer *document, bulla_error *error)
{
    struct request request = {.path = {0}};
    struct answer answer = {.report = {0}};
    int code = make_request(state, &request, error);
    if (code == BULLA_OK) {
        code = ask(&request, report_data, &answer, error);
        end_request(&request);
    }
    if (code == BULLA_OK)
        code = write_document(&answer, document, error);
    buffer_free(&request.path);
    buffer_free(&answer.report);
    buffer_free(&answer.auxiliary);
    buffer_free(&answer.provider);
    return code;
}

const struct attester attester_tsm = {
    .name = "tsm",
    .title = "Linux configfs-tsm (AMD SEV-SNP, Intel TDX, Arm CCA)",
    .is_there = is_there,
    .open = open_tsm,
    .quote = quote,
    .close = close_tsm,
};
