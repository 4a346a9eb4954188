/* Regular expressions to automata: ECMA-262's with the u flag, without what no finite automaton does or what would be
 * read differently elsewhere. Supported: literals, ., classes, \d \D \w \W \s \S, escapes of punctuation and
 * \t \n \v \f \r \0 \xHH \uHHHH, groups (plain, (?:), named), |, the quantifiers * + ? {n} {n,} {n,m} (lazy ones too),
 * ^ and $. Not: look-around, back references, \b, \B, \p, \c.
 *
 * The parser writes a nondeterministic automaton (Thompson's construction); its sets of states are then numbered. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "exec/grammar_automaton.h"
#include "model/unicode.h"

enum { MAX_NODES = 20000, MAX_DEPTH = 64, MAX_STATES = 8192, MAX_REPEAT = 1000, MAX_WORK = 1 << 26, NONE = -1 };

enum node_type { NODE_SPLIT, NODE_SET, NODE_BEGIN, NODE_END, NODE_MATCH };

struct node {
    enum node_type type;
    int first, second; /* where it leads; NONE */
    const struct text_range *ranges; /* NODE_SET, ascending */
    size_t count;
};

struct set {
    struct text_range *ranges;
    size_t count, capacity;
};

struct pattern {
    struct arena scratch;
    const char *text;
    size_t length, at;
    int upper, depth;
    struct node *nodes;
    int node_count, node_capacity;
    bulla_error *error;
};

struct fragment {
    int entry, exit; /* the exit is a split whose `first` is still NONE */
};

static struct fragment parse_alternatives(struct pattern *pattern);

static int fail(struct pattern *pattern, const char *what)
{
    return bulla_fail(pattern->error, BULLA_E_UNSUPPORTED, "%s at byte %zu of the regular expression", what,
                      pattern->at);
}

