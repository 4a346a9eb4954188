#include "trust/policy.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "trust/roots.h"

enum { MOST_REQUIREMENTS = 128, LONGEST_VALUE = 64 /* bytes */, MOST_VALUES = 4096, HASH_HEX = 64,
       LAST_SLOT = 23, LAST_GPU_MEASUREMENT = 63 };

enum kind {
    KIND_BYTES,  /* hex, or a list of it: the claim is one of these */
    KIND_SLOTS,  /* by number: {"0": hex or list, ...} or [hex, list or null, ...]; a claim each */
    KIND_NUMBER, /* a number, or a list: the claim is one of these */
    KIND_LEAST,  /* the claim is at least this */
    KIND_LEASTS, /* {"part": number, ...}: a claim each, "tcb.part" */
    KIND_TEXT,   /* a string, or a list: the claim is one of these */
    KIND_ALLOW,  /* true: the claim may be set */
    KIND_MUST    /* true: the claim must be set */
};

/* A field of the policy, the claim that it is about, the check that comes of it. */
struct field {
    const char *name;
    enum kind kind;
    const char *claim, *check;
    const char *says; /* in policy_explain, before the values */
};

static const struct field fields[] = {
    {"launch_measurement", KIND_BYTES, "launch_measurement", "policy.launch_measurement", "launch measurement"},
    {"mrenclave", KIND_BYTES, "mrenclave", "policy.mrenclave", "enclave measurement (MRENCLAVE)"},
    {"mrsigner", KIND_BYTES, "mrsigner", "policy.mrsigner", "enclave signer (MRSIGNER)"},
    {"mrtd", KIND_BYTES, "mrtd", "policy.mrtd", "trust domain measurement (MRTD)"},
    {"mrseam", KIND_BYTES, "mrseam", "policy.mrseam", "TDX module measurement (MRSEAM)"},
    {"mrconfigid", KIND_BYTES, "mrconfigid", "policy.mrconfigid", "trust domain's configuration (MRCONFIGID)"},
    {"mrowner", KIND_BYTES, "mrowner", "policy.mrowner", "trust domain's owner (MROWNER)"},
    {"mrownerconfig", KIND_BYTES, "mrownerconfig", "policy.mrownerconfig", "owner's configuration (MROWNERCONFIG)"},
    {"mrservicetd", KIND_BYTES, "mrservicetd", "policy.mrservicetd", "bound service domains (MRSERVICETD)"},
    {"td_attributes", KIND_BYTES, "td_attributes", "policy.td_attributes", "trust domain's ATTRIBUTES"},
    {"xfam", KIND_BYTES, "xfam", "policy.xfam", "trust domain's XFAM"},
    {"sgx_attributes", KIND_BYTES, "sgx_attributes", "policy.sgx_attributes", "enclave's ATTRIBUTES"},
    {"rtmr", KIND_SLOTS, "rtmr", "policy.rtmr", "runtime measurement register (RTMR)"},
    {"pcr", KIND_SLOTS, "pcr", "policy.pcr", "platform configuration register (PCR)"},
    {"measurement", KIND_BYTES, "measurement", "policy.measurement", "measurement"},
    {"signer_info", KIND_BYTES, "signer_info", "policy.signer_info", "signer of the program"},
    {"rem", KIND_SLOTS, "rem", "policy.rem", "realm extensible measurement (REM)"},
    {"personalization_value", KIND_BYTES, "personalization_value", "policy.personalization_value",
     "realm personalization value"},
    {"platform_key", KIND_BYTES, "platform_key", "policy.platform_key", "SHA-256 of the platform's attestation key"},
    {"implementation_id", KIND_BYTES, "implementation_id", "policy.implementation_id", "kind of the platform"},
    {"instance_id", KIND_BYTES, "instance_id", "policy.instance_id", "instance of the platform"},
    {"platform_config", KIND_BYTES, "platform_config", "policy.platform_config", "configuration of the platform"},
    {"sw_components", KIND_NUMBER, "sw_components", "policy.sw_components", "number of the platform's components"},
    {"sw_component", KIND_SLOTS, "sw_component", "policy.sw_component", "measurement of the platform's component"},
    {"sw_signer", KIND_SLOTS, "sw_signer", "policy.sw_signer", "signer of the platform's component"},
    {"module_id", KIND_TEXT, "module_id", "policy.module_id", "enclave's name (module id)"},
    {"public_key", KIND_BYTES, "public_key", "policy.public_key",
     "SHA-256 of the enclave's public key, in place of a binding to keys"},
    {"host_data", KIND_BYTES, "host_data", "policy.host_data", "host data"},
    {"config_id", KIND_BYTES, "config_id", "policy.config_id", "configuration id"},
    {"isv_ext_prod_id", KIND_BYTES, "isv_ext_prod_id", "policy.isv_ext_prod_id", "extended product number of the enclave"},
    {"isv_family_id", KIND_BYTES, "isv_family_id", "policy.isv_family_id", "family of the enclave"},
    {"report_data", KIND_BYTES, "report_data", "policy.report_data", "report data, in place of a binding to keys"},
    {"vmpl", KIND_NUMBER, "vmpl", "policy.vmpl", "privilege level (VMPL)"},
    {"isv_prod_id", KIND_NUMBER, "isv_prod_id", "policy.isv_prod_id", "product number of the enclave"},
    {"minimum_isv_svn", KIND_LEAST, "isv_svn", "policy.minimum_isv_svn", "version of the enclave"},
    {"minimum_config_svn", KIND_LEAST, "config_svn", "policy.minimum_config_svn", "version of the enclave's configuration"},
    {"minimum_guest_svn", KIND_LEAST, "guest_svn", "policy.minimum_guest_svn", "version of the guest"},
    {"minimum_tcb", KIND_LEASTS, "tcb.", "policy.minimum_tcb", "part of the TCB"},
    {"minimum_tcb_date", KIND_LEAST, "tcb_date", "policy.minimum_tcb_date", "date of the TCB (yyyymmdd)"},
    {"tcb_status", KIND_TEXT, "tcb_status", "policy.tcb_status", "status of the TCB"},
    {"allow_debug", KIND_ALLOW, "debug", "policy.allow_debug", "debugging"},
    {"allow_migration_agent", KIND_ALLOW, "migration_agent", "policy.allow_migration_agent", "migration agents"},
    {"allow_smt", KIND_ALLOW, "smt", "policy.allow_smt", "simultaneous multithreading"},
    {"tpm_key", KIND_BYTES, "tpm_key", "policy.tpm_key", "SHA-256 of the TPM's attestation key"},
    {"tpm_name", KIND_BYTES, "tpm_name", "policy.tpm_name", "TPM's name of its attestation key"},
    {"tpm_vendor", KIND_TEXT, "tpm_vendor", "policy.tpm_vendor", "root that certifies the TPM's attestation key"},
    {"firmware_version", KIND_BYTES, "firmware_version", "policy.firmware_version", "version of the TPM's firmware"},
    {"boot_loader", KIND_SLOTS, "boot_loader", "policy.boot_loader", "digest of the program that the firmware starts"},
    {"secure_boot", KIND_MUST, "secure_boot", "policy.secure_boot", "secure boot"},
    /* Of GPUs: in the policy's object "gpu". */
    {"gpu.driver_version", KIND_TEXT, "gpu.driver_version", "policy.gpu.driver_version", "version of the GPU's driver"},
    {"gpu.vbios_version", KIND_TEXT, "gpu.vbios_version", "policy.gpu.vbios_version", "version of the GPU's VBIOS"},
    {"gpu.chip", KIND_TEXT, "gpu.chip", "policy.gpu.chip", "GPU's chip"},
    {"gpu.sku", KIND_TEXT, "gpu.sku", "policy.gpu.sku", "GPU's product number"},
    {"gpu.measurement", KIND_SLOTS, "gpu.measurement", "policy.gpu.measurement", "GPU's measurement"},
    {"gpu.allow_unmeasured", KIND_ALLOW, "gpu.unmeasured", "policy.gpu.allow_unmeasured",
     "a GPU whose measurements nothing was compared with"},
};
enum { FIELDS = sizeof fields / sizeof *fields };

