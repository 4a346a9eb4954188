#include "trust/policy_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "trust/binding.h"
#include "trust/roots.h"

enum { MOST_VALUES = 4096, LAST_SLOT = 23, LAST_GPU_MEASUREMENT = 63 };

/* A row a field: what a policy says about which claim. */
#define FIELD(name, kind) FIELD_OF(name, kind, name)
#define FIELD_OF(name, kind, claim) {name, kind, claim, "policy." name}
static const struct policy_field fields[] = {
    FIELD("launch_measurement", KIND_BYTES), FIELD("mrenclave", KIND_BYTES), FIELD("mrsigner", KIND_BYTES),
    FIELD("mrtd", KIND_BYTES), FIELD("mrseam", KIND_BYTES), FIELD("mrconfigid", KIND_BYTES),
    FIELD("mrowner", KIND_BYTES), FIELD("mrownerconfig", KIND_BYTES), FIELD("mrservicetd", KIND_BYTES),
    FIELD("td_attributes", KIND_BYTES), FIELD("xfam", KIND_BYTES), FIELD("sgx_attributes", KIND_BYTES),
    FIELD("rtmr", KIND_SLOTS), FIELD("pcr", KIND_SLOTS), FIELD("measurement", KIND_BYTES),
    FIELD("signer_info", KIND_BYTES), FIELD("rem", KIND_SLOTS), FIELD("personalization_value", KIND_BYTES),
    FIELD("platform_key", KIND_BYTES), FIELD("implementation_id", KIND_BYTES), FIELD("instance_id", KIND_BYTES),
    FIELD("platform_config", KIND_BYTES), FIELD("sw_components", KIND_NUMBER), FIELD("sw_component", KIND_SLOTS),
    FIELD("sw_signer", KIND_SLOTS), FIELD("module_id", KIND_TEXT), FIELD("public_key", KIND_BYTES),
    FIELD("host_data", KIND_BYTES), FIELD("config_id", KIND_BYTES), FIELD("isv_ext_prod_id", KIND_BYTES),
    FIELD("isv_family_id", KIND_BYTES), FIELD("report_data", KIND_BYTES), FIELD("vmpl", KIND_NUMBER),
    FIELD("isv_prod_id", KIND_NUMBER), FIELD_OF("minimum_isv_svn", KIND_LEAST, "isv_svn"),
    FIELD_OF("minimum_config_svn", KIND_LEAST, "config_svn"), FIELD_OF("minimum_guest_svn", KIND_LEAST, "guest_svn"),
    FIELD_OF("minimum_tcb", KIND_LEASTS, "tcb."), FIELD_OF("minimum_tcb_date", KIND_LEAST, "tcb_date"),
    FIELD("tcb_status", KIND_TEXT), FIELD_OF("allow_debug", KIND_ALLOW, "debug"),
    FIELD_OF("allow_migration_agent", KIND_ALLOW, "migration_agent"), FIELD_OF("allow_smt", KIND_ALLOW, "smt"),
    FIELD("tpm_key", KIND_BYTES), FIELD("tpm_name", KIND_BYTES), FIELD("tpm_vendor", KIND_TEXT),
    FIELD("firmware_version", KIND_BYTES), FIELD("boot_loader", KIND_SLOTS), FIELD("secure_boot", KIND_MUST),
    /* Of GPUs: in the policy's object "gpu". */
    FIELD("gpu.driver_version", KIND_TEXT), FIELD("gpu.vbios_version", KIND_TEXT), FIELD("gpu.chip", KIND_TEXT),
    FIELD("gpu.sku", KIND_TEXT), FIELD("gpu.measurement", KIND_SLOTS),
    FIELD_OF("gpu.allow_unmeasured", KIND_ALLOW, "gpu.unmeasured"),
};
enum { FIELDS = sizeof fields / sizeof *fields };

static int is_of_gpu(const struct policy_field *field)
{
    return strncmp(field->name, "gpu.", 4) == 0;
}

