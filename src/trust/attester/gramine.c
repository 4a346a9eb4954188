/* An SGX enclave of Gramine's: /dev/attestation, whose quotes have the PCK's chain in them (trust/evidence/sgx.c). The
 * report data is what was last written to user_report_data. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "trust/attester.h"
#include "trust/attester/kernel_file.h"

enum { MOST_QUOTE = 1 << 16, MOST_TYPE = 64 };

struct gramine {
    struct buffer folder;
};

static const char *folder_of(const struct attester_options *options)
{
    return options->gramine ? options->gramine : "/dev/attestation";
}

static int is_there(const struct attester_options *options)
{
    struct buffer path = {0};
    buffer_append_format(&path, "%s/user_report_data", folder_of(options));
    int is_good = path.error.code == BULLA_OK && access((const char *)path.data, F_OK) == 0;
    buffer_free(&path);
    return is_good;
}

/* A file of the folder: read into `out`, or with `bytes` written. */
static int use_file(const struct gramine *gramine, const char *name, const void *bytes, size_t length, struct buffer *out,
                    bulla_error *error)
{
    struct buffer path = {0};
    buffer_append_format(&path, "%s/%s", (const char *)gramine->folder.data, name);
    int code = path.error.code != BULLA_OK ? bulla_fail(error, path.error.code, "%s", path.error.text)
               : bytes ? kernel_file_write((const char *)path.data, bytes, length, error)
                       : kernel_file_read((const char *)path.data, length, 0, out, error);
    buffer_free(&path);
    return code;
}

static void close_gramine(void *state)
{
    struct gramine *gramine = state;
    buffer_free(&gramine->folder);
    memory_free(gramine);
}

static int open_gramine(const struct attester_options *options, void **state, bulla_error *error)
{
    struct gramine *gramine = memory_alloc(1, sizeof *gramine, error);
    struct buffer type = {0};
    if (!gramine)
        return BULLA_E_MEMORY;
    buffer_append_text(&gramine->folder, folder_of(options));
    int code = gramine->folder.error.code == BULLA_OK
                   ? use_file(gramine, "attestation_type", NULL, MOST_TYPE, &type, error)
                   : bulla_fail(error, BULLA_E_MEMORY, "out of memory for a path");
    if (code == BULLA_OK && (type.length < 4 || strncmp((const char *)type.data, "dcap", 4) != 0))
        code = bulla_fail(error, BULLA_E_UNSUPPORTED,
                          "Gramine attests by \"%.20s\", expected \"dcap\": the enclave's manifest needs "
                          "sgx.remote_attestation = \"dcap\"",
                          type.data ? (const char *)type.data : "");
    buffer_free(&type);
    if (code == BULLA_OK)
        *state = gramine;
    else
        close_gramine(gramine);
    return code;
}

static int quote(void *state, const uint8_t report_data[ATTESTER_DATA], struct buffer *document, bulla_error *error)
{
    struct gramine *gramine = state;
    struct buffer bytes = {0};
    int code = use_file(gramine, "user_report_data", report_data, ATTESTER_DATA, NULL, error);
    if (code == BULLA_OK)
        code = use_file(gramine, "quote", NULL, MOST_QUOTE, &bytes, error);
    if (code == BULLA_OK) {
        buffer_append_text(document, "{\"type\":\"sgx\"");
        document_add_bytes(document, "quote", bytes.data, bytes.length);
        buffer_append_byte(document, '}');
    }
    buffer_free(&bytes);
    return code;
}

const struct attester attester_gramine = {
    .name = "gramine",
    .title = "Gramine in Intel SGX",
    .is_there = is_there,
    .open = open_gramine,
    .quote = quote,
    .close = close_gramine,
};
