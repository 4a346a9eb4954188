/* Policies in sentences, and what of them is for others than verifiers. */
#include <string.h>

#include "trust/policy_parts.h"

/* What the fields are about. */
static const struct {
    const char *field, *words;
} words[] = {
    {"launch_measurement", "launch measurement"},
    {"mrenclave", "enclave measurement (MRENCLAVE)"},
    {"mrsigner", "enclave signer (MRSIGNER)"},
    {"mrtd", "trust domain measurement (MRTD)"},
    {"mrseam", "TDX module measurement (MRSEAM)"},
    {"mrconfigid", "trust domain's configuration (MRCONFIGID)"},
    {"mrowner", "trust domain's owner (MROWNER)"},
    {"mrownerconfig", "owner's configuration (MROWNERCONFIG)"},
    {"mrservicetd", "bound service domains (MRSERVICETD)"},
    {"td_attributes", "trust domain's ATTRIBUTES"},
    {"xfam", "trust domain's XFAM"},
    {"sgx_attributes", "enclave's ATTRIBUTES"},
    {"rtmr", "runtime measurement register (RTMR)"},
    {"pcr", "platform configuration register (PCR)"},
    {"measurement", "measurement"},
    {"signer_info", "signer of the program"},
    {"rem", "realm extensible measurement (REM)"},
    {"personalization_value", "realm personalization value"},
    {"platform_key", "SHA-256 of the platform's attestation key"},
    {"implementation_id", "kind of the platform"},
    {"instance_id", "instance of the platform"},
    {"platform_config", "configuration of the platform"},
    {"sw_components", "number of the platform's components"},
    {"sw_component", "measurement of the platform's component"},
    {"sw_signer", "signer of the platform's component"},
    {"module_id", "enclave's name (module id)"},
    {"public_key", "SHA-256 of the enclave's public key, in place of a binding to keys"},
    {"host_data", "host data"},
    {"config_id", "configuration id"},
    {"isv_ext_prod_id", "extended product number of the enclave"},
    {"isv_family_id", "family of the enclave"},
    {"report_data", "report data, in place of a binding to keys"},
    {"vmpl", "privilege level (VMPL)"},
    {"isv_prod_id", "product number of the enclave"},
    {"minimum_isv_svn", "version of the enclave"},
    {"minimum_config_svn", "version of the enclave's configuration"},
    {"minimum_guest_svn", "version of the guest"},
    {"minimum_tcb", "part of the TCB"},
    {"minimum_tcb_date", "date of the TCB (yyyymmdd)"},
    {"tcb_status", "status of the TCB"},
    {"allow_debug", "debugging"},
    {"allow_migration_agent", "migration agents"},
    {"allow_smt", "simultaneous multithreading"},
    {"tpm_key", "SHA-256 of the TPM's attestation key"},
    {"tpm_name", "TPM's name of its attestation key"},
    {"tpm_vendor", "root that certifies the TPM's attestation key"},
    {"firmware_version", "version of the TPM's firmware"},
    {"boot_loader", "digest of a program that the firmware starts, by its place"},
    {"secure_boot", "secure boot"},
    {"gpu.driver_version", "version of the GPU's driver"},
    {"gpu.vbios_version", "version of the GPU's VBIOS"},
    {"gpu.chip", "GPU's chip"},
    {"gpu.sku", "GPU's product number"},
    {"gpu.measurement", "GPU's measurement"},
    {"gpu.allow_unmeasured", "a GPU whose measurements nothing was compared with"},
};

static const char *words_of(const struct policy_field *field)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].field, field->name) == 0)
            return words[i].words;
    return field->name;
}

uint64_t policy_memory(const struct policy *policy)
{
    return policy->memory;
}

uint64_t policy_gpu_memory(const struct policy *policy)
{
    return policy->gpu_memory;
}

void policy_explain(const struct policy *policy, struct buffer *out)
{
    buffer_append_text(out, policy->type_count ? "Accepts evidence of type " : "Accepts evidence of any type (a GPU's alone only by its report data).\n");
    if (policy->type_count) {
        policy_append_values(NULL, policy->types, policy->type_count, out);
        buffer_append_text(out, ".\n");
    }
    for (size_t i = 0; i < policy->count; i++) {
        const struct policy_requirement *requirement = &policy->requirements[i];
        buffer_append_format(out, "The %s", words_of(requirement->field));
        if (strcmp(requirement->claim, requirement->field->claim) != 0)
            buffer_append_format(out, " %s", requirement->claim);
        buffer_append_text(out, requirement->field->kind == KIND_ALLOW ? ": " : " must be ");
        policy_append_values(requirement->field, requirement->values, requirement->count, out);
        buffer_append_text(out, ".\n");
    }
    if (policy->boot_loaders)
        buffer_append_format(out, "The firmware must not have started more than %llu program%s.\n",
                             (unsigned long long)policy->boot_loaders, policy->boot_loaders == 1 ? "" : "s");
    if (!policy_names_program(policy))
        buffer_append_text(out, "No measurement is named: any program is accepted.\n");
    if (!policy_names(policy, "allow_debug"))
        buffer_append_text(out, "Debugging must be off, where the evidence says it.\n");
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