struct reading {
    struct policy *policy;
    const char *name;
    unsigned said; /* which of `specials` */
    bulla_error *error;
};

/* ---- Values ---- */

static int fail_field(struct reading *reading, const char *field, const char *expected)
{
    return bulla_fail(reading->error, BULLA_E_INPUT, "%s: \"%s\" is not %s", reading->name, field, expected);
}

static int read_bytes(struct reading *reading, const char *field, const struct json *value, struct policy_value *out)
{
    if (!json_is(value, JSON_STRING) || value->length == 0 || value->length % 2 || value->length / 2 > LONGEST_VALUE ||
        !hex_decode(value->text, value->length, out->bytes, value->length / 2))
        return fail_field(reading, field, "bytes in hex, or a list of such");
    out->length = value->length / 2;
    return BULLA_OK;
}

static int read_number(struct reading *reading, const char *field, const struct json *value, struct policy_value *out)
{
    if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0)
        return fail_field(reading, field, "a number from 0 on, or a list of such");
    out->number = (uint64_t)value->integer;
    return BULLA_OK;
}

static int read_text(struct reading *reading, const char *field, const struct json *value, struct policy_value *out)
{
    if (!json_is(value, JSON_STRING) || value->length == 0 || strlen(value->text) != value->length)
        return fail_field(reading, field, "a text, or a list of such");
    out->text = value->text;
    return BULLA_OK;
}

static int read_flag(struct reading *reading, const char *field, const struct json *value, struct policy_value *out)
{
    out->number = json_is(value, JSON_TRUE);
    return BULLA_OK;
}

typedef int read_value(struct reading *reading, const char *field, const struct json *value, struct policy_value *out);

/* One value, or a list of at least one. */
static int read_values(struct reading *reading, const char *field, const struct json *value, read_value *read,
                       struct policy_value **values, size_t *count)
{
    int is_list = json_is(value, JSON_ARRAY), code = BULLA_OK;
    *count = is_list ? value->length : 1;
    if (*count == 0 || *count > MOST_VALUES)
        return fail_field(reading, field, "a list of something: an empty one accepts nothing");
    *values = arena_alloc(&reading->policy->arena, *count, sizeof **values, reading->error);
    if (!*values)
        return BULLA_E_MEMORY;
    for (size_t i = 0; i < *count && code == BULLA_OK; i++)
        code = read(reading, field, is_list ? value->items[i] : value, &(*values)[i]);
    return code;
}

/* ---- Requirements ---- */

static struct policy_requirement *new_requirement(struct reading *reading, const struct policy_field *field, const char *slot)
{
    struct policy *policy = reading->policy;
    char claim[64];
    int length = snprintf(claim, sizeof claim, "%s%s", field->claim, slot);
    if (policy->count == MOST_REQUIREMENTS || length < 0 || (size_t)length >= sizeof claim) {
        bulla_fail(reading->error, BULLA_E_LIMIT, "%s: \"%s\" asks for more than a policy can hold", reading->name, field->name);
        return NULL;
    }
    struct policy_requirement *requirement = &policy->requirements[policy->count];
    *requirement = (struct policy_requirement){
        .field = field, .claim = arena_copy_text(&policy->arena, claim, (size_t)length, reading->error)};
    if (!requirement->claim)
        return NULL;
    policy->count++;
    return requirement;
}

static int require(struct reading *reading, const struct policy_field *field, const char *slot, const struct json *value,
                   read_value *read)
{
    struct policy_requirement *requirement = new_requirement(reading, field, slot);
    if (!requirement)
        return reading->error ? reading->error->code : BULLA_E_LIMIT;
    return read_values(reading, field->name, value, read, &requirement->values, &requirement->count);
}

