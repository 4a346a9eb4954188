/* Tests: what may follow "is". */
#include <string.h>

#include "model/chat_template_internal.h"

#define TEST(name)                                                                                                \
    static int name(struct render *render, struct value self, const struct arguments *arguments,                 \
                    const struct value *slots, struct value *result)

/* A test that only looks at the value. */
#define QUESTION(name, answer)                         \
    TEST(name)                                         \
    {                                                  \
        (void)render;                                  \
        (void)arguments;                               \
        (void)slots;                                   \
        *result = value_bool(answer);                  \
        return 1;                                      \
    }

static int is_sequence(struct value value)
{
    return value.type == VALUE_TEXT || value.type == VALUE_LIST || value.type == VALUE_TUPLE ||
           value.type == VALUE_RANGE || value.type == VALUE_DICT || value.type == VALUE_UNDEFINED;
}

static int is_callable(struct value value)
{
    return value.type == VALUE_MACRO || value.type == VALUE_METHOD || value.type == VALUE_FUNCTION ||
           value.type == VALUE_LOOP || value.type == VALUE_UNDEFINED ||
           (value.type == VALUE_JOINER && !value.joiner->is_cycler);
}

QUESTION(is_defined, self.type != VALUE_UNDEFINED)
QUESTION(is_undefined, self.type == VALUE_UNDEFINED)
QUESTION(is_none, self.type == VALUE_NONE)
QUESTION(is_boolean, self.type == VALUE_BOOL)
QUESTION(is_false, self.type == VALUE_BOOL && !self.integer)
QUESTION(is_true, self.type == VALUE_BOOL && self.integer)
QUESTION(is_integer, self.type == VALUE_INTEGER || self.type == VALUE_BIG)
QUESTION(is_float, self.type == VALUE_FLOAT)
QUESTION(is_number, value_is_number(self) || self.type == VALUE_BIG)
QUESTION(is_string, self.type == VALUE_TEXT)
QUESTION(is_mapping, self.type == VALUE_DICT)
QUESTION(is_iterable, value_is_iterable(self))
QUESTION(is_sequence_test, is_sequence(self))
QUESTION(is_callable_test, is_callable(self))
QUESTION(is_escaped, self.type == VALUE_TEXT && self.detail)

/* Texts and numbers that are equal and of one type count as the same object. */
static int is_same(struct value left, struct value right)
{
    if (left.type != right.type)
        return 0;
    switch (left.type) {
    case VALUE_NONE:
        return 1;
    case VALUE_TEXT:
        return left.detail == right.detail && left.text->length == right.text->length &&
               memcmp(left.text->bytes, right.text->bytes, left.text->length) == 0;
    default:
        return left.integer == right.integer; /* or the same pointer */
    }
}

QUESTION(is_sameas, is_same(self, slots[0]))

static int remainder_is(struct render *render, struct value self, struct value divisor, int64_t wanted,
                        struct value *result)
{
    struct value rest;
    int equal;
    if (!operator_apply(render, OPERATOR_MODULO, self, divisor, &rest) ||
        !value_equal(render, rest, value_integer(wanted), &equal))
        return 0;
    *result = value_bool(equal);
    return 1;
}

TEST(is_odd)
{
    (void)arguments;
    (void)slots;
    return remainder_is(render, self, value_integer(2), 1, result);
}

TEST(is_even)
{
    (void)arguments;
    (void)slots;
    return remainder_is(render, self, value_integer(2), 0, result);
}

TEST(is_divisibleby)
{
    (void)arguments;
    return remainder_is(render, self, slots[0], 0, result);
}

static int case_test(struct render *render, struct value self, const char *method, struct value *result)
{
    struct arguments none = {0};
    return value_to_text(render, self, &self) &&
           builtin_invoke(render, builtin_find(text_methods, method, strlen(method)), self, &none, result);
}

TEST(is_lower)
{
    (void)arguments;
    (void)slots;
    return case_test(render, self, "islower", result);
}

