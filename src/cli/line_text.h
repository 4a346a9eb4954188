/* Text as a terminal shows it: characters as people see them (grapheme
 * clusters, UAX #29) and the columns that they take. All texts are UTF-8. */
#ifndef CLI_LINE_TEXT_H
#define CLI_LINE_TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { LINE_TAB_COLUMNS = 8 };

/* Where the character that starts at `at` < length ends. */
size_t line_text_next(const char *text, size_t length, size_t at);
/* Where the character that ends at `at` > 0 starts. */
size_t line_text_previous(const char *text, size_t length, size_t at);
/* Whether `code_point`, put behind the last of text[0..length), starts a character of its own for sure. */
int line_text_starts_character(const char *text, size_t length, uint32_t code_point);
/* The first byte of the line that holds `at`; the newline that ends it, or `length`. */
size_t line_text_line_start(const char *text, size_t at);
size_t line_text_line_end(const char *text, size_t length, size_t at);
/* Back over blanks and then a word; forward likewise. */
size_t line_text_word_before(const char *text, size_t length, size_t at);
size_t line_text_word_after(const char *text, size_t length, size_t at);

/* Columns of text[from..to), one or more characters without a newline, where the first stands in
 * `column`. A code point takes what utf8proc_charwidth says, a cluster the sum of its code points, as
 * terminals that go by wcwidth do; a tab reaches to the next multiple of 8. */
int line_text_width(const char *text, size_t from, size_t to, int column);

#endif
