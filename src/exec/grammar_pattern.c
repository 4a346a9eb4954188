/* Regular expressions to automata: ECMA-262's with the u flag, without what no finite automaton does or what would be
 * read differently elsewhere. Supported: literals, ., classes, \d \D \w \W \s \S, escapes of punctuation and
 * \t \n \v \f \r \0 \xHH \uHHHH, groups (plain, (?:), named), |, the quantifiers * + ? {n} {n,} {n,m} (lazy ones too),
 * ^ and $. Not: look-around, back references, \b, \B, \p, \c.
 *
 * The parser writes a nondeterministic automaton (Thompson's construction). */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "exec/grammar_pattern.h"
#include "model/unicode.h"

enum { MAX_NODES = 20000, MAX_DEPTH = 64, MAX_REPEAT = 1000 };

struct set {
    struct text_range *ranges;
    size_t count, capacity;
};

struct fragment {
    int entry, exit; /* the exit is a split whose `first` is still PATTERN_NONE */
};

static struct fragment parse_alternatives(struct pattern *pattern);

static int fail(struct pattern *pattern, const char *what)
{
    return bulla_fail(pattern->error, BULLA_E_UNSUPPORTED, "%s at byte %zu of the regular expression", what,
                      pattern->at);
}

void *pattern_alloc(struct pattern *pattern, size_t count, size_t size)
{
    return work_alloc(pattern->work, &pattern->scratch, count, size, pattern->error);
}

int pattern_work(struct pattern *pattern, uint64_t amount)
{
    return !pattern->error->code && !work_take(pattern->work, amount, pattern->error);
}

static int node_add(struct pattern *pattern, struct pattern_node node)
{
    if (!pattern_work(pattern, 20))
        return PATTERN_NONE;
    if (pattern->node_count >= MAX_NODES) {
        bulla_fail(pattern->error, BULLA_E_LIMIT, "the regular expression is too large (more than %d states)",
                   MAX_NODES);
        return PATTERN_NONE;
    }
    if (pattern->node_count == pattern->node_capacity) {
        int capacity = pattern->node_capacity ? 2 * pattern->node_capacity : 64;
        struct pattern_node *nodes = pattern_alloc(pattern, (size_t)capacity, sizeof *nodes);
        if (!nodes)
            return PATTERN_NONE;
        if (pattern->node_count > 0)
            memcpy(nodes, pattern->nodes, (size_t)pattern->node_count * sizeof *nodes);
        pattern->nodes = nodes;
        pattern->node_capacity = capacity;
    }
    pattern->nodes[pattern->node_count] = node;
    return pattern->node_count++;
}

static int split_add(struct pattern *pattern, int first, int second)
{
    return node_add(pattern, (struct pattern_node){.type = PATTERN_SPLIT, .first = first, .second = second});
}

static void lead(struct pattern *pattern, int node, int target)
{
    if (!pattern->error->code)
        pattern->nodes[node].first = target;
}

/* A node that leads to a new exit. */
static struct fragment single(struct pattern *pattern, struct pattern_node node)
{
    int exit = split_add(pattern, PATTERN_NONE, PATTERN_NONE);
    node.first = exit;
    node.second = PATTERN_NONE;
    return (struct fragment){node_add(pattern, node), exit};
}

static struct fragment empty(struct pattern *pattern)
{
    int only = split_add(pattern, PATTERN_NONE, PATTERN_NONE);
    return (struct fragment){only, only};
}

/* Sets of code points. */

static void set_add(struct pattern *pattern, struct set *set, uint32_t low, uint32_t high)
{
    if (set->count == set->capacity) {
        size_t capacity = set->capacity ? 2 * set->capacity : 8;
        struct text_range *ranges = pattern_alloc(pattern, capacity, sizeof *ranges);
        if (!ranges)
            return;
        if (set->count > 0)
            memcpy(ranges, set->ranges, set->count * sizeof *ranges);
        set->ranges = ranges;
        set->capacity = capacity;
    }
    set->ranges[set->count++] = (struct text_range){low, high};
}

static int compare_ranges(const void *a, const void *b)
{
    const struct text_range *first = a, *second = b;
    return (first->low > second->low) - (first->low < second->low);
}

static int is_ascending(const struct set *set)
{
    for (size_t i = 1; i < set->count; i++)
        if (set->ranges[i].low < set->ranges[i - 1].low)
            return 0;
    return 1;
}