static int is_of_gpu(const struct field *field)
{
    return strncmp(field->name, "gpu.", 4) == 0;
}

struct value {
    uint8_t bytes[LONGEST_VALUE];
    size_t length;
    uint64_t number;
    const char *text;
};

struct requirement {
    const struct field *field;
    const char *claim;    /* the field's, or with the slot's or part's name behind it */
    struct value *values; /* KIND_ALLOW: one, number 0 or 1 */
    size_t count;
};

struct policy {
    struct arena arena;
    struct requirement requirements[MOST_REQUIREMENTS];
    size_t count;
    struct value *types, *models;
    size_t type_count, model_count;
    int allows_simulated, requires_gpu;
    uint64_t most_age; /* seconds; 0: not said */
    uint64_t memory, gpu_memory;
    uint8_t hash[HASH_SHA256_BYTES];
};

struct reading {
    struct policy *policy;
    const char *name;
    bulla_error *error;
};

/* ---- Values ---- */

static int fail_field(struct reading *reading, const char *field, const char *expected)
{
    return bulla_fail(reading->error, BULLA_E_INPUT, "%s: \"%s\" is not %s", reading->name, field, expected);
}

static int read_bytes(struct reading *reading, const char *field, const struct json *value, struct value *out)
{
    if (!json_is(value, JSON_STRING) || value->length == 0 || value->length % 2 || value->length / 2 > LONGEST_VALUE ||
        !hex_decode(value->text, value->length, out->bytes, value->length / 2))
        return fail_field(reading, field, "bytes in hex, or a list of such");
    out->length = value->length / 2;
    return BULLA_OK;
}