static int read_slots(struct reading *reading, const struct policy_field *field, const struct json *value)
{
    int code = BULLA_OK, is_list = json_is(value, JSON_ARRAY);
    unsigned last = is_of_gpu(field) ? LAST_GPU_MEASUREMENT : LAST_SLOT;
    if ((!is_list && !json_is(value, JSON_OBJECT)) || value->length == 0)
        return fail_field(reading, field->name, "an object such as {\"0\": \"<hex>\"}, or a list");
    size_t before = reading->policy->count;
    for (size_t i = 0; i < value->length && code == BULLA_OK; i++) {
        char slot[24];
        size_t number = i, digits = is_list ? 0 : strspn(value->keys[i], "0123456789");
        if (!is_list)
            number = digits && digits == value->key_lengths[i] && digits <= 2 ? strtoul(value->keys[i], NULL, 10) : SIZE_MAX;
        if (number > last)
            return fail_field(reading, field->name, last == LAST_SLOT ? "by numbers from 0 to 23" : "by numbers from 0 to 63");
        snprintf(slot, sizeof slot, "%zu", number);
        if (strcmp(field->name, "boot_loader") == 0 && number >= reading->policy->boot_loaders)
            reading->policy->boot_loaders = number + 1;
        if (!is_list || !json_is(value->items[i], JSON_NULL))
            code = require(reading, field, slot, value->items[i], read_bytes);
    }
    if (code == BULLA_OK && reading->policy->count == before)
        return fail_field(reading, field->name, "a list of something: one of nothing but null accepts anything");
    return code;
}

static int read_leasts(struct reading *reading, const struct policy_field *field, const struct json *value)
{
    int code = BULLA_OK;
    if (!json_is(value, JSON_OBJECT) || value->length == 0)
        return fail_field(reading, field->name, "an object such as {\"microcode\": 210}");
    for (size_t i = 0; i < value->length && code == BULLA_OK; i++)
        code = json_is(value->items[i], JSON_NUMBER)
                   ? require(reading, field, value->keys[i], value->items[i], read_number)
                   : fail_field(reading, field->name, "an object of numbers");
    return code;
}

static int read_field(struct reading *reading, const struct policy_field *field, const struct json *value)
{
    switch (field->kind) {
    case KIND_BYTES:
        return require(reading, field, "", value, read_bytes);
    case KIND_SLOTS:
        return read_slots(reading, field, value);
    case KIND_NUMBER:
        return require(reading, field, "", value, read_number);
    case KIND_LEAST:
        return json_is(value, JSON_NUMBER) ? require(reading, field, "", value, read_number)
                                           : fail_field(reading, field->name, "a number");
    case KIND_LEASTS:
        return read_leasts(reading, field, value);
    case KIND_TEXT:
        return require(reading, field, "", value, read_text);
    case KIND_ALLOW:
    case KIND_MUST:
        return json_is_bool(value) ? require(reading, field, "", value, read_flag)
                                   : fail_field(reading, field->name, "true or false");
    }
    return BULLA_E_INTERNAL;
}

/* ---- Fields of their own kind ---- */

static int read_types(struct reading *reading, const struct json *value)
{
    struct policy *policy = reading->policy;
    int code = read_values(reading, "type", value, read_text, &policy->types, &policy->type_count);
    for (size_t i = 0; i < policy->type_count && code == BULLA_OK; i++)
        if (!evidence_format_find(policy->types[i].text))
            code = bulla_fail(reading->error, BULLA_E_INPUT, "%s: there is no type of evidence \"%.40s\"", reading->name,
                              policy->types[i].text);
    return code;
}

static int read_models(struct reading *reading, const struct json *value)
{
    struct policy *policy = reading->policy;
    int code = read_values(reading, "models", value, read_bytes, &policy->models, &policy->model_count);
    for (size_t i = 0; i < policy->model_count && code == BULLA_OK; i++)
        if (policy->models[i].length != HASH_SHA256_BYTES)
            code = fail_field(reading, "models", "model roots of 32 bytes in hex");
    return code;
}

static int read_simulated(struct reading *reading, const struct json *value)
{
    reading->policy->allows_simulated = json_is(value, JSON_TRUE);
    return json_is_bool(value) ? BULLA_OK : fail_field(reading, "allow_simulated", "true or false");
}

