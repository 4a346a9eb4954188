/* Statements, macros and loops. */
#include <string.h>

#include "model/chat_template_internal.h"

static enum flow flow_of(int done)
{
    return done ? FLOW_NORMAL : FLOW_FAILED;
}

/* ---- Assignment ---- */

static int assign_attribute(struct render *render, const struct node *target, struct value value)
{
    const struct node name = {.type = NODE_NAME, .line = target->line, .name = target->name};
    struct value object;
    if (!evaluate(render, &name, &object))
        return 0;
    if (object.type != VALUE_NAMESPACE)
        return template_fail(render, BULLA_E_INPUT, "cannot assign attribute on non-namespace object");
    return dict_set(render, object.dict, target->value, value);
}

static int assign(struct render *render, const struct node *target, struct value value)
{
    struct list items;
    switch (target->type) {
    case NODE_NAME:
        return scope_set(render, render->scope, target->name, value);
    case NODE_NAMESPACE_ATTRIBUTE:
        return assign_attribute(render, target, value);
    default:
        break;
    }
    if (!value_iterate(render, value, &items))
        return 0;
    if (items.count != target->children.count)
        return template_fail(render, BULLA_E_INPUT, "%zu values cannot be unpacked into %zu names", items.count,
                             target->children.count);
    for (size_t i = 0; i < items.count; i++)
        if (!assign(render, target->children.nodes[i], items.items[i]))
            return 0;
    return 1;
}

/* ---- Macros ---- */

/* A macro keeps the scopes around it: loops must not use theirs again. */
static int make_macro(struct render *render, const struct node *node, struct value *result)
{
    struct macro *macro = arena_alloc(render->arena, 1, sizeof *macro, render->error);
    if (!macro)
        return 0;
    *macro = (struct macro){node, render->scope};
    for (struct scope *scope = render->scope; scope && !scope->is_kept; scope = scope->parent)
        scope->is_kept = 1;
    *result = (struct value){.type = VALUE_MACRO, .macro = macro};
    return 1;
}

/* Takes the keyword `name` out of the arguments; VALUE_MISSING when it is not there. */
static struct value take_keyword(struct arguments *arguments, const struct text *name)
{
    for (size_t i = 0; i < arguments->keyword_count; i++)
        if (arguments->keywords[i]->length == name->length &&
            memcmp(arguments->keywords[i]->bytes, name->bytes, name->length) == 0) {
            struct value value = arguments->keyword_values[i];
            arguments->keyword_count--;
            for (size_t j = i; j < arguments->keyword_count; j++) {
                arguments->keywords[j] = arguments->keywords[j + 1];
                arguments->keyword_values[j] = arguments->keyword_values[j + 1];
            }
            return value;
        }
    return (struct value){0};
}

static int fail_macro(struct render *render, const struct node *node, const char *what, const struct text *name)
{
    const struct text *macro = node->type == NODE_MACRO ? render->chat_template->name_texts[node->name] : NULL;
    size_t length = name->length < 100 ? name->length : 100;
    return template_fail(render, BULLA_E_INPUT, "macro '%.*s' %s '%.*s'",
                         macro ? (int)(macro->length < 100 ? macro->length : 100) : 6, macro ? macro->bytes : "caller",
                         what, (int)length, name->bytes);
}

static int bind_extra_arguments(struct render *render, const struct node *node, struct arguments *arguments)
{
    const struct text *const *names = render->chat_template->name_texts;
    struct value value = {0};
    size_t taken = arguments->count < node->parameter_count ? arguments->count : node->parameter_count;
    if (node->uses_caller) {
        value = take_keyword(arguments, names[NAME_CALLER]);
        if (value.type == VALUE_MISSING && !value_undefined_reason(render, "No caller defined", &value))
            return 0;
        if (!scope_set(render, render->scope, NAME_CALLER, value))
            return 0;
    }
    if (node->uses_kwargs) {
        struct arguments keywords = *arguments;
        keywords.count = 0;
        if (!dict_builtin(render, value, &keywords, NULL, &value) ||
            !scope_set(render, render->scope, NAME_KWARGS, value))
            return 0;
    } else if (arguments->keyword_count > 0) {
        return fail_macro(render, node, "takes no keyword argument", arguments->keywords[0]);
    }
    if (!node->uses_varargs)
        return arguments->count <= node->parameter_count ||
               fail_macro(render, node, "takes fewer arguments than given; its parameters end before",
                          names[NAME_VARARGS]);
    struct list *rest;
    if (!list_new(render, arguments->count - taken, &rest))
        return 0;
    for (size_t i = taken; i < arguments->count; i++)
        rest->items[rest->count++] = arguments->values[i];
    return scope_set(render, render->scope, NAME_VARARGS, (struct value){.type = VALUE_TUPLE, .list = rest});
}

