/* Chains of certificates: every rule of path validation that a vendor's chain relies on, one by one. */
#include "test.h"

#include "authority.h"
#include "trust/certificates.h"
#include "trust_roots.h"

enum { START_2026 = 1767225600, DAY = 86400 };
static const int64_t asked_at = START_2026;

/* root, upper, lower, leaf; a case changes one thing of it. */
enum { ROOT, UPPER, LOWER, LEAF, CHAIN };

struct hierarchy {
    struct authority_certificate wanted[CHAIN];
    int signed_by[CHAIN], named_as[CHAIN]; /* whose key and whose name: by default of the one above */
    int has_list[CHAIN];                   /* of that issuer */
    int64_t list_from, list_until, revoked;
    int is_list_forged;
    enum revocation revocation;
    size_t first, last;                    /* of the chain that is given, leaf's side first */
};

static EVP_PKEY *keys[CHAIN], *weak_key;

static int make_keys(void **state)
{
    for (int i = 0; i < CHAIN; i++)
        keys[i] = authority_key("P-256");
    weak_key = authority_key("RSA-1024");
    return 0;
}

static int free_keys(void **state)
{
    for (int i = 0; i < CHAIN; i++)
        EVP_PKEY_free(keys[i]);
    EVP_PKEY_free(weak_key);
    return 0;
}

static struct hierarchy new_hierarchy(void)
{
    static const char *const names[] = {"root", "upper", "lower", "leaf"};
    struct hierarchy made = {.revocation = REVOCATION_GIVEN, .first = LEAF, .last = ROOT};
    for (int i = 0; i < CHAIN; i++) {
        made.wanted[i] = (struct authority_certificate){.name = names[i], .key = keys[i], .is_authority = i != LEAF,
                                                        .serial = 100 + i};
        made.signed_by[i] = made.named_as[i] = i == ROOT ? ROOT : i - 1;
    }
    return made;
}

/* What fails and, after a slash, what was not checked. */
static const char *judge(const struct hierarchy *hierarchy)
{
    static const struct chain_rules given = {"chain", "root", "test", REVOCATION_GIVEN, "crls"},
                                    all = {"chain", "root", "test", REVOCATION_ALL, NULL};
    static char text[64];
    X509 *made[CHAIN];
    struct certificates chain = {0};
    struct verdict verdict = {0};
    for (int i = 0; i < CHAIN; i++) {
        struct authority_certificate wanted = hierarchy->wanted[i];
        EVP_PKEY *signer = hierarchy->wanted[hierarchy->signed_by[i]].key;
        wanted.issuer = i == ROOT ? NULL : made[hierarchy->named_as[i]];
        wanted.issuer_key = signer;
        made[i] = authority_issue(&wanted);
        if (hierarchy->has_list[i])
            chain.crls[chain.crl_count++] =
                authority_revoke(made[i], keys[hierarchy->is_list_forged ? LEAF : i], hierarchy->list_from,
                                 hierarchy->list_until, &hierarchy->revoked, hierarchy->revoked != 0);
    }
    for (size_t i = hierarchy->first + 1; i-- > hierarchy->last;) {
        X509_up_ref(made[i]);
        chain.list[chain.count++] = made[i];
    }
    test_roots_forget();
    authority_trust("test", made[hierarchy->last]);
    int holds = certificates_verify(&chain, &chain, hierarchy->revocation == REVOCATION_ALL ? &all : &given, asked_at, &verdict);
    text[0] = 0;
    for (size_t i = 0; i < verdict.count; i++)
        if (verdict.checks[i].state != BULLA_CHECK_PASSED)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s",
                     verdict.checks[i].state == BULLA_CHECK_NOT_MADE ? "/" : "", verdict.checks[i].name);
    assert_int_equal(holds, text[0] == 0 || text[0] == '/');
    verdict_free(&verdict);
    certificates_free(&chain);
    for (int i = 0; i < CHAIN; i++)
        X509_free(made[i]);
    return text;
}

struct change {
    const char *what, *fails;
    void (*make)(struct hierarchy *hierarchy);
};

static const struct authority_extension unknown = {"1.3.6.1.4.1.3704.99", (const uint8_t *)"\x05\x00", 2, 1};
#define ALL_LISTS (h->has_list[ROOT] = h->has_list[UPPER] = h->has_list[LOWER] = 1)