/* A number, or a text of digits and one of the units: those of `units` in turn, each worth the next of `worths`. */
static int read_measure(struct reading *reading, const char *field, const struct json *value, const char *const *units,
                        const uint64_t *worths, uint64_t *out)
{
    if (json_is(value, JSON_NUMBER) && value->is_integer && value->integer > 0) {
        *out = (uint64_t)value->integer;
        return BULLA_OK;
    }
    unsigned number;
    int used = 0;
    if (json_is(value, JSON_STRING) && value->text[0] >= '0' && value->text[0] <= '9' &&
        sscanf(value->text, "%9u%n", &number, &used) == 1 && number > 0)
        for (size_t i = 0; units[i]; i++)
            if (strcmp(value->text + used, units[i]) == 0) {
                *out = number * worths[i];
                return BULLA_OK;
            }
    return fail_field(reading, field, "a number, or one with its unit such as \"16GB\" or \"24h\"");
}

static int read_age(struct reading *reading, const struct json *value)
{
    static const char *const units[] = {"s", "m", "h", "d", NULL};
    static const uint64_t worths[] = {1, 60, 3600, 86400};
    return read_measure(reading, "max_age", value, units, worths, &reading->policy->most_age);
}

static int read_size(struct reading *reading, const char *field, const struct json *value, uint64_t *out)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB", NULL};
    static const uint64_t worths[] = {1, 1000, 1000000, 1000000000, 1000000000000, 1ull << 10, 1ull << 20, 1ull << 30,
                                      1ull << 40};
    return read_measure(reading, field, value, units, worths, out);
}

static int read_memory(struct reading *reading, const struct json *value)
{
    return read_size(reading, "memory", value, &reading->policy->memory);
}

static int read_gpu_memory(struct reading *reading, const struct json *value)
{
    return read_size(reading, "gpu_memory", value, &reading->policy->gpu_memory);
}

/* {"gpu": {"driver_version": ..., "required": false}}: whoever names a GPU wants one, unless the object says otherwise. */
static int read_gpu(struct reading *reading, const struct json *value)
{
    int code = BULLA_OK;
    if (!json_is(value, JSON_OBJECT))
        return fail_field(reading, "gpu", "an object such as {\"driver_version\": \"...\"}");
    reading->policy->requires_gpu = 1;
    for (size_t i = 0; i < value->length && code == BULLA_OK; i++) {
        const char *name = value->keys[i];
        size_t at = 0;
        while (at < FIELDS && !(is_of_gpu(&fields[at]) && strcmp(fields[at].name + 4, name) == 0))
            at++;
        if (strcmp(name, "required") == 0 && json_is_bool(value->items[i]))
            reading->policy->requires_gpu = json_is(value->items[i], JSON_TRUE);
        else if (at < FIELDS)
            code = read_field(reading, &fields[at], value->items[i]);
        else
            code = fail_field(reading, name, "a field of \"gpu\", or not true or false");
    }
    return code;
}

static const struct special {
    const char *name;
    int is_resource;
    int (*read)(struct reading *reading, const struct json *value);
} specials[] = {
    {"type", 0, read_types},       {"models", 0, read_models},  {"allow_simulated", 0, read_simulated},
    {"max_age", 0, read_age},      {"memory", 1, read_memory},  {"gpu_memory", 1, read_gpu_memory},
    {"gpu", 0, read_gpu},
};

static int read_member(struct reading *reading, const char *section, const char *name, const struct json *value)
{
    int is_resources = section && strcmp(section, "resources") == 0;
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++)
        if (strcmp(specials[i].name, name) == 0 && (!section || specials[i].is_resource == is_resources)) {
            if (reading->said >> i & 1) /* in a section and outside: the later one would count alone */
                return fail_field(reading, name, "there once");
            reading->said |= 1u << i;
            return specials[i].read(reading, value);
        }
    for (size_t i = 0; i < FIELDS && !is_resources; i++)
        if (strcmp(fields[i].name, name) == 0 && !is_of_gpu(&fields[i]))
            return read_field(reading, &fields[i], value);
    return bulla_fail(reading->error, BULLA_E_INPUT, "%s: there is no field \"%.60s\"%s%s", reading->name, name,
                      section ? " in " : "", section ? section : "");
}