/* Parameters in order; a default sees those before it. */
static int bind_parameters(struct render *render, const struct node *node, struct arguments *arguments)
{
    size_t count = node->parameter_count, first_default = count - node->children.count;
    struct value *values = arena_alloc(render->arena, count, sizeof *values, render->error);
    if (!values)
        return 0;
    for (size_t i = 0; i < count; i++)
        values[i] = i < arguments->count
                        ? arguments->values[i]
                        : take_keyword(arguments, render->chat_template->name_texts[node->parameters[i]]);
    if (!bind_extra_arguments(render, node, arguments))
        return 0;
    for (size_t i = 0; i < count; i++) {
        if (values[i].type == VALUE_MISSING && i >= first_default &&
            !evaluate(render, node->children.nodes[i - first_default], &values[i]))
            return 0;
        if (values[i].type == VALUE_MISSING)
            values[i] = value_undefined(UNDEFINED_NAME, render->chat_template->name_texts[node->parameters[i]]);
        if (!scope_set(render, render->scope, node->parameters[i], values[i]))
            return 0;
    }
    return 1;
}

int macro_call(struct render *render, const struct macro *macro, const struct arguments *arguments,
               struct value *result)
{
    struct scope *caller_scope = render->scope;
    struct arguments own = *arguments;
    uint32_t line = render->line;
    if (!template_enter(render) || !scope_push(render, macro->scope) || !bind_parameters(render, macro->node, &own) ||
        !execute_captured(render, &macro->node->body, result))
        return 0;
    render->scope = caller_scope;
    render->line = line;
    render->depth--;
    return 1;
}

/* ---- Blocks ---- */

int execute_captured(struct render *render, const struct node_list *body, struct value *result)
{
    size_t start = render->out.length;
    enum flow flow = execute_body(render, body);
    if (flow == FLOW_FAILED)
        return 0;
    const char *bytes = render->out.data ? (const char *)render->out.data + start : "";
    if (!value_text_copy(render, bytes, render->out.length - start, result))
        return 0;
    buffer_cut(&render->out, start);
    return 1;
}

/* A body in a scope of its own. */
static enum flow execute_scoped(struct render *render, const struct node_list *body)
{
    struct scope *outer = render->scope;
    if (!scope_push(render, outer))
        return FLOW_FAILED;
    enum flow flow = execute_body(render, body);
    render->scope = outer;
    return flow;
}

static int capture_scoped(struct render *render, const struct node *node, struct value *result)
{
    struct scope *outer = render->scope;
    struct value text;
    if (!scope_push(render, outer) || !execute_captured(render, &node->body, &text))
        return 0;
    /* The filters' arguments are evaluated in the block's scope, as jinja2 does. */
    if (!evaluate_filters(render, node->b, text, result))
        return 0;
    render->scope = outer;
    return 1;
}

static int execute_set_block(struct render *render, const struct node *node)
{
    struct value value;
    return capture_scoped(render, node, &value) && assign(render, node->a, value);
}

/* jinja2 writes the result of a block as it is, and only strings can be written. */
static int print_block(struct render *render, struct value value)
{
    if (value.type != VALUE_TEXT)
        return template_fail(render, BULLA_E_INPUT, "a block's result must be a string, not '%s'",
                             value_type_name(value));
    return value_print(render, &render->out, value);
}

static int execute_filter_block(struct render *render, const struct node *node)
{
    struct value value;
    return capture_scoped(render, node, &value) && print_block(render, value);
}

static int execute_call_block(struct render *render, const struct node *node)
{
    struct value callee, caller, result;
    struct arguments arguments;
    const struct node *call = node->a;
    if (!evaluate(render, call->a, &callee) || !evaluate_arguments(render, call->call, &arguments) ||
        !make_macro(render, node, &caller))
        return 0;
    for (size_t i = 0; i < arguments.keyword_count; i++)
        if (text_equals(arguments.keywords[i], "caller"))
            return template_fail(render, BULLA_E_INPUT, "got multiple values for keyword argument 'caller'");
    arguments.keywords[arguments.keyword_count] = render->chat_template->name_texts[NAME_CALLER];
    arguments.keyword_values[arguments.keyword_count++] = caller;
    return value_call(render, callee, &arguments, &result) && print_block(render, result);
}

static enum flow execute_with(struct render *render, const struct node *node)
{
    struct scope *outer = render->scope;
    if (!scope_push(render, outer))
        return FLOW_FAILED;
    struct scope *inner = render->scope;
    for (size_t i = 0; i + 1 < node->children.count; i += 2) {
        struct value value;
        render->scope = outer; /* values do not see the names before them */
        if (!evaluate(render, node->children.nodes[i + 1], &value))
            return FLOW_FAILED;
        render->scope = inner;
        if (!assign(render, node->children.nodes[i], value))
            return FLOW_FAILED;
    }
    enum flow flow = execute_body(render, &node->body);
    render->scope = outer;
    return flow;
}

static enum flow execute_if(struct render *render, const struct node *node)
{
    struct value condition;
    if (!evaluate(render, node->a, &condition))
        return FLOW_FAILED;
    return execute_body(render, value_truth(condition) ? &node->body : &node->otherwise);
}

/* ---- Loops ---- */

/* A fresh scope for an iteration: the last one again where nothing kept it. */
static int next_scope(struct render *render, struct scope *outer, struct scope **inner)
{
    if (*inner && !(*inner)->is_kept) {
        (*inner)->count = 0;
        render->scope = *inner;
        return 1;
    }
    if (!scope_push(render, outer))
        return 0;
    *inner = render->scope;
    return 1;
}