static int read_number(struct reading *reading, const char *field, const struct json *value, struct value *out)
{
    if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0)
        return fail_field(reading, field, "a number from 0 on, or a list of such");
    out->number = (uint64_t)value->integer;
    return BULLA_OK;
}

static int read_text(struct reading *reading, const char *field, const struct json *value, struct value *out)
{
    if (!json_is(value, JSON_STRING) || value->length == 0 || strlen(value->text) != value->length)
        return fail_field(reading, field, "a text, or a list of such");
    out->text = value->text;
    return BULLA_OK;
}

typedef int read_value(struct reading *reading, const char *field, const struct json *value, struct value *out);

/* One value, or a list of at least one. */
static int read_values(struct reading *reading, const char *field, const struct json *value, read_value *read,
                       struct value **values, size_t *count)
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

static struct requirement *new_requirement(struct reading *reading, const struct field *field, const char *slot)
{
    struct policy *policy = reading->policy;
    char claim[64];
    int length = snprintf(claim, sizeof claim, "%s%s", field->claim, slot);
    if (policy->count == MOST_REQUIREMENTS || length < 0 || (size_t)length >= sizeof claim) {
        bulla_fail(reading->error, BULLA_E_LIMIT, "%s: \"%s\" asks for more than a policy can hold", reading->name, field->name);
        return NULL;
    }
    struct requirement *requirement = &policy->requirements[policy->count];
    *requirement = (struct requirement){
        .field = field, .claim = arena_copy_text(&policy->arena, claim, (size_t)length, reading->error)};
    if (!requirement->claim)
        return NULL;
    policy->count++;
    return requirement;
}

static int require(struct reading *reading, const struct field *field, const char *slot, const struct json *value,
                   read_value *read)
{
    struct requirement *requirement = new_requirement(reading, field, slot);
    if (!requirement)
        return reading->error ? reading->error->code : BULLA_E_LIMIT;
    return read_values(reading, field->name, value, read, &requirement->values, &requirement->count);
}

static int read_slots(struct reading *reading, const struct field *field, const struct json *value)
{
    int code = BULLA_OK, is_list = json_is(value, JSON_ARRAY);
    unsigned last = is_of_gpu(field) ? LAST_GPU_MEASUREMENT : LAST_SLOT;
    if ((!is_list && !json_is(value, JSON_OBJECT)) || value->length == 0)
        return fail_field(reading, field->name, "an object such as {\"0\": \"<hex>\"}, or a list");
    for (size_t i = 0; i < value->length && code == BULLA_OK; i++) {
        char slot[24];
        unsigned number = (unsigned)i;
        char end;
        snprintf(slot, sizeof slot, "%zu", i);
        if (!is_list && (sscanf(value->keys[i], "%2u%c", &number, &end) != 1 || number > last))
            return fail_field(reading, field->name, last == LAST_SLOT ? "by numbers from 0 to 23" : "by numbers from 0 to 63");
        if (!is_list)
            snprintf(slot, sizeof slot, "%u", number);
        if (!is_list || !json_is(value->items[i], JSON_NULL))
            code = require(reading, field, slot, value->items[i], read_bytes);
    }
    return code;
}