static int read_section(struct reading *reading, const char *section, const struct json *object)
{
    int code = BULLA_OK;
    if (!json_is(object, JSON_OBJECT))
        return fail_field(reading, section ? section : "the policy", "an object");
    for (size_t i = 0; i < object->length && code == BULLA_OK; i++) {
        const char *name = object->keys[i];
        int is_section = !section && (strcmp(name, "attestation") == 0 || strcmp(name, "resources") == 0);
        code = is_section ? read_section(reading, name, object->items[i])
                          : read_member(reading, section, name, object->items[i]);
    }
    return code;
}

/* ---- The policy ---- */

static int hash_policy(struct policy *policy, const struct json *root, bulla_error *error)
{
    struct buffer text = {0};
    json_write_canonical(&text, root);
    int code = text.error.code != BULLA_OK ? bulla_fail(error, text.error.code, "%s", text.error.text)
                                           : hash_sha256(text.data, text.length, policy->hash, error);
    buffer_free(&text);
    return code;
}

int policy_parse(const char *text, size_t length, const char *name, struct policy **result, bulla_error *error)
{
    bulla_error own = {0};
    *result = NULL;
    struct policy *policy = memory_alloc(1, sizeof *policy, &own);
    struct json *root = policy ? json_parse(text, length, name, &policy->arena, &own) : NULL;
    struct reading reading = {.policy = policy, .name = name, .error = &own};
    int code = root ? read_section(&reading, NULL, root) : own.code;
    if (code == BULLA_OK)
        code = hash_policy(policy, root, &own);
    if (code != BULLA_OK) {
        policy_free(policy);
        return bulla_fail(error, own.code, "%s", own.text);
    }
    *result = policy;
    return BULLA_OK;
}

void policy_free(struct policy *policy)
{
    if (!policy)
        return;
    arena_free(&policy->arena);
    memory_free(policy);
}

const uint8_t *policy_hash(const struct policy *policy)
{
    return policy->hash;
}

uint64_t policy_most_age(const struct policy *policy)
{
    return policy->most_age;
}

/* ---- Checks ---- */

static const char *describe_claim(const struct claim *claim, struct verdict *verdict)
{
    char text[2 * LONGEST_VALUE + 1] = "";
    if (claim->kind == CLAIM_TEXT)
        return claim->text;
    if (claim->kind == CLAIM_BYTES)
        hex_encode(claim->bytes, claim->length < LONGEST_VALUE ? claim->length : LONGEST_VALUE, text);
    else
        snprintf(text, sizeof text, "%llu", (unsigned long long)claim->number);
    return arena_copy_text(&verdict->arena, text, strlen(text), &verdict->error);
}

static int accepts(const struct policy_requirement *requirement, const struct claim *claim)
{
    for (size_t i = 0; i < requirement->count; i++) {
        const struct policy_value *value = &requirement->values[i];
        switch (requirement->field->kind) {
        case KIND_BYTES:
        case KIND_SLOTS:
            if (claim->kind == CLAIM_BYTES && claim->length == value->length &&
                memcmp(claim->bytes, value->bytes, value->length) == 0)
                return 1;
            break;
        case KIND_NUMBER:
            if (claim->kind == CLAIM_NUMBER && claim->number == value->number)
                return 1;
            break;
        case KIND_LEAST:
        case KIND_LEASTS:
            if (claim->kind == CLAIM_NUMBER && claim->number >= value->number)
                return 1;
            break;
        case KIND_TEXT:
            if (claim->kind == CLAIM_TEXT && strcmp(claim->text, value->text) == 0)
                return 1;
            break;
        case KIND_ALLOW:
            if (claim->kind == CLAIM_FLAG && (value->number || !claim->number))
                return 1;
            break;
        case KIND_MUST:
            if (claim->kind == CLAIM_FLAG && (!value->number || claim->number))
                return 1;
        }
    }
    return 0;
}

