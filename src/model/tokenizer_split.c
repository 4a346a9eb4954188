/* Splitting text into words before byte-pair encoding: the regular expressions
 * of the supported families (docs/tokenizer.md), each as a small scanner. The
 * comments quote the part of the expression that a function matches; where an
 * expression backtracks, the function says what comes out of it. */
#include "model/tokenizer.h"
#include "model/unicode.h"

/* A character of the text with its class; at the end, `is_end` is set and next = offset. */
struct character {
    uint32_t code_point;
    enum unicode_class class;
    size_t next;
    int is_end;
};

struct scanner {
    const char *text;
    size_t length;
};

static struct character look(const struct scanner *scanner, size_t offset)
{
    struct character character = {0, UNICODE_OTHER, offset, 1};
    if (offset < scanner->length) {
        character.next = unicode_next(scanner->text, scanner->length, offset, &character.code_point);
        character.class = unicode_class_of(character.code_point);
        character.is_end = 0;
    }
    return character;
}

/* Classes as sets of bits. */
enum {
    UPPER = 1 << UNICODE_UPPER,
    LOWER = 1 << UNICODE_LOWER,
    LETTER = 1 << UNICODE_LETTER,
    MARK = 1 << UNICODE_MARK,
    NUMBER = 1 << UNICODE_NUMBER | 1 << UNICODE_OTHER_NUMBER, /* \p{N} */
    SPACE = 1 << UNICODE_SPACE,
    ANY_LETTER = UPPER | LOWER | LETTER,    /* \p{L} */
    UPPER_PART = UPPER | LETTER | MARK,     /* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] */
    LOWER_PART = LOWER | LETTER | MARK      /* [\p{Ll}\p{Lm}\p{Lo}\p{M}] */
};

static int is_in(struct character character, int set)
{
    return !character.is_end && (set >> character.class & 1);
}

/* The end of the longest run of characters in `set` from `offset`, at most `most` of them. */
static size_t run_of(const struct scanner *scanner, size_t offset, int set, size_t most)
{
    for (struct character here; most > 0 && is_in(here = look(scanner, offset), set); most--)
        offset = here.next;
    return offset;
}

static int is_line_end(uint32_t code_point)
{
    return code_point == '\r' || code_point == '\n';
}

/* 's|'t|'re|'ve|'m|'ll|'d; with `fold` as (?i:...), where s also matches U+017F. Gives its end, or `offset`. */
static size_t contraction(const struct scanner *scanner, size_t offset, int fold)
{
    const char *text = scanner->text + offset;
    size_t left = scanner->length - offset;
    if (left < 2 || text[0] != '\'')
        return offset;
    if (fold && left >= 3 && text[1] == '\xC5' && text[2] == '\xBF')
        return offset + 3;
    char first = text[1], second = left >= 3 ? text[2] : 0;
    if (fold) {
        first |= 0x20;
        second |= 0x20;
    }
    if (first == 's' || first == 't' || first == 'm' || first == 'd')
        return offset + 2;
    if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
        return offset + 3;
    return offset;
}

/* \s+(?!\S)|\s+ : white space but for its last character where something else
 * follows; that one belongs to the next word. One character is taken whole. */
static size_t white_space(const struct scanner *scanner, size_t offset)
{
    size_t end = offset, last = offset;
    struct character here = look(scanner, end);
    for (; is_in(here, SPACE); here = look(scanner, end)) {
        last = end;
        end = here.next;
    }
    return here.is_end || last == offset ? end : last;
}

/* \s*[\r\n]+ : white space up to its last line end; `offset` where it has none. */
static size_t lines(const struct scanner *scanner, size_t offset)
{
    size_t end = offset;
    for (struct character here = look(scanner, offset); is_in(here, SPACE); here = look(scanner, here.next)) {
        if (is_line_end(here.code_point))
            end = here.next;
    }
    return end;
}

/*  ?[^\s\p{L}\p{N}]+ followed by any of `tail`; `marks`: \p{M} is excluded too. */
static size_t symbols(const struct scanner *scanner, size_t offset, const char *tail, int marks)
{
    int excluded = SPACE | ANY_LETTER | NUMBER | (marks ? MARK : 0);
    size_t begin = offset < scanner->length && scanner->text[offset] == ' ' ? offset + 1 : offset;
    size_t end = run_of(scanner, begin, ~excluded, SIZE_MAX);
    if (end == begin)
        return offset;
    while (end < scanner->length && scanner->text[end] != 0 && strchr(tail, scanner->text[end]))
        end++;
    return end;
}

/* 's|...|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t gpt2_word(const struct scanner *scanner, size_t offset)
{
    size_t end = contraction(scanner, offset, 0);
    if (end > offset)
        return end;
    size_t begin = scanner->text[offset] == ' ' ? offset + 1 : offset;
    end = run_of(scanner, begin, ANY_LETTER, SIZE_MAX);
    if (end == begin)
        end = run_of(scanner, begin, NUMBER, SIZE_MAX);
    if (end == begin)
        end = run_of(scanner, begin, ~(SPACE | ANY_LETTER | NUMBER), SIZE_MAX);
    return end > begin ? end : white_space(scanner, offset);
}

/* The end of [^\r\n\p{L}\p{N}]? at `offset`. */
static size_t optional_prefix(const struct scanner *scanner, size_t offset)
{
    struct character here = look(scanner, offset);
    return here.is_end || is_line_end(here.code_point) || is_in(here, ANY_LETTER | NUMBER) ? offset : here.next;
}

