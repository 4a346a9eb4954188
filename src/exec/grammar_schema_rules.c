/* Rules of expressions: made when they are first asked for, written later, so that they may refer to themselves. */
#include "exec/grammar_compile.h"

uint32_t rule_of(struct compiler *compiler, uint32_t expression, int tracked)
{
    if (compiler->error->code)
        return 0;
    compiler_work(compiler, 20);
    struct expression *of = &compiler->expressions.items[expression];
    if (of->rule[tracked] == GRAMMAR_ENDLESS) {
        of->rule[tracked] = grammar_add_rule(
            compiler, (struct rule){.kind = RULE_VALUE, .depth = GRAMMAR_NO_DEPTH, .tracked = (uint8_t)tracked});
        LIST_ADD(compiler, compiler->pending, 2 * expression + (uint32_t)tracked);
    }
    return of->rule[tracked];
}

static void write_rule(struct compiler *compiler, uint32_t expression, int tracked)
{
    const struct cells *cells = expression_cells(compiler, expression);
    struct alternative *alternatives =
        grammar_alloc(compiler, cells->count, sizeof *alternatives);
    for (size_t i = 0; alternatives && i < cells->count && !compiler->error->code; i++)
        cell_lower(compiler, cells->items[i], tracked, &alternatives[i]);
    if (compiler->error->code)
        return;
    struct rule *rule = &compiler->grammar->rules[compiler->expressions.items[expression].rule[tracked]];
    rule->alternatives = alternatives;
    rule->count = (uint32_t)cells->count;
}

int rules_write(struct compiler *compiler)
{
    while (compiler->pending_done < compiler->pending.count && !compiler->error->code) {
        uint32_t next = compiler->pending.items[compiler->pending_done++];
        write_rule(compiler, next / 2, next & 1);
    }
    return compiler->error->code;
}