#define CHANGES(X)                                                                                                     \
    X(nothing, "/crls", (void)h)                                                                                       \
    X(every_list, "", ALL_LISTS)                                                                                       \
    X(upper_no_authority, "chain", (h->wanted[UPPER].constraints = "critical,CA:FALSE", h->wanted[UPPER].usage = ""))  \
    X(lower_no_authority, "chain", (h->wanted[LOWER].constraints = "critical,CA:FALSE", h->wanted[LOWER].usage = ""))  \
    X(lower_without_constraints, "chain", (h->wanted[LOWER].constraints = "", h->wanted[LOWER].usage = ""))            \
    X(lower_an_authority_by_use_alone, "chain", h->wanted[LOWER].constraints = "")                                \
    X(lower_may_not_certify, "chain", h->wanted[LOWER].usage = "critical,digitalSignature")                            \
    X(path_too_long, "chain", h->wanted[UPPER].constraints = "critical,CA:TRUE,pathlen:0")                        \
    X(path_long_enough, "/crls", h->wanted[UPPER].constraints = "critical,CA:TRUE,pathlen:1")                          \
    X(leaf_by_another_key, "chain", h->signed_by[LEAF] = UPPER)                                                        \
    X(leaf_by_itself, "chain", h->signed_by[LEAF] = LEAF)                                                              \
    X(leaf_of_another_name, "chain", h->named_as[LEAF] = UPPER)                                                        \
    X(lower_by_another_key, "chain", h->signed_by[LOWER] = ROOT)                                                       \
    X(root_by_another_key, "chain", h->signed_by[ROOT] = UPPER)                                                        \
    X(root_left_out, "chain", h->last = UPPER)                                                                         \
    X(leaf_expired, "chain", h->wanted[LEAF].until = asked_at - DAY)                                              \
    X(leaf_not_yet, "chain", h->wanted[LEAF].from = asked_at + DAY)                                               \
    X(upper_expired, "chain", h->wanted[UPPER].until = asked_at - DAY)                                            \
    X(root_expired, "chain", h->wanted[ROOT].until = asked_at - DAY)                                              \
    X(leaf_by_sha1, "chain", h->wanted[LEAF].digest = "SHA1")                                                          \
    X(lower_by_sha1, "chain", h->wanted[LOWER].digest = "SHA1")                                                        \
    X(leaf_of_a_weak_key, "chain", h->wanted[LEAF].key = weak_key)                                                     \
    X(leaf_with_what_nobody_knows, "chain",                                                                            \
      (h->wanted[LEAF].extensions = &unknown, h->wanted[LEAF].extension_count = 1))                                    \
    X(upper_with_what_nobody_knows, "chain",                                                                           \
      (h->wanted[UPPER].extensions = &unknown, h->wanted[UPPER].extension_count = 1))                                  \
    X(leaf_revoked, "chain", (ALL_LISTS, h->revoked = 100 + LEAF))                                                     \
    X(lower_revoked, "chain", (ALL_LISTS, h->revoked = 100 + LOWER))                                                   \
    X(others_revoked, "", (ALL_LISTS, h->revoked = 99))                                                                \
    X(list_of_the_root_alone, "/crls", h->has_list[ROOT] = 1)                                                          \
    X(lists_expired, "chain", (ALL_LISTS, h->list_until = asked_at - DAY))                                             \
    X(lists_not_yet, "chain", (ALL_LISTS, h->list_from = asked_at + DAY))                                              \
    X(list_forged, "chain", (h->has_list[LOWER] = 1, h->is_list_forged = 1))                                           \
    X(list_by_who_may_not, "chain", (h->has_list[LOWER] = 1, h->wanted[LOWER].usage = "critical,keyCertSign"))         \
    X(all_are_needed, "chain", h->revocation = REVOCATION_ALL)                                                         \
    X(all_are_there, "", (ALL_LISTS, h->revocation = REVOCATION_ALL))                                                  \
    X(one_is_missing, "chain", (ALL_LISTS, h->has_list[LOWER] = 0, h->revocation = REVOCATION_ALL))                    \
    X(all_expired, "chain", (ALL_LISTS, h->list_until = asked_at - DAY, h->revocation = REVOCATION_ALL))

#define DEFINE(name, failing, change)                                                                                  \
    static void change_##name(struct hierarchy *h)                                                                     \
    {                                                                                                                  \
        change;                                                                                                        \
    }
CHANGES(DEFINE)
#define LIST(name, failing, change) {#name, failing, change_##name},
static const struct change changes[] = {CHANGES(LIST)};

static void every_change_is_seen(void **state)
{
    int wrong = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct hierarchy hierarchy = new_hierarchy();
        changes[i].make(&hierarchy);
        const char *found = judge(&hierarchy);
        const char *said = strchr(found, '/');
        int fails = strncmp(found, "chain", 5) == 0;
        /* Where a chain fails, how many of it the lists would have judged says nothing. */
        if (fails ? strncmp(changes[i].fails, "chain", 5) != 0 : strcmp(said ? said : "", changes[i].fails) != 0)
            print_error("%s: \"%s\", expected \"%s\"\n", changes[i].what, found, changes[i].fails), wrong++;
    }
    assert_int_equal(wrong, 0);
    print_message("%zu changes of chains and lists\n", sizeof changes / sizeof *changes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_change_is_seen)};
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