/* The condition is evaluated when an item is asked for, not before: it may
 * depend on what the loop's body did. */
int loop_pull(struct render *render, struct loop *loop, size_t count)
{
    struct scope *before = render->scope, *inner = NULL;
    while (loop->items.count < count && loop->position < loop->source.count) {
        struct value item = loop->source.items[loop->position++], condition;
        if (!next_scope(render, loop->scope, &inner) || !assign(render, loop->node->a, item) ||
            !evaluate(render, loop->node->c, &condition))
            return 0;
        if (value_truth(condition) && !list_append(render, &loop->items, item))
            return 0;
    }
    render->scope = before;
    return 1;
}

static struct loop *start_loop(struct render *render, const struct node *node)
{
    struct value iterable;
    struct loop *loop = arena_alloc(render->arena, 1, sizeof *loop, render->error);
    if (!loop || !evaluate(render, node->b, &iterable) || !value_iterate(render, iterable, &loop->source))
        return NULL;
    loop->node = node;
    loop->scope = render->scope;
    if (!node->c) {
        loop->items = loop->source;
        loop->position = loop->source.count;
    }
    return loop;
}

static enum flow execute_for(struct render *render, const struct node *node)
{
    struct scope *outer = render->scope, *inner = NULL;
    struct loop *loop = start_loop(render, node);
    if (!loop)
        return FLOW_FAILED;
    enum flow flow = FLOW_NORMAL;
    int completed = 0; /* as jinja2 has it, an iteration that ends in break or continue does not count for "else" */
    for (; flow != FLOW_BREAK; loop->index++) {
        if (!loop_pull(render, loop, loop->index + 1))
            return FLOW_FAILED;
        if (loop->index >= loop->items.count)
            break;
        if (!next_scope(render, outer, &inner) ||
            !scope_set(render, inner, NAME_LOOP, (struct value){.type = VALUE_LOOP, .loop = loop}) ||
            !assign(render, node->a, loop->items.items[loop->index]))
            return FLOW_FAILED;
        flow = execute_body(render, &node->body);
        if (flow == FLOW_FAILED)
            return FLOW_FAILED;
        completed |= flow == FLOW_NORMAL;
    }
    render->scope = outer;
    return completed ? FLOW_NORMAL : execute_scoped(render, &node->otherwise);
}

/* ---- Dispatch ---- */

static int execute_set(struct render *render, const struct node *node)
{
    struct value value;
    return evaluate(render, node->b, &value) && assign(render, node->a, value);
}

static int execute_macro(struct render *render, const struct node *node)
{
    struct value macro;
    return make_macro(render, node, &macro) && scope_set(render, render->scope, node->name, macro);
}

static int execute_output(struct render *render, const struct node *node)
{
    struct value value;
    return evaluate(render, node->a, &value) && value_print(render, &render->out, value);
}

static enum flow execute_node(struct render *render, const struct node *node)
{
    switch (node->type) {
    case NODE_DATA:
        buffer_append(&render->out, node->value.text->bytes, node->value.text->length);
        return FLOW_NORMAL;
    case NODE_OUTPUT:
        return flow_of(execute_output(render, node));
    case NODE_IF:
        return execute_if(render, node);
    case NODE_FOR:
        return execute_for(render, node);
    case NODE_SET:
        return flow_of(execute_set(render, node));
    case NODE_SET_BLOCK:
        return flow_of(execute_set_block(render, node));
    case NODE_MACRO:
        return flow_of(execute_macro(render, node));
    case NODE_CALL_BLOCK:
        return node->a ? flow_of(execute_call_block(render, node)) : execute_scoped(render, &node->body);
    case NODE_FILTER_BLOCK:
        return flow_of(execute_filter_block(render, node));
    case NODE_WITH:
        return execute_with(render, node);
    case NODE_BREAK:
        return FLOW_BREAK;
    case NODE_CONTINUE:
        return FLOW_CONTINUE;
    default:
        return flow_of(template_fail(render, BULLA_E_INTERNAL, "node %d is no statement", (int)node->type));
    }
}

enum flow execute_body(struct render *render, const struct node_list *body)
{
    if (!template_enter(render))
        return FLOW_FAILED;
    for (size_t i = 0; i < body->count; i++) {
        render->line = body->nodes[i]->line;
        if (!template_spend(render, 1))
            return FLOW_FAILED;
        enum flow flow = execute_node(render, body->nodes[i]);
        if (render->out.error.code != BULLA_OK) {
            bulla_fail(render->error, render->out.error.code, "%s", render->out.error.text);
            return FLOW_FAILED;
        }
        if (render->out.length > TEMPLATE_MAX_OUTPUT) {
            template_fail(render, BULLA_E_LIMIT, "the text grows beyond %d bytes", TEMPLATE_MAX_OUTPUT);
            return FLOW_FAILED;
        }
        if (flow != FLOW_NORMAL) {
            render->depth--;
            return flow;
        }
    }
    render->depth--;
    return FLOW_NORMAL;
}
