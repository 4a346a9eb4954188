/* The socket that a server listens on. */
#ifndef OPS_LISTENER_H
#define OPS_LISTENER_H

#include "bulla/error.h"

enum { LISTENER_HOST = 256, LISTENER_TEXT = LISTENER_HOST + 16 };

struct listener_address {
    char host[LISTENER_HOST]; /* without brackets */
    char port[8];             /* decimal */
};

/* "127.0.0.1:8080", "[::1]:8080", "localhost:0". BULLA_E_USAGE with a sentence that says what is expected. */
int listener_parse(const char *text, struct listener_address *address, bulla_error *error);

struct listener {
    int socket;
    int is_loopback;          /* only this machine can reach it */
    char text[LISTENER_TEXT]; /* "127.0.0.1:8080", as an URL has it; the port that was taken where 0 was asked for */
};

/* Looks the host up without listening: whether it is loopback. */
int listener_find_loopback(const struct listener_address *address, int *is_loopback, bulla_error *error);
/* Listens, without blocking. BULLA_E_IO where another server listens there, unless `takes_over`: then both do, and the
 * system gives each a share of the connections until the other one closes its socket. That one must have been opened here
 * too, by the same user. */
int listener_open(const struct listener_address *address, int takes_over, struct listener *listener, bulla_error *error);

#endif
