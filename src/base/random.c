#define _GNU_SOURCE
#include "base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

int random_bytes(void *bytes, size_t length, bulla_error *error)
{
    unsigned char *next = bytes;
    while (length > 0) {
        ssize_t got = getrandom(next, length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            char text[128];
            int number = errno;
            return bulla_fail(error, BULLA_E_IO, "the system gives no random bytes: %s",
                              strerror_r(number, text, sizeof text));
        }
        next += got;
        length -= (size_t)got;
    }
    return BULLA_OK;
}
