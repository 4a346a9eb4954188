#define _GNU_SOURCE
#include "trust/attester/kernel_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *path, const char *what, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_IO, "%s: cannot be %s: %s", path, what, strerror(errno));
}

int kernel_file_read(const char *path, size_t most, int may_be_absent, struct buffer *out, bulla_error *error)
{
    uint8_t part[4096];
    ssize_t length;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return may_be_absent && errno == ENOENT ? BULLA_OK : fail(path, "read", error);
    size_t before = out->length;
    do {
        length = read(descriptor, part, sizeof part);
        if (length > 0)
            buffer_append(out, part, (size_t)length);
    } while (length > 0 ? out->length - before <= most : length < 0 && errno == EINTR);
    int code = length < 0 ? fail(path, "read", error) : BULLA_OK;
    close(descriptor);
    if (code == BULLA_OK && out->length - before > most)
        code = bulla_fail(error, BULLA_E_LIMIT, "%s: gives more than %zu bytes", path, most);
    if (code == BULLA_OK && out->error.code != BULLA_OK)
        code = bulla_fail(error, out->error.code, "%s", out->error.text);
    return code;
}

int kernel_file_write(const char *path, const void *bytes, size_t length, bulla_error *error)
{
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0)
        return fail(path, "written", error);
    ssize_t written = write(descriptor, bytes, length);
    int code = written < 0                  ? fail(path, "written", error)
               : (size_t)written != length ? bulla_fail(error, BULLA_E_IO, "%s: took %zd of %zu bytes", path, written, length)
                                           : BULLA_OK;
    if (close(descriptor) != 0 && code == BULLA_OK) /* configfs tells here what it thinks of the bytes */
        code = fail(path, "written", error);
    return code;
}

void document_add_bytes(struct buffer *out, const char *name, const void *bytes, size_t length)
{
    buffer_append_format(out, ",\"%s\":\"", name);
    base64_append(out, bytes, length);
    buffer_append_byte(out, '"');
}
