#include "cli/verb.h"

int verb_parse(const struct verb *verb, int argc, char **argv, void *values, int *others, bulla_error *error)
{
    int code = options_parse(verb->options, verb->option_count, argc, argv, values, others, error);
    if (code != BULLA_OK)
        return code;
    if (*others < verb->minimum_arguments)
        return bulla_fail(error, BULLA_E_USAGE, "too few arguments: needs %s", verb->arguments);
    if (*others > verb->maximum_arguments)
        return bulla_fail(error, BULLA_E_USAGE, "one argument too many: \"%s\" (a text with spaces needs quotes)",
                          argv[verb->maximum_arguments]);
    return BULLA_OK;
}
