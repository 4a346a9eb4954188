/* The parameters of a receipt (docs/receipt.md, "Parameters"): all that is in effect for an answer, after defaults and
 * limits. Who answers a request and who audits the answer write them from the same request. */
#ifndef SERVE_API_PARAMETERS_H
#define SERVE_API_PARAMETERS_H

#include "serve/api_request.h"

/* What is in effect beside the request itself, whose limits and seed are those in effect already. */
struct api_parameters {
    const char *endpoint; /* the route's pattern */
    const char *model;    /* the name under which it answers */
    const char *seed;     /* in decimal; NULL: it is not known */
    uint64_t microseconds; /* that the answer may take; 0: no limit */
};

/* Canonical JSON. Reads the request's body, so api_request_forget comes later. */
void api_parameters_write(const struct api_request *request, const struct api_parameters *parameters, const uint8_t *salt,
                          struct buffer *out);

#endif
