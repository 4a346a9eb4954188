/* The transparency log (trust/tlog.h) as the place where receipts go. */
#ifndef SERVE_RECEIPTS_TLOG_H
#define SERVE_RECEIPTS_TLOG_H

#include "serve/receipts.h"

/* Opens the log of the folder, made where it is not there; receipts_tlog_close ends it, when every receipt that was
 * appended is durable and who appended it was told. */
int receipts_tlog_open(const char *folder, const char *origin, struct receipts_log *log, bulla_error *error);
void receipts_tlog_close(struct receipts_log *log); /* a zeroed one is fine */

#endif
