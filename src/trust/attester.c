#include "trust/attester.h"

#include <string.h>

/* What says most about the machine comes first: confidential machines before enclaves, both before a TPM, which many of
 * them have as well. */
static const struct attester *const table[] = {
    &attester_tsm,
    &attester_gramine,
    &attester_nsm,
    &attester_tpm,
    &attester_sim,
};

const struct attester *const *attesters(size_t *count)
{
    *count = sizeof table / sizeof *table;
    return table;
}

const struct attester *attester_named(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}

const struct attester *attester_find(const struct attester_options *options)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!table[i]->is_simulated && table[i]->is_there && table[i]->is_there(options))
            return table[i];
    return NULL;
}
