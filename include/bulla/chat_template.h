/* Chat templates: the Jinja programs that models ship to turn messages into a
 * prompt. A template is compiled before it is used, at import first, so that an
 * unknown construct is an error there and not at the first chat. Rendering is a
 * pure function of the template, its variables and the time given, bounded in
 * steps, depth, memory and output, so that a hostile template can neither hang
 * nor exhaust memory. The text is that of Hugging Face transformers'
 * apply_chat_template; docs/chat-templates.md says what the language holds, its
 * limits and where it differs.
 */
#ifndef BULLA_CHAT_TEMPLATE_H
#define BULLA_CHAT_TEMPLATE_H

#include <stddef.h>

#include "bulla/error.h"

typedef struct bulla_chat_template bulla_chat_template;

/* Compiles `length` bytes of Jinja source. Errors name line and construct: a
 * statement, filter, test, function or method that is not supported is
 * BULLA_E_UNSUPPORTED. A compiled template never changes: threads may share it. */
int bulla_chat_template_compile(const char *source, size_t length, bulla_chat_template **chat_template,
                                bulla_error *error);
void bulla_chat_template_free(bulla_chat_template *chat_template); /* NULL is fine */

/* Renders with `variables`, a JSON object whose members are the template's
 * variables: messages [{role, content, ...}], add_generation_prompt, tools,
 * bos_token, eos_token, and any of chat_template_kwargs. `now` is Unix time for
 * strftime_now (UTC). The text is NUL-terminated, to be freed with
 * bulla_text_free (bulla/tokenizer.h). A template's raise_exception is
 * BULLA_E_INPUT with its message. */
int bulla_chat_template_render(const bulla_chat_template *chat_template, const char *variables,
                               size_t variables_length, long long now, char **text, size_t *length,
                               bulla_error *error);

#endif
