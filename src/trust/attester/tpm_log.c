#include "trust/attester/tpm_log.h"

#include <errno.h>
#include <unistd.h>

#include "trust/attester/kernel_file.h"
#include "trust/evidence/tpm.h"

static const char default_path[] = "/sys/kernel/security/tpm0/binary_bios_measurements";

const char *tpm_log_path(const struct attester_options *options)
{
    return options->tpm_event_log ? options->tpm_event_log : options->tpm_tcti ? NULL : default_path;
}

/* As long as the kernel gives it: its file says no length. */
int tpm_log_read(const char *path, struct buffer *log, bulla_error *error)
{
    bulla_error own = {0};
    size_t before = log->length;
    if (!path || (access(path, R_OK) != 0 && (errno == ENOENT || errno == EACCES)))
        return BULLA_OK;
    int code = kernel_file_read(path, TPM_MOST_LOG, 0, log, &own);
    if (code == BULLA_OK)
        return code;
    buffer_cut(log, before);
    if (code != BULLA_E_LIMIT)
        return bulla_fail(error, code, "%s", own.text);
    return bulla_fail(error, code,
                      "%s: the firmware's event log has more than %d MiB, and evidence is made without it: policies that ask for "
                      "secure_boot or boot_loader will refuse it, so let them name PCRs, or restart the machine where something "
                      "has added to the log since its start", path, TPM_MOST_LOG >> 20);
}