static void append_value(const struct policy_field *field, const struct policy_value *value, struct buffer *out)
{
    char hex[2 * LONGEST_VALUE + 1];
    if (value->text) {
        buffer_append_text(out, value->text);
    } else if (value->length) {
        hex_encode(value->bytes, value->length, hex);
        buffer_append_text(out, hex);
    } else if (field->kind == KIND_ALLOW) {
        buffer_append_text(out, value->number ? "allowed" : "not set");
    } else if (field->kind == KIND_MUST) {
        buffer_append_text(out, value->number ? "on" : "on or off");
    } else {
        buffer_append_format(out, "%s%llu", field->kind == KIND_LEAST || field->kind == KIND_LEASTS ? "at least " : "",
                             (unsigned long long)value->number);
    }
}

void policy_append_values(const struct policy_field *field, const struct policy_value *values, size_t count, struct buffer *out)
{
    enum { MOST_SHOWN = 4 };
    buffer_append_text(out, count > 1 ? "one of " : "");
    for (size_t i = 0; i < count && i < MOST_SHOWN; i++) {
        buffer_append_text(out, i ? ", " : "");
        append_value(field, &values[i], out);
    }
    if (count > MOST_SHOWN)
        buffer_append_format(out, " and %zu more", count - MOST_SHOWN);
}

static void check_requirement(const struct policy_requirement *requirement, const struct evidence *evidence)
{
    struct verdict *verdict = evidence->verdict;
    const struct claim *claim = evidence_claim(evidence, requirement->claim);
    struct buffer expected = {0};
    if (requirement->field->kind == KIND_SLOTS || requirement->field->kind == KIND_LEASTS)
        buffer_append_format(&expected, "%s: ", requirement->claim);
    policy_append_values(requirement->field, requirement->values, requirement->count, &expected);
    if (expected.error.code != BULLA_OK)
        bulla_fail(&verdict->error, expected.error.code, "%s", expected.error.text);
    else
        verdict_holds(verdict, requirement->field->check, claim && accepts(requirement, claim), (const char *)expected.data, "%s",
                      claim ? describe_claim(claim, verdict) : "nothing: this evidence does not say it");
    buffer_free(&expected);
}

int policy_names(const struct policy *policy, const char *name)
{
    if (strcmp(name, "models") == 0)
        return policy->model_count > 0;
    for (size_t i = 0; i < policy->count; i++)
        if (strcmp(policy->requirements[i].field->name, name) == 0)
            return 1;
    return 0;
}

/* What holds where the policy does not speak of it. */
static void check_defaults(const struct policy *policy, const struct evidence *evidence)
{
    static struct policy_value zero = {.number = 0}, up_to_date = {.text = "UpToDate"};
    static const struct {
        const char *name, *other; /* either of the fields speaks of it */
        struct policy_value *value;
    } defaults[] = {{"allow_debug", "allow_debug", &zero},
                    {"allow_migration_agent", "allow_migration_agent", &zero},
                    {"vmpl", "vmpl", &zero},
                    {"tcb_status", "tcb_status", &up_to_date},
                    {"gpu.allow_unmeasured", "gpu.measurement", &zero}};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        for (size_t j = 0; j < FIELDS; j++)
            if (strcmp(fields[j].name, defaults[i].name) == 0 && !policy_names(policy, fields[j].name) &&
                !policy_names(policy, defaults[i].other) && evidence_claim(evidence, fields[j].claim)) {
                const struct policy_requirement requirement = {&fields[j], fields[j].claim, defaults[i].value, 1};
                check_requirement(&requirement, evidence);
            }
}

