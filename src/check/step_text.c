/* Verdicts and arrays by name, for people. */
#include "check/step.h"

const char *step_verdict_text(int verdict)
{
    static const char *const texts[] = {"holds", "differs", "range", "fails", "unproved", "no operand", "not a step"};
    return verdict >= 0 && verdict <= STEP_NOT_A_STEP ? texts[verdict] : "unknown";
}

/* Up to the first NULL. */
static const char *const quantise[16] = {"A", "H1", "h", "m", "ss", "q", "s"}, *const row[16] = {"y"};
static const char *const names[BULLA_OPERATION_KINDS][16] = {
    [0] = {"a", "max", "least", "w", "cut1", "above1", "equal1", "below1", "sum1", "check1", "cut2", "equal2", "sum2",
           "check2", "run", "token"},
    [BULLA_LINEAR] = {"acc", "y"},
    [BULLA_NORM] = {"ss", "y"},
    [BULLA_VALUE_QUANT] = {"k_v", "v8"},
    [BULLA_ATTEND] = {"z", "kv", "vt", "Z", "K", "e", "S", "O", "Zall", "Kall", "f", "Sall", "B", "o"},
};

const char *step_array_name(int kind, uint32_t array)
{
    if (kind < 0 || kind >= BULLA_OPERATION_KINDS || array >= 16)
        return "unknown";
    int is_quantise = kind == BULLA_QUANT || kind == BULLA_NORM_QUANT || kind == BULLA_HEAD_QUANT || kind == BULLA_KEY_QUANT;
    const char *name = names[kind][0] ? names[kind][array] : is_quantise ? quantise[array] : row[array];
    return name ? name : "unknown";
}