static int read_leasts(struct reading *reading, const struct field *field, const struct json *value)
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

static int read_field(struct reading *reading, const struct field *field, const struct json *value)
{
    struct requirement *requirement;
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
        break;
    }
    if (!json_is_bool(value))
        return fail_field(reading, field->name, "true or false");
    requirement = new_requirement(reading, field, "");
    if (requirement)
        requirement->values = arena_alloc(&reading->policy->arena, 1, sizeof *requirement->values, reading->error);
    if (!requirement || !requirement->values)
        return reading->error ? reading->error->code : BULLA_E_MEMORY;
    requirement->count = 1;
    requirement->values->number = value->type == JSON_TRUE;
    return BULLA_OK;
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
    if (json_is(value, JSON_STRING) && sscanf(value->text, "%9u%n", &number, &used) == 1 && number > 0)
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
        if (strcmp(specials[i].name, name) == 0 && (!section || specials[i].is_resource == is_resources))
            return specials[i].read(reading, value);
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
    struct reading reading = {policy, name, &own};
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

uint64_t policy_memory(const struct policy *policy)
{
    return policy->memory;
}

uint64_t policy_gpu_memory(const struct policy *policy)
{
    return policy->gpu_memory;
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

static int accepts(const struct requirement *requirement, const struct claim *claim)
{
    for (size_t i = 0; i < requirement->count; i++) {
        const struct value *value = &requirement->values[i];
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

static void append_value(const struct field *field, const struct value *value, struct buffer *out)
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

/* "one of A, B"; long lists are cut. */
static void append_values(const struct field *field, const struct value *values, size_t count, struct buffer *out)
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

static void check_requirement(const struct requirement *requirement, const struct evidence *evidence)
{
    struct verdict *verdict = evidence->verdict;
    const struct claim *claim = evidence_claim(evidence, requirement->claim);
    struct buffer expected = {0};
    if (requirement->field->kind == KIND_SLOTS || requirement->field->kind == KIND_LEASTS)
        buffer_append_format(&expected, "%s: ", requirement->claim);
    append_values(requirement->field, requirement->values, requirement->count, &expected);
    if (expected.error.code != BULLA_OK)
        bulla_fail(&verdict->error, expected.error.code, "%s", expected.error.text);
    else if (!claim)
        verdict_holds(verdict, requirement->field->check, 0, (const char *)expected.data, "nothing: this evidence does not say it");
    else
        verdict_holds(verdict, requirement->field->check, accepts(requirement, claim), (const char *)expected.data, "%s",
                      describe_claim(claim, verdict));
    buffer_free(&expected);
}

int policy_names(const struct policy *policy, const char *name)
{
    for (size_t i = 0; i < policy->count; i++)
        if (strcmp(policy->requirements[i].field->name, name) == 0)
            return 1;
    return 0;
}

/* What holds where the policy does not speak of it. */
static void check_defaults(const struct policy *policy, const struct evidence *evidence)
{
    static struct value zero = {.number = 0}, up_to_date = {.text = "UpToDate"};
    static const struct {
        const char *name, *other; /* either of the fields speaks of it */
        struct value *value;
    } defaults[] = {{"allow_debug", "allow_debug", &zero},
                    {"allow_migration_agent", "allow_migration_agent", &zero},
                    {"vmpl", "vmpl", &zero},
                    {"tcb_status", "tcb_status", &up_to_date},
                    {"gpu.allow_unmeasured", "gpu.measurement", &zero}};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        for (size_t j = 0; j < FIELDS; j++)
            if (strcmp(fields[j].name, defaults[i].name) == 0 && !policy_names(policy, fields[j].name) &&
                !policy_names(policy, defaults[i].other) && evidence_claim(evidence, fields[j].claim)) {
                const struct requirement requirement = {&fields[j], fields[j].claim, defaults[i].value, 1};
                check_requirement(&requirement, evidence);
            }
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

static void check_type(const struct policy *policy, const struct evidence_format *format, struct verdict *verdict)
{
    struct buffer expected = {0};
    int is_accepted = policy->type_count == 0;
    for (size_t i = 0; i < policy->type_count; i++)
        is_accepted |= strcmp(policy->types[i].text, format->type) == 0;
    append_values(&fields[0], policy->types, policy->type_count, &expected);
    if (policy->type_count == 0)
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
    const struct check *nonce = verdict_find(verdict, "binding.nonce");
    char most[64];
    if (policy->most_age == 0)
        return;
    snprintf(most, sizeof most, "at most %llu s", (unsigned long long)policy->most_age);
    if (evidence->made_at == 0) {
        int is_fresh = nonce && nonce->state == CHECK_PASSED;
        verdict_holds(verdict, "policy.max_age", is_fresh, most, "%s",
                      is_fresh ? "made for this nonce" : "unknown: evidence of this type has no time, and no nonce was given");
        return;
    }
    int64_t age = evidence->time - evidence->made_at;
    verdict_holds(verdict, "policy.max_age", age <= 0 || (uint64_t)age <= policy->most_age, most, "%lld s", (long long)age);
}

/* Fields that say which program runs. */
static int names_program(const struct policy *policy)
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
    if (!names_program(policy))
        verdict_not_made(verdict, "policy.program", "the policy names no measurement: any program is accepted");
    for (size_t i = 0; i < policy->count; i++)
        if (format->is_gpu || !is_of_gpu(policy->requirements[i].field))
            check_requirement(&policy->requirements[i], evidence);
    check_defaults(policy, evidence);
    check_platform_key(policy, evidence);
    check_tpm_key(policy, evidence);
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

int policy_check_model(const struct policy *policy, const uint8_t root[32], struct verdict *verdict)
{
    char hex[2 * HASH_SHA256_BYTES + 1];
    int is_accepted = 0;
    hex_encode(root, HASH_SHA256_BYTES, hex);
    for (size_t i = 0; policy && i < policy->model_count; i++)
        is_accepted |= memcmp(policy->models[i].bytes, root, HASH_SHA256_BYTES) == 0;
    if (policy && policy->model_count > 0)
        return verdict_holds(verdict, "policy.models", is_accepted, "a model root that the policy names", "%s", hex);
    verdict_not_made(verdict, "policy.models", "the policy names no model: any is accepted");
    return 1;
}

/* ---- In sentences ---- */

void policy_explain(const struct policy *policy, struct buffer *out)
{
    buffer_append_text(out, policy->type_count ? "Accepts evidence of type " : "Accepts evidence of any type.\n");
    if (policy->type_count) {
        append_values(&fields[0], policy->types, policy->type_count, out);
        buffer_append_text(out, ".\n");
    }
    for (size_t i = 0; i < policy->count; i++) {
        const struct requirement *requirement = &policy->requirements[i];
        buffer_append_format(out, "The %s", requirement->field->says);
        if (strcmp(requirement->claim, requirement->field->claim) != 0)
            buffer_append_format(out, " %s", requirement->claim);
        buffer_append_text(out, requirement->field->kind == KIND_ALLOW ? ": " : " must be ");
        append_values(requirement->field, requirement->values, requirement->count, out);
        buffer_append_text(out, ".\n");
    }
    if (!names_program(policy))
        buffer_append_text(out, "No measurement is named: any program is accepted.\n");
    if (!policy_names(policy, "allow_debug"))
        buffer_append_text(out, "Debugging must be off.\n");
    if (!policy_names(policy, "tcb_status"))
        buffer_append_text(out, "Where the vendor rates the TCB, it must be UpToDate.\n");
    if (policy->requires_gpu)
        buffer_append_text(out, "A GPU must be attested, and each one that is must be so.\n");
    buffer_append_text(out, policy->allows_simulated ? "SIMULATED evidence is accepted: it proves nothing.\n"
                                                     : "Simulated evidence is refused.\n");
    if (policy->model_count)
        buffer_append_format(out, "The model must be one of %zu named by their roots.\n", policy->model_count);
    if (policy->most_age)
        buffer_append_format(out, "Evidence may be %llu s old.\n", (unsigned long long)policy->most_age);
    if (policy->memory)
        buffer_append_format(out, "The machine must have %llu bytes of memory.\n", (unsigned long long)policy->memory);
    if (policy->gpu_memory)
        buffer_append_format(out, "Its GPU must have %llu bytes of memory.\n", (unsigned long long)policy->gpu_memory);
}