/* Whether a debugger is attached is said by an event log, which may be left out. */
static void tell_debug(const struct policy *policy, const struct evidence *evidence)
{
    if (evidence_claim(evidence, "tpm_key") && !evidence_claim(evidence, "debug") && !policy_names(policy, "allow_debug"))
        verdict_not_made(evidence->verdict, "policy.allow_debug", "this evidence does not say it: that takes an event log, "
                         "and PCR 7 quoted in SHA-256");
}

/* Platforms whose vendor has no certificates: their key itself is pinned, by the policy or by the table of roots. */
static void check_platform_key(const struct policy *policy, const struct evidence *evidence)
{
    struct verdict *verdict = evidence->verdict;
    const struct claim *key = evidence_claim(evidence, "platform_key");
    if (!key || policy_names(policy, "platform_key"))
        return;
    const struct root *root = root_find("arm", key->bytes);
    if (!verdict_holds(verdict, "policy.platform_key", root != NULL, "a pinned key, or one that the policy names", "%s",
                       describe_claim(key, verdict)))
        verdict_advise(verdict, "name the keys of platforms that you trust in the policy: \"platform_key\"");
}

/* A TPM's key counts where the policy names it, or the root that certifies it: anyone can make a key. */
static void check_tpm_key(const struct policy *policy, const struct evidence *evidence)
{
    const struct claim *key = evidence_claim(evidence, "tpm_key");
    if (!key || policy_names(policy, "tpm_key") || policy_names(policy, "tpm_name") || policy_names(policy, "tpm_vendor"))
        return;
    verdict_holds(evidence->verdict, "policy.tpm_key", 0, "a key, or a vendor, that the policy names", "%s%s",
                  describe_claim(key, evidence->verdict),
                  evidence_claim(evidence, "tpm_vendor") ? "" : ", which nothing vouches for");
    verdict_advise(evidence->verdict, "name it as \"tpm_key\" once you know that it is a TPM's (\"tpm_name\", where its "
                                      "public area is known; \"tpm_vendor\", where it is certified)");
}

/* A program that was started behind those that are named could have put anything in their place. */
static void check_boot_loaders(const struct policy *policy, const struct evidence *evidence)
{
    const struct claim *count = evidence_claim(evidence, "boot_loaders");
    if (policy->boot_loaders && count && count->number > policy->boot_loaders)
        verdict_fails(evidence->verdict, "policy.boot_loader", "the firmware measured %llu programs, and the policy names %llu",
                      (unsigned long long)count->number, (unsigned long long)policy->boot_loaders);
}

static void check_type(const struct policy *policy, const struct evidence_format *format, struct verdict *verdict)
{
    struct buffer expected = {0};
    int is_accepted = policy->type_count == 0;
    for (size_t i = 0; i < policy->type_count; i++)
        is_accepted |= strcmp(policy->types[i].text, format->type) == 0;
    policy_append_values(NULL, policy->types, policy->type_count, &expected);
    if (policy->type_count == 0 && format->is_gpu && !policy_names(policy, "report_data")) /* whoever has one chooses what it signs */
        verdict_fails(verdict, "policy.type", "a GPU's evidence alone counts only where the policy names its type or report data");
    else if (policy->type_count == 0)
        verdict_not_made(verdict, "policy.type", "the policy names no type");
    else if (expected.error.code == BULLA_OK)
        verdict_holds(verdict, "policy.type", is_accepted, (const char *)expected.data, "%s", format->type);
    else
        bulla_fail(&verdict->error, expected.error.code, "%s", expected.error.text);
    buffer_free(&expected);
    if (format->is_simulated)
        verdict_holds(verdict, "policy.allow_simulated", policy->allows_simulated, "real hardware",
                      "SIMULATED evidence, which proves nothing");
}