/* [^\r\n\p{L}\p{N}]?SET+ */
static size_t prefixed_run(const struct scanner *scanner, size_t offset, int set)
{
    size_t begin = optional_prefix(scanner, offset);
    size_t end = run_of(scanner, begin, set, SIZE_MAX);
    if (end > begin)
        return end;
    return run_of(scanner, offset, set, SIZE_MAX);
}

/* The parts that Llama 3's expression and its descendants share, after the words. */
static size_t rest_of_word(const struct scanner *scanner, size_t offset, size_t digits, const char *tail, int marks)
{
    size_t end = run_of(scanner, offset, NUMBER, digits);
    if (end == offset)
        end = symbols(scanner, offset, tail, marks);
    if (end == offset)
        end = lines(scanner, offset);
    return end > offset ? end : white_space(scanner, offset);
}

/* (?i:'s|...)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t llama3_word(const struct scanner *scanner, size_t offset, size_t digits, int marks)
{
    size_t end = contraction(scanner, offset, 1);
    if (end == offset)
        end = prefixed_run(scanner, offset, ANY_LETTER | (marks ? MARK : 0));
    return end > offset ? end : rest_of_word(scanner, offset, digits, "\r\n", marks);
}

/* [UPPER_PART]*[LOWER_PART]+ from `begin`, or `begin` where it does not match.
 * Backtracking: where the greedy first part leaves nothing for the second, it
 * gives back characters up to its last one that the second part takes. */
static size_t upper_then_lower(const struct scanner *scanner, size_t begin)
{
    size_t end = begin, after_shared = begin;
    for (struct character here; is_in(here = look(scanner, end), UPPER_PART);) {
        end = here.next;
        if (is_in(here, LOWER_PART))
            after_shared = end;
    }
    size_t lower = run_of(scanner, end, LOWER_PART, SIZE_MAX);
    return lower > end ? lower : after_shared;
}

/* [UPPER_PART]+[LOWER_PART]* */
static size_t upper_maybe_lower(const struct scanner *scanner, size_t begin)
{
    size_t end = run_of(scanner, begin, UPPER_PART, SIZE_MAX);
    return end == begin ? begin : run_of(scanner, end, LOWER_PART, SIZE_MAX);
}

/* PREFIX?[UPPER_PART]*[LOWER_PART]+|PREFIX?[UPPER_PART]+[LOWER_PART]* of tekken and gpt-4o */
static size_t cased_word(const struct scanner *scanner, size_t offset)
{
    size_t begin = optional_prefix(scanner, offset), end;
    if ((end = upper_then_lower(scanner, begin)) > begin || (end = upper_then_lower(scanner, offset)) > offset)
        return end;
    if ((end = upper_maybe_lower(scanner, begin)) > begin)
        return end;
    return upper_maybe_lower(scanner, offset);
}

static size_t tekken_word(const struct scanner *scanner, size_t offset)
{
    size_t end = cased_word(scanner, offset);
    return end > offset ? end : rest_of_word(scanner, offset, 1, "\r\n/", 0);
}

static size_t gpt4o_word(const struct scanner *scanner, size_t offset)
{
    size_t end = cased_word(scanner, offset);
    return end > offset ? contraction(scanner, end, 1) : rest_of_word(scanner, offset, 3, "\r\n/", 0);
}

/* Digits first, one a word; then GPT-2's expression in each stretch between them. */
static size_t smollm_word(const struct scanner *scanner, size_t offset, size_t *segment)
{
    struct character here = look(scanner, offset);
    if (is_in(here, NUMBER))
        return here.next;
    if (*segment <= offset)
        *segment = run_of(scanner, offset, ~NUMBER, SIZE_MAX);
    struct scanner stretch = {scanner->text, *segment};
    return gpt2_word(&stretch, offset);
}

/* Each space begins a word. */
static size_t spaced_word(const struct scanner *scanner, size_t offset)
{
    const char *space = memchr(scanner->text + offset + 1, ' ', scanner->length - offset - 1);
    return space ? (size_t)(space - scanner->text) : scanner->length;
}

size_t tokenizer_next_word(uint32_t split, const char *text, size_t length, size_t offset, size_t *segment)
{
    struct scanner scanner = {text, length};
    switch (split) {
    case TOKENIZER_SPLIT_GPT2:
        return gpt2_word(&scanner, offset);
    case TOKENIZER_SPLIT_SMOLLM:
        return smollm_word(&scanner, offset, segment);
    case TOKENIZER_SPLIT_LLAMA3:
        return llama3_word(&scanner, offset, 3, 0);
    case TOKENIZER_SPLIT_QWEN2:
        return llama3_word(&scanner, offset, 1, 0);
    case TOKENIZER_SPLIT_QWEN35:
        return llama3_word(&scanner, offset, 1, 1);
    case TOKENIZER_SPLIT_TEKKEN:
        return tekken_word(&scanner, offset);
    case TOKENIZER_SPLIT_GPT4O:
        return gpt4o_word(&scanner, offset);
    case TOKENIZER_SPLIT_SPACES:
        return spaced_word(&scanner, offset);
    default:
        return length;
    }
}
