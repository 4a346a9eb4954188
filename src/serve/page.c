#include "serve/page.h"

#include <string.h>

#include "page_sums.h" /* made by the build from the files: their lengths; compiles this file again when one changed */

/* A file's bytes as they are, with a NUL after them; meson gives the folder. */
#define PAGE_BYTES(symbol, file)                                                                                       \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".balign 16\n"                                                                                             \
            ".global " #symbol "\n" #symbol ":\n"                                                                      \
            ".incbin \"" PAGE_FOLDER "/" file "\"\n"                                                                   \
            ".byte 0\n"                                                                                                \
            ".popsection\n");                                                                                          \
    extern const char symbol[]

PAGE_BYTES(page_index_html, "index.html");
PAGE_BYTES(page_chat_css, "chat.css");
PAGE_BYTES(page_chat_js, "chat.js");
PAGE_BYTES(page_dom_js, "dom.js");
PAGE_BYTES(page_key_js, "key.js");
PAGE_BYTES(page_markdown_js, "markdown.js");
PAGE_BYTES(page_settings_js, "settings.js");
PAGE_BYTES(page_state_js, "state.js");
PAGE_BYTES(page_stream_js, "stream.js");

static const struct page_file files[] = {
    {"/", "text/html; charset=utf-8", page_index_html, PAGE_INDEX_HTML_BYTES},
    {"/page/chat.css", "text/css; charset=utf-8", page_chat_css, PAGE_CHAT_CSS_BYTES},
    {"/page/chat.js", "text/javascript; charset=utf-8", page_chat_js, PAGE_CHAT_JS_BYTES},
    {"/page/dom.js", "text/javascript; charset=utf-8", page_dom_js, PAGE_DOM_JS_BYTES},
    {"/page/key.js", "text/javascript; charset=utf-8", page_key_js, PAGE_KEY_JS_BYTES},
    {"/page/markdown.js", "text/javascript; charset=utf-8", page_markdown_js, PAGE_MARKDOWN_JS_BYTES},
    {"/page/settings.js", "text/javascript; charset=utf-8", page_settings_js, PAGE_SETTINGS_JS_BYTES},
    {"/page/state.js", "text/javascript; charset=utf-8", page_state_js, PAGE_STATE_JS_BYTES},
    {"/page/stream.js", "text/javascript; charset=utf-8", page_stream_js, PAGE_STREAM_JS_BYTES},
};

const char page_security_policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                                    "img-src 'self' data:; base-uri 'none'; "
                                    "form-action 'none'; frame-ancestors 'none'";

const struct page_file *page_find(const char *path)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (strcmp(path, files[i].path) == 0)
            return &files[i];
    return NULL;
}