static void check_age(const struct policy *policy, const struct evidence *evidence)
{
    struct verdict *verdict = evidence->verdict;
    const bulla_check *nonce = verdict_find(verdict, "binding.nonce");
    char most[64];
    if (policy->most_age == 0)
        return;
    snprintf(most, sizeof most, "at most %llu s", (unsigned long long)policy->most_age);
    if (evidence->made_at == 0) {
        int is_fresh = nonce && nonce->state == BULLA_CHECK_PASSED;
        verdict_holds(verdict, "policy.max_age", is_fresh, most, "%s",
                      is_fresh ? "made for this nonce" : "unknown: evidence of this type has no time, and no nonce was given");
        return;
    }
    int64_t age = evidence->used_at - evidence->made_at; /* what was used before it was made was not that */
    verdict_holds(verdict, "policy.max_age", age >= 0 && (uint64_t)age <= policy->most_age, most, "%lld s", (long long)age);
}

/* Fields that say which program runs. */
int policy_names_program(const struct policy *policy)
{
    static const char *const names[] = {"launch_measurement", "mrenclave", "mrsigner", "mrtd", "pcr", "measurement",
                                        "signer_info"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (policy_names(policy, names[i]))
            return 1;
    return 0;
}

void policy_check_evidence(const struct policy *policy, const struct evidence_format *format,
                           const struct evidence *evidence)
{
    struct verdict *verdict = evidence->verdict;
    if (!policy) {
        verdict_fails(verdict, "policy", "nothing was required: there is no policy");
        verdict_advise(verdict, "give a policy that says what you accept (docs/policy.md)");
        return;
    }
    check_type(policy, format, verdict);
    if (!policy_names_program(policy))
        verdict_not_made(verdict, "policy.program", "the policy names no measurement: any program is accepted");
    for (size_t i = 0; i < policy->count; i++)
        if (format->is_gpu || !is_of_gpu(policy->requirements[i].field))
            check_requirement(&policy->requirements[i], evidence);
    check_defaults(policy, evidence);
    tell_debug(policy, evidence);
    check_platform_key(policy, evidence);
    check_tpm_key(policy, evidence);
    check_boot_loaders(policy, evidence);
    check_age(policy, evidence);
}

void policy_check_gpu(const struct policy *policy, const struct evidence *gpu)
{
    for (size_t i = 0; policy && i < policy->count; i++)
        if (is_of_gpu(policy->requirements[i].field))
            check_requirement(&policy->requirements[i], gpu);
    if (policy)
        check_defaults(policy, gpu);
}

void policy_check_gpu_count(const struct policy *policy, size_t count, struct verdict *verdict)
{
    if (policy && policy->requires_gpu)
        verdict_holds(verdict, "policy.gpu", count > 0, "evidence of a GPU", "%zu of them", count);
}

static int accepts_model(const struct policy *policy, const uint8_t root[HASH_SHA256_BYTES])
{
    for (size_t i = 0; i < policy->model_count; i++)
        if (memcmp(policy->models[i].bytes, root, HASH_SHA256_BYTES) == 0)
            return 1;
    return 0;
}

int policy_check_model(const struct policy *policy, const uint8_t root[32], struct verdict *verdict)
{
    char hex[2 * HASH_SHA256_BYTES + 1];
    hex_encode(root, HASH_SHA256_BYTES, hex);
    if (policy && policy->model_count > 0)
        return verdict_holds(verdict, "policy.models", accepts_model(policy, root), "a model root that the policy names",
                             "%s", hex);
    verdict_not_made(verdict, "policy.models", "the policy names no model: any is accepted");
    return 1;
}

void policy_check_bound_models(const struct policy *policy, const struct evidence *evidence)
{
    struct binding binding;
    size_t accepted = 0;
    if (!policy || policy->model_count == 0)
        return;
    if (binding_read(json_get(evidence->document, "binding"), &binding, NULL) != BULLA_OK) {
        verdict_fails(evidence->verdict, "policy.models", "the evidence is bound to no model");
        return;
    }
    for (size_t i = 0; i < binding.model_count; i++)
        accepted += accepts_model(policy, binding.models[i]) != 0;
    verdict_holds(evidence->verdict, "policy.models", accepted == binding.model_count, "models that the policy names",
                  "%zu of %zu such", accepted, binding.model_count);
}