static void set_normalize(struct pattern *pattern, struct set *set)
{
    size_t used = 0;
    int is_sorted = is_ascending(set);
    if (!pattern_work(pattern, 20 + 6 * (uint64_t)set->count + (is_sorted ? 0 : work_to_sort(set->count))))
        return;
    if (!is_sorted)
        qsort(set->ranges, set->count, sizeof *set->ranges, compare_ranges);
    for (size_t i = 0; i < set->count; i++) {
        struct text_range range = set->ranges[i];
        if (used > 0 && range.low <= set->ranges[used - 1].high + 1) {
            if (range.high > set->ranges[used - 1].high)
                set->ranges[used - 1].high = range.high;
        } else {
            set->ranges[used++] = range;
        }
    }
    set->count = used;
}

static struct set set_complement(struct pattern *pattern, struct set *set)
{
    struct set result = {0};
    uint32_t low = 0;
    set_normalize(pattern, set);
    for (size_t i = 0; i < set->count; i++) {
        if (set->ranges[i].low > low)
            set_add(pattern, &result, low, set->ranges[i].low - 1);
        low = set->ranges[i].high + 1;
    }
    if (low <= AUTOMATON_LAST_CODE_POINT)
        set_add(pattern, &result, low, AUTOMATON_LAST_CODE_POINT);
    return result;
}

static void set_join(struct pattern *pattern, struct set *set, const struct set *other)
{
    for (size_t i = 0; i < other->count; i++)
        set_add(pattern, set, other->ranges[i].low, other->ranges[i].high);
}

/* What Unicode-aware readers take \d or \w for, beyond ASCII. */
static void set_add_unicode(struct pattern *pattern, struct set *set, int digits)
{
    if (!pattern_work(pattern, 4 * UNICODE_CLASS_STARTS))
        return;
    for (size_t i = 0; i < UNICODE_CLASS_STARTS; i++) {
        unsigned class = unicode_class_starts[i] & 15;
        uint32_t low = unicode_class_starts[i] >> 4;
        uint32_t high =
            i + 1 < UNICODE_CLASS_STARTS ? (unicode_class_starts[i + 1] >> 4) - 1 : AUTOMATON_LAST_CODE_POINT;
        int is_number = class == UNICODE_NUMBER || class == UNICODE_OTHER_NUMBER;
        if (digits ? is_number : class != UNICODE_OTHER && class != UNICODE_SPACE)
            set_add(pattern, set, low, high);
    }
}

