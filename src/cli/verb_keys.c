/* `bulla keys`: API keys of a server. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "cli/verb.h"
#include "ops/keys.h"

struct keys_choice {
    const char *store, *tenant;
    int is_admin;
    uint64_t priority, most_tokens;
};

static const struct option_spec options[] = {
    {"store", 0, OPTION_TEXT, offsetof(struct keys_choice, store), "FILE",
     "where the keys are: JSON lines, or an SQLite database where its name ends in .db, .sqlite or .sqlite3", 0, 0},
    {"tenant", 0, OPTION_TEXT, offsetof(struct keys_choice, tenant), "NAME",
     "add: whose key it is; tenants take turns and share no prefix cache; default: none", 0, 0},
    {"admin", 0, OPTION_FLAG, offsetof(struct keys_choice, is_admin), NULL,
     "add: the key may load and unload models too", 0, 0},
    {"priority", 0, OPTION_INTEGER, offsetof(struct keys_choice, priority), "N",
     "add: largest priority that its requests may ask for; default 0", 0, KEY_MOST_PRIORITY},
    {"most-tokens", 0, OPTION_INTEGER, offsetof(struct keys_choice, most_tokens), "N",
     "add: most tokens of one answer; default 0: no limit", 0, UINT32_MAX},
};

static int add_key(const struct keys_choice *chosen, bulla_error *error)
{
    struct key_entry entry = {.is_admin = chosen->is_admin,
                              .priority = (int)chosen->priority,
                              .most_tokens = chosen->most_tokens};
    char text[KEY_TEXT];
    const char *tenant = chosen->tenant ? chosen->tenant : "";
    if (strlen(tenant) >= sizeof entry.tenant)
        return bulla_fail(error, BULLA_E_USAGE, "--tenant is longer than %d characters", KEY_TENANT - 1);
    memcpy(entry.tenant, tenant, strlen(tenant) + 1);
    int code = key_store_add(chosen->store, &entry, text, error);
    if (code != BULLA_OK)
        return code;
    printf("%s\n", text);
    fflush(stdout);
    memory_wipe(text, sizeof text);
    fprintf(stderr, "key %s, shown this once: only its hash is stored\n", entry.id);
    return BULLA_OK;
}

static void print_key(const struct key_entry *entry)
{
    char created[32] = "?", limit[32] = "no limit";
    struct tm parts;
    time_t seconds = (time_t)entry->created;
    if (gmtime_r(&seconds, &parts))
        strftime(created, sizeof created, "%Y-%m-%d", &parts);
    if (entry->most_tokens > 0)
        snprintf(limit, sizeof limit, "%" PRIu64, entry->most_tokens);
    printf("%-23s  %-5s  %-8s  %-16s  %8d  %11s  %s\n", entry->id, entry->is_admin ? "admin" : "use",
           entry->is_disabled ? "disabled" : "active", entry->tenant[0] ? entry->tenant : "-", entry->priority, limit,
           created);
}

static int list_keys(const struct keys_choice *chosen, bulla_error *error)
{
    struct key_set *set;
    int code = key_store_read(chosen->store, &set, error);
    if (code != BULLA_OK)
        return code;
    printf("%-23s  %-5s  %-8s  %-16s  %8s  %11s  %s\n", "id", "scope", "state", "tenant", "priority", "most tokens",
           "created");
    for (size_t i = 0; i < key_set_count(set); i++)
        print_key(key_set_at(set, i));
    key_set_free(set);
    return BULLA_OK;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct keys_choice chosen = {0};
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    int disables = strcmp(argv[0], "disable") == 0;
    if (others != (disables ? 2 : 1))
        return bulla_fail(error, BULLA_E_USAGE, disables ? "which key? `bulla keys disable ID`" : "one argument too many");
    if (!chosen.store)
        return bulla_fail(error, BULLA_E_USAGE, "where are the keys? --store FILE says it");
    if (strcmp(argv[0], "add") == 0)
        return add_key(&chosen, error);
    if (chosen.tenant || chosen.is_admin || chosen.priority || chosen.most_tokens)
        return bulla_fail(error, BULLA_E_USAGE, "--tenant, --admin, --priority and --most-tokens are for `bulla keys add`");
    if (strcmp(argv[0], "list") == 0)
        return list_keys(&chosen, error);
    if (disables)
        return key_store_disable(chosen.store, argv[1], error);
    return bulla_fail(error, BULLA_E_USAGE, "\"%s\" is neither add, list nor disable", argv[0]);
}

const struct verb verb_keys = {
    .name = "keys",
    .summary = "make, list and disable the API keys of a server",
    .arguments = "add|list|disable [ID] --store FILE",
    .details = "`add` prints a new key, once: the store has its hash only. A server that runs notices in a second or\n"
               "two what changed. docs/serving.md says more.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 2,
    .run = run,
};
