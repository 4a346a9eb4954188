/* The page at /: its files, built into the program (web/chat/). */
#ifndef SERVE_PAGE_H
#define SERVE_PAGE_H

#include <stddef.h>

struct page_file {
    const char *path; /* "/", "/page/chat.js", ... */
    const char *content_type;
    const char *data;
    size_t length;
};

/* NULL where there is none. */
const struct page_file *page_find(const char *path);
/* The content-security-policy that goes with each of them: no inline scripts, nothing from elsewhere. */
extern const char page_security_policy[];

#endif
