/* What a browser says of where a request comes from (docs/api.md, "Browsers"). */
#ifndef SERVE_HOST_NAME_H
#define SERVE_HOST_NAME_H

#include <stddef.h>

/* The name of a Host header without its port, brackets kept; 0 where it is empty or longer than `size`. */
int host_name_read(const char *host, char *name, size_t size);
/* localhost and what ends in .localhost (RFC 6761 section 6.3: no resolver gives them another address), 127.0.0.0/8,
 * [::1]. */
int host_name_is_loopback(const char *name);
/* A page of another origin than the host that it asks. NULL is no page. */
int host_name_is_foreign(const char *origin, const char *host);

#endif
