#define _GNU_SOURCE
#include "serve/host_name.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

int host_name_read(const char *host, char *name, size_t size)
{
    const char *colon = strrchr(host, ':'), *bracket = strrchr(host, ']');
    size_t length = colon && (!bracket || colon > bracket) ? (size_t)(colon - host) : strlen(host);
    if (length == 0 || length >= size)
        return 0;
    memcpy(name, host, length);
    name[length] = 0;
    return 1;
}

int host_name_is_loopback(const char *name)
{
    static const char localhost[] = "localhost";
    size_t length = strlen(name), own = sizeof localhost - 1;
    char inner[INET6_ADDRSTRLEN];
    struct in_addr four;
    struct in6_addr six;
    if (length >= own && strcasecmp(name + length - own, localhost) == 0)
        return length == own || (length > own + 1 && name[length - own - 1] == '.');
    if (inet_pton(AF_INET, name, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    if (name[0] != '[' || length - 2 >= sizeof inner)
        return 0;
    memcpy(inner, name + 1, length - 2);
    inner[length - 2] = 0;
    return inet_pton(AF_INET6, inner, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

int host_name_is_foreign(const char *origin, const char *host)
{
    const char *name = origin ? strstr(origin, "://") : NULL;
    return origin && (!name || !host || strcasecmp(name + 3, host) != 0);
}
