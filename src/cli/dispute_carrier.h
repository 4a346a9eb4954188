/* How a party reaches its referee: by HTTP, or by files in a folder that someone carries (docs/dispute.md, "Carriers"). */
#ifndef CLI_DISPUTE_CARRIER_H
#define CLI_DISPUTE_CARRIER_H

#include "base/buffer.h"
#include "bulla/error.h"

struct dispute_carrier;

/* `place`: a URL, or a folder. */
int dispute_carrier_open(const char *place, const char *ca_file, struct dispute_carrier **carrier, bulla_error *error);
void dispute_carrier_close(struct dispute_carrier *carrier); /* NULL is fine */
/* *is_taken 0: the referee says that it has no effect, and why. By a folder that is not known yet: 1. */
int dispute_carrier_post(struct dispute_carrier *carrier, const struct buffer *message, int *is_taken, bulla_error *why,
                         bulla_error *error);
/* What the referee says at a path, as "/v1/answers/ID" or "/v1/disputes/ID?from=0" without the query by a folder; nothing is
 * appended where there is none. */
int dispute_carrier_get(struct dispute_carrier *carrier, const char *path, struct buffer *out, bulla_error *error);

/* ---- The referee's side of a folder: inbox/, rejected/, v1/ as a server has it ---- */

struct dispute_docket;
/* Takes what is in the inbox, and writes what changed. */
int dispute_folder_serve(const char *folder, struct dispute_docket *docket, bulla_error *error);

#endif