TEST(is_upper)
{
    (void)arguments;
    (void)slots;
    return case_test(render, self, "isupper", result);
}

static int compare(struct render *render, enum operator_type operator, struct value left, struct value right,
                   struct value *result)
{
    int truth;
    if (!operator_compare(render, operator, left, right, &truth))
        return 0;
    *result = value_bool(truth);
    return 1;
}

#define COMPARISON(name, operator)                                     \
    TEST(name)                                                         \
    {                                                                  \
        (void)arguments;                                               \
        return compare(render, operator, self, slots[0], result);      \
    }

COMPARISON(is_equal, OPERATOR_EQUAL)
COMPARISON(is_unequal, OPERATOR_UNEQUAL)
COMPARISON(is_less, OPERATOR_LESS)
COMPARISON(is_less_equal, OPERATOR_LESS_EQUAL)
COMPARISON(is_greater, OPERATOR_GREATER)
COMPARISON(is_greater_equal, OPERATOR_GREATER_EQUAL)
COMPARISON(is_in, OPERATOR_IN)

TEST(is_filter)
{
    (void)render;
    (void)arguments;
    (void)slots;
    *result = value_bool(self.type == VALUE_TEXT && filter_find(self.text) != NULL);
    return 1;
}

TEST(is_test)
{
    (void)render;
    (void)arguments;
    (void)slots;
    *result = value_bool(self.type == VALUE_TEXT && test_find(self.text) != NULL);
    return 1;
}

const struct builtin test_table[] = {
    {"defined", is_defined, 0, 0, {NULL}},
    {"undefined", is_undefined, 0, 0, {NULL}},
    {"none", is_none, 0, 0, {NULL}},
    {"boolean", is_boolean, 0, 0, {NULL}},
    {"false", is_false, 0, 0, {NULL}},
    {"true", is_true, 0, 0, {NULL}},
    {"integer", is_integer, 0, 0, {NULL}},
    {"float", is_float, 0, 0, {NULL}},
    {"number", is_number, 0, 0, {NULL}},
    {"string", is_string, 0, 0, {NULL}},
    {"mapping", is_mapping, 0, 0, {NULL}},
    {"iterable", is_iterable, 0, 0, {NULL}},
    {"sequence", is_sequence_test, 0, 0, {NULL}},
    {"callable", is_callable_test, 0, 0, {NULL}},
    {"escaped", is_escaped, 0, 0, {NULL}},
    {"sameas", is_sameas, 1, 0, {"other"}},
    {"odd", is_odd, 0, 0, {NULL}},
    {"even", is_even, 0, 0, {NULL}},
    {"divisibleby", is_divisibleby, 1, 0, {"num"}},
    {"lower", is_lower, 0, 0, {NULL}},
    {"upper", is_upper, 0, 0, {NULL}},
    {"eq", is_equal, 1, 0, {"other"}},
    {"equalto", is_equal, 1, 0, {"other"}},
    {"==", is_equal, 1, 0, {"other"}},
    {"ne", is_unequal, 1, 0, {"other"}},
    {"!=", is_unequal, 1, 0, {"other"}},
    {"lt", is_less, 1, 0, {"other"}},
    {"lessthan", is_less, 1, 0, {"other"}},
    {"<", is_less, 1, 0, {"other"}},
    {"le", is_less_equal, 1, 0, {"other"}},
    {"<=", is_less_equal, 1, 0, {"other"}},
    {"gt", is_greater, 1, 0, {"other"}},
    {"greaterthan", is_greater, 1, 0, {"other"}},
    {">", is_greater, 1, 0, {"other"}},
    {"ge", is_greater_equal, 1, 0, {"other"}},
    {">=", is_greater_equal, 1, 0, {"other"}},
    {"in", is_in, 1, 0, {"seq"}},
    {"filter", is_filter, 0, 0, {NULL}},
    {"test", is_test, 0, 0, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};

const struct builtin *test_find(const struct text *name)
{
    return builtin_find(test_table, name->bytes, name->length);
}