static int node_add(struct pattern *pattern, struct node node)
{
    if (pattern->node_count >= MAX_NODES) {
        bulla_fail(pattern->error, BULLA_E_LIMIT, "the regular expression is too large (more than %d states)",
                   MAX_NODES);
        return NONE;
    }
    if (pattern->node_count == pattern->node_capacity) {
        int capacity = pattern->node_capacity ? 2 * pattern->node_capacity : 64;
        struct node *nodes = arena_alloc(&pattern->scratch, (size_t)capacity, sizeof *nodes, pattern->error);
        if (!nodes)
            return NONE;
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
    return node_add(pattern, (struct node){.type = NODE_SPLIT, .first = first, .second = second});
}

static void lead(struct pattern *pattern, int node, int target)
{
    if (!pattern->error->code)
        pattern->nodes[node].first = target;
}

/* A node that leads to a new exit. */
static struct fragment single(struct pattern *pattern, struct node node)
{
    int exit = split_add(pattern, NONE, NONE);
    node.first = exit;
    node.second = NONE;
    return (struct fragment){node_add(pattern, node), exit};
}

static struct fragment empty(struct pattern *pattern)
{
    int only = split_add(pattern, NONE, NONE);
    return (struct fragment){only, only};
}

/* Sets of code points. */

static void set_add(struct pattern *pattern, struct set *set, uint32_t low, uint32_t high)
{
    if (set->count == set->capacity) {
        size_t capacity = set->capacity ? 2 * set->capacity : 8;
        struct text_range *ranges = arena_alloc(&pattern->scratch, capacity, sizeof *ranges, pattern->error);
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

static void set_normalize(struct set *set)
{
    size_t used = 0;
    if (set->count > 0)
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
    set_normalize(set);
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
    for (size_t i = 0; i < UNICODE_CLASS_STARTS; i++) {
        unsigned class = unicode_class_starts[i] & 15;
        uint32_t low = unicode_class_starts[i] >> 4;
        uint32_t high = i + 1 < UNICODE_CLASS_STARTS ? (unicode_class_starts[i + 1] >> 4) - 1 : AUTOMATON_LAST_CODE_POINT;
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

static struct fragment set_fragment(struct pattern *pattern, struct set *set)
{
    set_normalize(set);
    return single(pattern, (struct node){.type = NODE_SET, .ranges = set->ranges, .count = set->count});
}

/* Reading. */

static int peek(const struct pattern *pattern)
{
    return pattern->at < pattern->length ? (unsigned char)pattern->text[pattern->at] : NONE;
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
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
        if (c == NONE || digit < 0) {
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
    pattern->at += c != NONE;
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
        if (peek(pattern) == NONE) {
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
    struct fragment end = single(pattern, (struct node){.type = NODE_END});
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
        while (peek(pattern) != NONE && peek(pattern) != '>')
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
        pattern->at += c != NONE;
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
        return single(pattern, (struct node){.type = NODE_BEGIN});
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
        return NONE;
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

/* Whether a quantifier stands here; it is read. *most is NONE for "without end". */
static int read_quantifier(struct pattern *pattern, int *least, int *most)
{
    size_t start = pattern->at;
    *least = 0;
    *most = NONE;
    if (take(pattern, '*')) {
    } else if (take(pattern, '+')) {
        *least = 1;
    } else if (take(pattern, '?')) {
        *most = 1;
    } else if (take(pattern, '{')) {
        *least = *most = read_count(pattern);
        if (*least != NONE && take(pattern, ','))
            *most = read_count(pattern);
        if (*least == NONE || !take(pattern, '}') || (*most != NONE && *most < *least)) {
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

/* Reads the atom at `start` once more, for a further copy of it. */
static struct fragment copy_atom(struct pattern *pattern, size_t start)
{
    size_t at = pattern->at;
    pattern->at = start;
    struct fragment copy = parse_atom(pattern);
    pattern->at = at;
    return copy;
}

static struct fragment repeat(struct pattern *pattern, struct fragment atom, size_t start, int least, int most)
{
    struct fragment all = empty(pattern);
    int exit = split_add(pattern, NONE, NONE), last = all.exit, copies = most == NONE ? least : most;
    for (int i = 0; i < copies && !pattern->error->code; i++) {
        struct fragment copy = i == 0 ? atom : copy_atom(pattern, start);
        int before = split_add(pattern, copy.entry, i < least ? NONE : exit);
        lead(pattern, last, before);
        last = copy.exit;
    }
    if (most == NONE && !pattern->error->code) {
        struct fragment copy = least == 0 ? atom : copy_atom(pattern, start);
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
    while (!pattern->error->code && peek(pattern) != NONE && peek(pattern) != '|' && peek(pattern) != ')') {
        size_t start = pattern->at;
        int least, most;
        struct fragment atom = parse_atom(pattern);
        if (!pattern->error->code && read_quantifier(pattern, &least, &most))
            atom = repeat(pattern, atom, start, least, most);
        lead(pattern, all.exit, atom.entry);
        all.exit = atom.exit;
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
        int exit = split_add(pattern, NONE, NONE);
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
    int match = node_add(pattern, (struct node){.type = NODE_MATCH, .first = NONE, .second = NONE});
    lead(pattern, all.exit, match);
    return start;
}

/* To a deterministic automaton. A state is the ascending list of the nodes of types SET, END and MATCH that it is at. */
struct subsets {
    struct pattern *pattern;
    int **lists;
    int *counts;
    uint32_t *hashes;
    uint32_t count;
    int *stack, *marks; /* [node_count]; a node is visited in round marks[node] */
    int round;
    int *found; /* [node_count] */
    size_t work;
};

static int compare_ints(const void *a, const void *b)
{
    int first = *(const int *)a, second = *(const int *)b;
    return (first > second) - (first < second);
}

/* What can be reached from the found nodes without reading; those that read stay. */
static int close_over(struct subsets *subsets, int count, int at_begin, int at_end)
{
    const struct node *nodes = subsets->pattern->nodes;
    int depth = 0, kept = 0;
    subsets->round++;
    for (int i = 0; i < count; i++)
        if (subsets->marks[subsets->found[i]] != subsets->round) {
            subsets->marks[subsets->found[i]] = subsets->round;
            subsets->stack[depth++] = subsets->found[i];
        }
    while (depth > 0) {
        int at = subsets->stack[--depth];
        const struct node *node = &nodes[at];
        int passes = node->type == NODE_SPLIT || (node->type == NODE_BEGIN && at_begin) ||
                     (node->type == NODE_END && at_end);
        if (node->type == NODE_SET || node->type == NODE_MATCH || (node->type == NODE_END && !at_end))
            subsets->found[kept++] = at;
        for (int side = 0; passes && side < 2; side++) {
            int target = side == 0 ? node->first : node->second;
            if (target != NONE && subsets->marks[target] != subsets->round) {
                subsets->marks[target] = subsets->round;
                subsets->stack[depth++] = target;
            }
        }
    }
    qsort(subsets->found, (size_t)kept, sizeof *subsets->found, compare_ints);
    subsets->work += (size_t)kept + 1;
    return kept;
}

static uint32_t subset_add(struct subsets *subsets, int count)
{
    struct pattern *pattern = subsets->pattern;
    uint32_t hash = 2166136261u;
    for (int i = 0; i < count; i++)
        hash = (hash ^ (uint32_t)subsets->found[i]) * 16777619u;
    for (uint32_t i = 0; i < subsets->count; i++)
        if (subsets->hashes[i] == hash && subsets->counts[i] == count &&
            (count == 0 || memcmp(subsets->lists[i], subsets->found, (size_t)count * sizeof(int)) == 0))
            return i;
    subsets->work += subsets->count / 16;
    if (subsets->count == MAX_STATES || subsets->work > MAX_WORK) {
        bulla_fail(pattern->error, BULLA_E_LIMIT, "the regular expression needs an automaton of more than %d states",
                   MAX_STATES);
        return AUTOMATON_DEAD;
    }
    int *list = arena_alloc(&pattern->scratch, (size_t)count + 1, sizeof *list, pattern->error);
    if (!list)
        return AUTOMATON_DEAD;
    memcpy(list, subsets->found, (size_t)count * sizeof *list);
    subsets->lists[subsets->count] = list;
    subsets->counts[subsets->count] = count;
    subsets->hashes[subsets->count] = hash;
    return subsets->count++;
}

static int set_holds(const struct node *node, uint32_t code_point)
{
    size_t low = 0, high = node->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (node->ranges[middle].high < code_point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < node->count && node->ranges[low].low <= code_point;
}

static uint32_t subset_step(struct subsets *subsets, uint32_t state, uint32_t code_point)
{
    const struct node *nodes = subsets->pattern->nodes;
    int count = 0;
    for (int i = 0; i < subsets->counts[state]; i++) {
        const struct node *node = &nodes[subsets->lists[state][i]];
        if (node->type == NODE_MATCH) { /* found already: whatever follows */
            subsets->found[0] = subsets->lists[state][i];
            return subset_add(subsets, 1);
        }
        if (node->type == NODE_SET && set_holds(node, code_point))
            subsets->found[count++] = node->first;
    }
    subsets->work += (size_t)subsets->counts[state];
    return subset_add(subsets, close_over(subsets, count, 0, 0));
}

/* The end of the text may satisfy a $; in the first state the text is empty and ^ holds as well. */
static int subset_accepts(struct subsets *subsets, uint32_t state, int at_begin)
{
    int count = subsets->counts[state];
    memcpy(subsets->found, subsets->lists[state], (size_t)count * sizeof(int));
    count = close_over(subsets, count, at_begin, 1);
    for (int i = 0; i < count; i++)
        if (subsets->pattern->nodes[subsets->found[i]].type == NODE_MATCH)
            return 1;
    return 0;
}

/* First code points of the intervals that no set divides, ascending. */
static uint32_t *find_boundaries(struct pattern *pattern, size_t *count)
{
    struct set cuts = {0};
    set_add(pattern, &cuts, 0, 0);
    for (int i = 0; i < pattern->node_count; i++)
        for (size_t j = 0; j < pattern->nodes[i].count; j++) {
            const struct text_range *range = &pattern->nodes[i].ranges[j];
            set_add(pattern, &cuts, range->low, range->low);
            if (range->high < AUTOMATON_LAST_CODE_POINT)
                set_add(pattern, &cuts, range->high + 1, range->high + 1);
            if (cuts.count > 1 << 20) {
                bulla_fail(pattern->error, BULLA_E_LIMIT, "the regular expression has too many characters");
                return NULL;
            }
        }
    if (pattern->error->code)
        return NULL;
    qsort(cuts.ranges, cuts.count, sizeof *cuts.ranges, compare_ranges);
    uint32_t *boundaries = arena_alloc(&pattern->scratch, cuts.count, sizeof *boundaries, pattern->error);
    size_t used = 0;
    for (size_t i = 0; boundaries && i < cuts.count; i++)
        if (used == 0 || boundaries[used - 1] != cuts.ranges[i].low)
            boundaries[used++] = cuts.ranges[i].low;
    *count = used;
    return boundaries;
}

static struct automaton *write_automaton(struct subsets *subsets, struct arena *arena, const uint32_t *boundaries,
                                         size_t boundary_count, uint32_t **next)
{
    bulla_error *error = subsets->pattern->error;
    struct automaton *automaton =
        automaton_new(arena, subsets->count, boundaries, (uint32_t)boundary_count, error);
    if (!automaton)
        return NULL;
    for (uint32_t state = 0; state < subsets->count; state++) {
        automaton->accepts[state] = (uint8_t)subset_accepts(subsets, state, state == 0);
        for (size_t i = 0; i < boundary_count; i++)
            automaton->next[(size_t)state * automaton->classes + automaton_class_of(automaton, boundaries[i])] =
                next[state][i];
    }
    /* automaton_new may have cut an interval at the surrogates. */
    uint32_t after = automaton_class_of(automaton, 0xE000);
    size_t holder = 0;
    while (holder + 1 < boundary_count && boundaries[holder + 1] <= 0xE000)
        holder++;
    for (uint32_t state = 0; state < subsets->count; state++)
        automaton->next[(size_t)state * automaton->classes + after] = next[state][holder];
    return automaton_finish(arena, automaton, error) ? NULL : automaton;
}

static struct automaton *determinize(struct pattern *pattern, struct arena *arena, int start)
{
    bulla_error *error = pattern->error;
    size_t nodes = (size_t)pattern->node_count + 1, boundary_count = 0;
    uint32_t *boundaries = find_boundaries(pattern, &boundary_count);
    struct subsets subsets = {.pattern = pattern};
    struct arena *scratch = &pattern->scratch;
    subsets.lists = arena_alloc(scratch, MAX_STATES, sizeof *subsets.lists, error);
    subsets.counts = arena_alloc(scratch, MAX_STATES, sizeof *subsets.counts, error);
    subsets.hashes = arena_alloc(scratch, MAX_STATES, sizeof *subsets.hashes, error);
    subsets.stack = arena_alloc(scratch, nodes, sizeof *subsets.stack, error);
    subsets.marks = arena_alloc(scratch, nodes, sizeof *subsets.marks, error);
    subsets.found = arena_alloc(scratch, nodes, sizeof *subsets.found, error);
    uint32_t **next = arena_alloc(scratch, MAX_STATES, sizeof *next, error);
    if (error->code)
        return NULL;
    /* State 0 is the start and nothing else, because it alone sees ^ hold at the text's end. */
    subsets.found[0] = start;
    if (subset_add(&subsets, close_over(&subsets, 1, 1, 0)) == AUTOMATON_DEAD)
        return NULL;
    subsets.hashes[0]++;
    for (uint32_t state = 0; state < subsets.count; state++) {
        next[state] = arena_alloc(scratch, boundary_count, sizeof **next, error);
        for (size_t i = 0; !error->code && i < boundary_count; i++)
            next[state][i] = subset_step(&subsets, state, boundaries[i]);
        if (error->code)
            return NULL;
    }
    return write_automaton(&subsets, arena, boundaries, boundary_count, next);
}

struct automaton *automaton_from_pattern(struct arena *arena, const char *text, size_t length, int upper,
                                         bulla_error *error)
{
    bulla_error own = {0};
    struct pattern pattern = {.scratch = {.limit = arena->limit}, .text = text, .length = length, .upper = upper,
                              .error = &own};
    int start = parse_search(&pattern);
    struct automaton *automaton = own.code ? NULL : determinize(&pattern, arena, start);
    arena_free(&pattern.scratch);
    if (own.code)
        bulla_fail(error, own.code, "%s", own.text);
    return own.code ? NULL : automaton;
}
