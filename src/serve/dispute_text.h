/* Text and tokens of answers, as a referee or a party of disputes settles them (docs/dispute.md): with the models' program
 * parts or the models themselves, through the server's own code (serve/auditor.h). */
#ifndef SERVE_DISPUTE_TEXT_H
#define SERVE_DISPUTE_TEXT_H

#include "check/referee.h"

struct dispute_text;

/* `parts`: files of dispute_part.h. */
int dispute_text_open(const char *const *parts, size_t count, struct dispute_text **text, bulla_error *error);
/* With one model, as a party has it. Its facts have the allowed sets too. */
int dispute_text_open_model(const char *path, struct dispute_text **text, bulla_error *error);
void dispute_text_close(struct dispute_text *text); /* NULL is fine */
struct referee_text dispute_text_table(struct dispute_text *text);

#endif
