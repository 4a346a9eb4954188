/* An AWS Nitro Enclave: the Nitro Secure Module, /dev/nsm. One ioctl takes a request in CBOR and gives the answer
 * (linux/nsm.h; aws-nitro-enclaves-nsm-api has the messages). The document is trust/evidence/nitro.c's. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/memory.h"
#include "trust/attester.h"
#include "trust/attester/kernel_file.h"
#include "trust/cbor.h"

enum { MOST_ANSWER = 0x3000, MOST_TREE = 1 << 20 };

/* As linux/nsm.h has it since Linux 6.8; of the older driver the message is the same on 64-bit machines. */
struct nsm_message {
    struct {
        uint64_t address, length;
    } request, response;
};
#define NSM_CALL _IOWR(0x0A, 0, struct nsm_message)

struct nsm {
    int descriptor;
    int (*call)(int descriptor, unsigned long request, void *message);
    uint8_t answer[MOST_ANSWER];
};

static const char *device_of(const struct attester_options *options)
{
    return options->nsm ? options->nsm : "/dev/nsm";
}

static int is_there(const struct attester_options *options)
{
    return access(device_of(options), F_OK) == 0;
}

static int call_kernel(int descriptor, unsigned long request, void *message)
{
    return ioctl(descriptor, request, message);
}

static int open_nsm(const struct attester_options *options, void **state, bulla_error *error)
{
    struct nsm *nsm = memory_alloc(1, sizeof *nsm, error);
    if (!nsm)
        return BULLA_E_MEMORY;
    nsm->call = options->nsm_call ? options->nsm_call : call_kernel;
    nsm->descriptor = open(device_of(options), O_RDWR | O_CLOEXEC);
    if (nsm->descriptor < 0) {
        int code = bulla_fail(error, BULLA_E_IO, "%s: cannot be opened: %s", device_of(options), strerror(errno));
        memory_free(nsm);
        return code;
    }
    *state = nsm;
    return BULLA_OK;
}

static void close_nsm(void *state)
{
    struct nsm *nsm = state;
    close(nsm->descriptor);
    memory_free(nsm);
}

/* {"Attestation": {"user_data": 64 bytes, "nonce": null, "public_key": null}} */
static void write_request(const uint8_t report_data[ATTESTER_DATA], struct buffer *out)
{
    static const uint8_t head[] = "\xa1\x6b" "Attestation\xa3\x69" "user_data\x58\x40";
    static const uint8_t tail[] = "\x65" "nonce\xf6\x6a" "public_key\xf6";
    buffer_append(out, head, sizeof head - 1);
    buffer_append(out, report_data, ATTESTER_DATA);
    buffer_append(out, tail, sizeof tail - 1);
}

/* {"Attestation": {"document": bytes}}, or {"Error": "InvalidOperation"}. */
static int take_document(const uint8_t *answer, size_t length, struct buffer *document, bulla_error *error)
{
    struct arena arena = {.limit = MOST_TREE};
    bulla_error own = {0};
    const struct cbor *root = cbor_parse(answer, length, &arena, &own);
    const struct cbor *made = cbor_member(cbor_member(root, "Attestation"), "document"), *trouble = cbor_member(root, "Error");
    int code = BULLA_OK;
    if (cbor_is(made, CBOR_BYTES)) {
        buffer_append_text(document, "{\"type\":\"nitro\"");
        document_add_bytes(document, "document", made->bytes, made->length);
        buffer_append_byte(document, '}');
    } else if (cbor_is(trouble, CBOR_TEXT)) {
        code = bulla_fail(error, BULLA_E_IO, "the Nitro Secure Module refuses: %.*s",
                          (int)(trouble->length < 100 ? trouble->length : 100), (const char *)trouble->bytes);
    } else {
        code = bulla_fail(error, BULLA_E_IO, "the Nitro Secure Module's answer is no attestation document%s%s",
                          own.code != BULLA_OK ? ": " : "", own.text);
    }
    arena_free(&arena);
    return code;
}

static int quote(void *state, const uint8_t report_data[ATTESTER_DATA], struct buffer *document, bulla_error *error)
{
    struct nsm *nsm = state;
    struct buffer request = {0};
    int result;
    write_request(report_data, &request);
    if (request.error.code != BULLA_OK)
        return bulla_fail(error, request.error.code, "%s", request.error.text);
    struct nsm_message message = {.request = {(uint64_t)(uintptr_t)request.data, request.length},
                                  .response = {(uint64_t)(uintptr_t)nsm->answer, sizeof nsm->answer}};
    do
        result = nsm->call(nsm->descriptor, NSM_CALL, &message);
    while (result < 0 && errno == EINTR);
    int number = errno;
    buffer_free(&request);
    if (result < 0)
        return bulla_fail(error, BULLA_E_IO, "the Nitro Secure Module takes no request: %s%s", strerror(number),
                          number == EPERM || number == EACCES ? " (it wants root, or CAP_SYS_ADMIN)" : "");
    if (message.response.length > sizeof nsm->answer)
        return bulla_fail(error, BULLA_E_IO, "the Nitro Secure Module says that it gave more bytes than there was room for");
    return take_document(nsm->answer, (size_t)message.response.length, document, error);
}

const struct attester attester_nsm = {
    .name = "nsm",
    .title = "AWS Nitro Enclaves",
    .is_there = is_there,
    .open = open_nsm,
    .quote = quote,
    .close = close_nsm,
};