static void set_add_spaces(struct pattern *pattern, struct set *set, int upper)
{
    static const struct text_range both[] = {{9, 13}, {32, 32}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A},
                                             {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
    for (size_t i = 0; i < sizeof both / sizeof *both; i++)
        set_add(pattern, set, both[i].low, both[i].high);
    if (upper) {
        set_add(pattern, set, 0x1C, 0x1F);
        set_add(pattern, set, 0x85, 0x85);
        set_add(pattern, set, 0xFEFF, 0xFEFF);
    }
}

/* \d, \D and so on; `letter` is the one after the backslash. */
static void set_add_kind(struct pattern *pattern, struct set *set, char letter, int upper)
{
    struct set kind = {0};
    int negated = letter < 'a';
    int wide = negated ? !upper : upper;
    switch (letter | 0x20) {
    case 'd':
        set_add(pattern, &kind, '0', '9');
        if (wide)
            set_add_unicode(pattern, &kind, 1);
        break;
    case 'w':
        set_add(pattern, &kind, '0', '9');
        set_add(pattern, &kind, 'A', 'Z');
        set_add(pattern, &kind, 'a', 'z');
        set_add(pattern, &kind, '_', '_');
        if (wide)
            set_add_unicode(pattern, &kind, 0);
        break;
    default:
        set_add_spaces(pattern, &kind, wide);
    }
    if (negated)
        kind = set_complement(pattern, &kind);
    set_join(pattern, set, &kind);
}

static void keep_set(struct pattern *pattern, const struct set *set)
{
    if (pattern->set_count == pattern->set_capacity) {
        int capacity = pattern->set_capacity ? 2 * pattern->set_capacity : 16;
        struct text_set *sets = pattern_alloc(pattern, (size_t)capacity, sizeof *sets);
        if (!sets)
            return;
        if (pattern->set_count > 0)
            memcpy(sets, pattern->sets, (size_t)pattern->set_count * sizeof *sets);
        pattern->sets = sets;
        pattern->set_capacity = capacity;
    }
    pattern->sets[pattern->set_count++] = (struct text_set){set->ranges, set->count};
}

static struct fragment set_fragment(struct pattern *pattern, struct set *set)
{
    set_normalize(pattern, set);
    keep_set(pattern, set);
    return single(pattern, (struct pattern_node){.type = PATTERN_SET, .ranges = set->ranges, .count = set->count});
}

/* Reading. */

static int peek(const struct pattern *pattern)
{
    return pattern->at < pattern->length ? (unsigned char)pattern->text[pattern->at] : PATTERN_NONE;
}

static int take(struct pattern *pattern, char c)
{
    if (peek(pattern) != (unsigned char)c)
        return 0;
    pattern->at++;
    return 1;
}

static uint32_t read_character(struct pattern *pattern)
{
    uint32_t code_point;
    size_t bytes = utf8_decode(pattern->text + pattern->at, pattern->length - pattern->at, &code_point);
    if (bytes == 0) {
        fail(pattern, "bytes that are not UTF-8");
        pattern->at = pattern->length;
        return 0;
    }
    pattern->at += bytes;
    return code_point;
}

static uint32_t read_hex(struct pattern *pattern, int digits)
{
    uint32_t value = 0;
    for (int i = 0; i < digits; i++) {
        int c = peek(pattern);
        int digit = c >= '0' && c <= '9'                     ? c - '0'
                    : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                             : -1;
        if (c == PATTERN_NONE || digit < 0) {
            fail(pattern, "an escape without its hexadecimal digits");
            return 0;
        }
        value = 16 * value + (uint32_t)digit;
        pattern->at++;
    }
    return value;
}

/* After \u: a code unit, or a pair of surrogates written as two. */
static uint32_t read_unicode(struct pattern *pattern)
{
    uint32_t unit = read_hex(pattern, 4);
    if (unit < 0xD800 || unit > 0xDFFF)
        return unit;
    if (unit < 0xDC00 && pattern->length - pattern->at >= 6 && memcmp(pattern->text + pattern->at, "\\u", 2) == 0) {
        pattern->at += 2;
        uint32_t low = read_hex(pattern, 4);
        if (low >= 0xDC00 && low <= 0xDFFF)
            return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    }
    fail(pattern, "a lone surrogate");
    return 0;
}

/* The character that an escape stands for; `c` follows the backslash and is read. */
static uint32_t read_escape(struct pattern *pattern, int c)
{
    static const char letters[] = "tnvfr", values[] = "\t\n\v\f\r";
    const char *letter = c > 0 && c < 128 ? strchr(letters, c) : NULL;
    if (letter)
        return (unsigned char)values[letter - letters];
    if (c == 'x')
        return read_hex(pattern, 2);
    if (c == 'u')
        return read_unicode(pattern);
    if (c == '0' && !(peek(pattern) >= '0' && peek(pattern) <= '9'))
        return 0;
    int is_word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
    if (c <= ' ' || c >= 127 || is_word)
        fail(pattern, "an escape that is not supported, before what stands");
    return (uint32_t)c;
}

static int is_kind(int c)
{
    return c > 0 && strchr("dDwWsS", c) != NULL;
}

/* One member of [...]; 1 when it is a set of its own, which no range may begin or end with. */
static int read_member(struct pattern *pattern, struct set *set, int upper, uint32_t *code_point)
{
    if (!take(pattern, '\\')) {
        *code_point = read_character(pattern);
        return 0;
    }
    int c = peek(pattern);
    pattern->at += c != PATTERN_NONE;
    if (is_kind(c)) {
        set_add_kind(pattern, set, (char)c, upper);
        return 1;
    }
    *code_point = c == 'b' ? 8 : read_escape(pattern, c);
    return 0;
}

static struct fragment parse_class(struct pattern *pattern)
{
    struct set set = {0};
    int negated = take(pattern, '^');
    int upper = negated ? !pattern->upper : pattern->upper;
    if (peek(pattern) == ']')
        fail(pattern, "an empty class");
    while (!pattern->error->code && !take(pattern, ']')) {
        uint32_t low = 0, high = 0;
        if (peek(pattern) == PATTERN_NONE) {
            fail(pattern, "a class without its ']'");
        } else if (!read_member(pattern, &set, upper, &low)) {
            high = low;
            int is_range = peek(pattern) == '-' && pattern->at + 1 < pattern->length &&
                           pattern->text[pattern->at + 1] != ']';
            if (is_range) {
                pattern->at++;
                if (read_member(pattern, &set, upper, &high) || high < low)
                    fail(pattern, "a range without an ordered end, before what stands");
            }
            set_add(pattern, &set, low, high);
        }
    }
    if (negated)
        set = set_complement(pattern, &set);
    return set_fragment(pattern, &set);
}

static struct fragment parse_dot(struct pattern *pattern)
{
    struct set ends = {0};
    set_add(pattern, &ends, '\n', '\n');
    if (!pattern->upper) {
        set_add(pattern, &ends, '\r', '\r');
        set_add(pattern, &ends, 0x2028, 0x2029);
    }
    struct set set = set_complement(pattern, &ends);
    return set_fragment(pattern, &set);
}

/* Python's $ also stands before a last line feed. */
static struct fragment parse_end(struct pattern *pattern)
{
    struct fragment end = single(pattern, (struct pattern_node){.type = PATTERN_END});
    if (!pattern->upper)
        return end;
    struct set feed = {0};
    set_add(pattern, &feed, '\n', '\n');
    struct fragment line = set_fragment(pattern, &feed);
    lead(pattern, line.exit, end.entry);
    return (struct fragment){split_add(pattern, line.entry, end.entry), end.exit};
}

static struct fragment parse_group(struct pattern *pattern)
{
    if (take(pattern, '?') && !take(pattern, ':')) {
        int c = pattern->at + 1 < pattern->length ? pattern->text[pattern->at + 1] : '=';
        if (peek(pattern) != '<' || c == '=' || c == '!')
            return fail(pattern, "a look-around or an unknown kind of group"), empty(pattern);
        while (peek(pattern) != PATTERN_NONE && peek(pattern) != '>')
            pattern->at++;
        pattern->at += peek(pattern) == '>';
    }
    struct fragment inner = parse_alternatives(pattern);
    if (!pattern->error->code && !take(pattern, ')'))
        fail(pattern, "a group without its ')'");
    return inner;
}

static struct fragment parse_character(struct pattern *pattern)
{
    struct set set = {0};
    if (take(pattern, '\\')) {
        int c = peek(pattern);
        pattern->at += c != PATTERN_NONE;
        if (is_kind(c)) {
            set_add_kind(pattern, &set, (char)c, pattern->upper);
        } else {
            uint32_t code_point = read_escape(pattern, c);
            set_add(pattern, &set, code_point, code_point);
        }
    } else {
        uint32_t code_point = read_character(pattern);
        set_add(pattern, &set, code_point, code_point);
    }
    return set_fragment(pattern, &set);
}

static struct fragment parse_atom(struct pattern *pattern)
{
    if (take(pattern, '('))
        return parse_group(pattern);
    if (take(pattern, '['))
        return parse_class(pattern);
    if (take(pattern, '.'))
        return parse_dot(pattern);
    if (take(pattern, '^'))
        return single(pattern, (struct pattern_node){.type = PATTERN_BEGIN});
    if (take(pattern, '$'))
        return parse_end(pattern);
    if (peek(pattern) == '*' || peek(pattern) == '+' || peek(pattern) == '?')
        return fail(pattern, "a quantifier of nothing"), empty(pattern);
    return parse_character(pattern);
}

static int read_count(struct pattern *pattern)
{
    int value = 0;
    if (!(peek(pattern) >= '0' && peek(pattern) <= '9'))
        return PATTERN_NONE;
    while (peek(pattern) >= '0' && peek(pattern) <= '9') {
        value = 10 * value + (peek(pattern) - '0');
        pattern->at++;
        if (value > MAX_REPEAT) {
            bulla_fail(pattern->error, BULLA_E_LIMIT, "a quantifier of more than %d at byte %zu of the regular "
                       "expression", MAX_REPEAT, pattern->at);
            return 0;
        }
    }
    return value;
}

/* Whether a quantifier stands here; it is read. *most is PATTERN_NONE for "without end". */
static int read_quantifier(struct pattern *pattern, int *least, int *most)
{
    size_t start = pattern->at;
    *least = 0;
    *most = PATTERN_NONE;
    if (take(pattern, '*')) {
    } else if (take(pattern, '+')) {
        *least = 1;
    } else if (take(pattern, '?')) {
        *most = 1;
    } else if (take(pattern, '{')) {
        *least = *most = read_count(pattern);
        if (*least != PATTERN_NONE && take(pattern, ','))
            *most = read_count(pattern);
        if (*least == PATTERN_NONE || !take(pattern, '}') || (*most != PATTERN_NONE && *most < *least)) {
            pattern->at = start;
            return fail(pattern, "a '{' that is no quantifier"), 0;
        }
    } else {
        return 0;
    }
    take(pattern, '?');
    if (peek(pattern) == '+' || peek(pattern) == '*')
        fail(pattern, "a quantifier of a quantifier");
    return 1;
}

/* The nodes of an atom, and where they lie: nothing but its exit leads out of them. */
struct atom {
    struct fragment whole;
    int first, end;
};

static int moved(int target, int by)
{
    return target == PATTERN_NONE ? PATTERN_NONE : target + by;
}

static struct fragment copy_atom(struct pattern *pattern, const struct atom *atom)
{
    int by = pattern->node_count - atom->first;
    for (int i = atom->first; i < atom->end && !pattern->error->code; i++) {
        struct pattern_node node = pattern->nodes[i];
        node.first = i == atom->whole.exit ? PATTERN_NONE : moved(node.first, by);
        node.second = moved(node.second, by);
        node_add(pattern, node);
    }
    return (struct fragment){atom->whole.entry + by, atom->whole.exit + by};
}

static struct fragment repeat(struct pattern *pattern, const struct atom *atom, int least, int most)
{
    struct fragment all = empty(pattern);
    int exit = split_add(pattern, PATTERN_NONE, PATTERN_NONE), last = all.exit,
        copies = most == PATTERN_NONE ? least : most;
    for (int i = 0; i < copies && !pattern->error->code; i++) {
        struct fragment copy = i == 0 ? atom->whole : copy_atom(pattern, atom);
        int before = split_add(pattern, copy.entry, i < least ? PATTERN_NONE : exit);
        lead(pattern, last, before);
        last = copy.exit;
    }
    if (most == PATTERN_NONE && !pattern->error->code) {
        struct fragment copy = least == 0 ? atom->whole : copy_atom(pattern, atom);
        int loop = split_add(pattern, copy.entry, exit);
        lead(pattern, last, loop);
        lead(pattern, copy.exit, loop);
    } else {
        lead(pattern, last, exit);
    }
    return (struct fragment){all.entry, exit};
}

static struct fragment parse_sequence(struct pattern *pattern)
{
    struct fragment all = empty(pattern);
    while (!pattern->error->code && peek(pattern) != PATTERN_NONE && peek(pattern) != '|' && peek(pattern) != ')') {
        int least, most;
        struct atom atom = {.first = pattern->node_count};
        atom.whole = parse_atom(pattern);
        atom.end = pattern->node_count;
        if (!pattern->error->code && read_quantifier(pattern, &least, &most))
            atom.whole = repeat(pattern, &atom, least, most);
        lead(pattern, all.exit, atom.whole.entry);
        all.exit = atom.whole.exit;
    }
    return all;
}

static struct fragment parse_alternatives(struct pattern *pattern)
{
    if (++pattern->depth > MAX_DEPTH)
        return fail(pattern, "groups that are nested too deep"), empty(pattern);
    struct fragment all = parse_sequence(pattern);
    while (!pattern->error->code && take(pattern, '|')) {
        struct fragment other = parse_sequence(pattern);
        int exit = split_add(pattern, PATTERN_NONE, PATTERN_NONE);
        lead(pattern, all.exit, exit);
        lead(pattern, other.exit, exit);
        all = (struct fragment){split_add(pattern, all.entry, other.entry), exit};
    }
    pattern->depth--;
    return all;
}

/* A search: anything before it and, once it is found, anything after it. Returns the first node. */
static int parse_search(struct pattern *pattern)
{
    struct set any = {0};
    set_add(pattern, &any, 0, AUTOMATON_LAST_CODE_POINT);
    struct fragment all = parse_alternatives(pattern);
    if (!pattern->error->code && pattern->at < pattern->length)
        fail(pattern, "a ')' without its group");
    struct fragment before = set_fragment(pattern, &any);
    int start = split_add(pattern, all.entry, before.entry);
    lead(pattern, before.exit, start);
    int match =
        node_add(pattern, (struct pattern_node){.type = PATTERN_MATCH, .first = PATTERN_NONE, .second = PATTERN_NONE});
    lead(pattern, all.exit, match);
    return start;
}

struct automaton *automaton_from_pattern(struct arena *arena, struct work *work, const char *text, size_t length,
                                         int upper, bulla_error *error)
{
    bulla_error own = {0};
    struct pattern pattern = {.scratch = {.limit = arena->limit}, .work = work, .text = text, .length = length,
                              .upper = upper, .error = &own};
    struct automaton *automaton = NULL;
    if (pattern_work(&pattern, 500 + 20 * (uint64_t)length)) {
        int start = parse_search(&pattern);
        automaton = own.code ? NULL : pattern_determinize(&pattern, arena, start);
    }
    arena_free(&pattern.scratch);
    if (own.code)
        bulla_fail(error, own.code, "%s", own.text);
    return own.code ? NULL : automaton;
}
