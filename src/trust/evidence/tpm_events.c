/* The firmware's log of what it measured: "TCG PC Client Platform Firmware Profile Specification" 1.05, 10 (event
 * logging), the crypto-agile format, little-endian. Its digests, extended one after another, must give the quoted values; then
 * the digests are as good as the quote, and nothing else of the log is: the type of an event and its data are what whoever
 * wrote the log says. Whoever owns the system that was started may call what the firmware measured something else, and add
 * events of his own behind it. So data are believed only where their digest covers them, and what an event of PCR 4 or 7
 * is, its data say, not its type.
 *
 * Document: "event_log" (base64), as in /sys/kernel/security/tpm0/binary_bios_measurements. */
#include <string.h>

#include "trust/evidence/tpm.h"

enum {
    MOST_LOGGED = 8, LEGACY_DIGEST = 20, SHA_256 = 0x000b,
    PCR_BOOT_MANAGER = 4, PCR_BOOT_EVENTS = 5, PCR_SECURE_BOOT = 7, FIRST_PCR_OF_SYSTEM = 8,
    MOST_BOOT_LOADERS = 8
};

/* Types of events (10.4.1). */
static const uint32_t no_action = 0x03, separator = 0x04;

static const char spec_id[16] = "Spec ID Event03", locality_event[16] = "StartupLocality";
static const char debug_action[] = "UEFI Debug Mode";
#define INVOCATION "Exit Boot Services Invocation"
#define RETURNED "Exit Boot Services Returned with "
static const uint8_t separators[2][4] = {{0}, {0xff, 0xff, 0xff, 0xff}}; /* the second after an error */
/* What is measured into PCR 4 and is no program (EV_EFI_ACTION, EV_OMIT_BOOT_DEVICE_EVENTS). */
static const char *const boot_actions[] = {"Calling EFI Application from Boot Option",
                                           "Returning from EFI Application from Boot Option", "BOOT ATTEMPTS OMITTED"};
/* EFI_GLOBAL_VARIABLE, "SecureBoot" in UTF-16 */
static const uint8_t global_variable[16] = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11,
                                            0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c};
static const uint8_t secure_boot_name[20] = {'S', 0, 'e', 0, 'c', 0, 'u', 0, 'r', 0, 'e', 0, 'B', 0, 'o', 0, 'o', 0, 't', 0};

struct event {
    uint32_t pcr, type;
    const uint8_t *digests[TPM_ALGORITHMS]; /* NULL: the log has no such bank */
    const uint8_t *data;
    size_t length;
};

struct log {
    struct evidence *evidence;
    struct verdict *verdict;
    const struct tpm_pcrs *quoted;
    struct reader reader;
    uint16_t ids[MOST_LOGGED]; /* the log's hashes, and their sizes */
    size_t sizes[MOST_LOGGED], hash_count;
    uint8_t replayed[TPM_ALGORITHMS][FIRST_PCR_OF_SYSTEM][TPM_LONGEST_DIGEST];
    uint32_t extended, separated; /* PCRs of which there was such an event */
    size_t localities, events;
    int locality_is_right, data_is_right;
    int secure_boot; /* -1: not said */
    int debugs;
    const uint8_t *boot_loaders[MOST_BOOT_LOADERS];
    size_t boot_loader_count;
};

/* ---- Reading ---- */

/* TCG_EfiSpecIdEvent (10.4.5.1): which hashes the log has, in an event of the old format. */
static int read_spec_id(struct log *log)
{
    static const uint8_t zeros[LEGACY_DIGEST];
    struct reader *reader = &log->reader;
    uint32_t pcr = reader_u32(reader), type = reader_u32(reader);
    const uint8_t *digest = reader_bytes(reader, LEGACY_DIGEST);
    uint32_t length = reader_u32(reader);
    const uint8_t *bytes = reader_bytes(reader, length);
    if (!digest || !bytes || pcr != 0 || type != no_action || memcmp(digest, zeros, sizeof zeros) != 0)
        return 0;
    struct reader inner = reader_over(bytes, length);
    const uint8_t *signature = reader_bytes(&inner, sizeof spec_id);
    reader_u32(&inner); /* platformClass */
    reader_u8(&inner);  /* specVersionMinor */
    uint8_t major = reader_u8(&inner);
    reader_u16(&inner); /* specErrata, uintnSize */
    uint32_t count = reader_u32(&inner);
    if (!signature || memcmp(signature, spec_id, sizeof spec_id) != 0 || major != 2 || count == 0 || count > MOST_LOGGED)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        log->ids[i] = reader_u16(&inner);
        log->sizes[i] = reader_u16(&inner);
        int algorithm = tpm_algorithm_find(log->ids[i]);
        if (algorithm >= 0 && tpm_algorithms[algorithm].size != log->sizes[i])
            return 0;
        for (uint32_t j = 0; j < i; j++)
            if (log->ids[j] == log->ids[i])
                return 0;
    }
    log->hash_count = count;
    reader_bytes(&inner, reader_u8(&inner)); /* vendorInfo */
    return !inner.failed && reader_left(&inner) == 0;
}

/* TCG_PCR_EVENT2 (10.2.2): none of the log's hashes twice. Some firmware leaves hashes out. */
static int read_event(struct log *log, struct event *event)
{
    struct reader *reader = &log->reader;
    uint32_t seen = 0;
    *event = (struct event){.pcr = reader_u32(reader)};
    event->type = reader_u32(reader);
    uint32_t count = reader_u32(reader);
    if (count > log->hash_count)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t id = reader_u16(reader);
        size_t at = 0;
        while (at < log->hash_count && log->ids[at] != id)
            at++;
        if (at == log->hash_count || seen >> at & 1)
            return 0;
        seen |= 1u << at;
        const uint8_t *digest = reader_bytes(reader, log->sizes[at]);
        if (tpm_algorithm_find(id) >= 0)
            event->digests[tpm_algorithm_find(id)] = digest;
    }
    event->length = reader_u32(reader);
    event->data = reader_bytes(reader, event->length);
    return !reader->failed && (event->pcr < TPM_PCRS || event->type == no_action);
}

/* ---- Events ---- */

/* EV_NO_ACTION events extend nothing; one of them says from where the TPM was started, which is PCR 0's first value. */
static void take_no_action(struct log *log, const struct event *event)
{
    if (event->length < sizeof locality_event || memcmp(event->data, locality_event, sizeof locality_event) != 0)
        return;
    uint8_t locality = event->length > sizeof locality_event ? event->data[sizeof locality_event] : 0xff;
    log->localities++;
    log->locality_is_right = event->pcr == 0 && log->localities == 1 && !(log->extended & 1) &&
                             (locality == 0 || locality == 3 || locality == 4);
    for (size_t i = sizeof locality_event + 1; i < event->length; i++) /* padding of fixed places */
        log->locality_is_right &= event->data[i] == 0;
    for (int i = 0; i < TPM_ALGORITHMS && log->locality_is_right; i++)
        log->replayed[i][0][tpm_algorithms[i].size - 1] = locality;
}

static void extend(struct log *log, const struct event *event)
{
    uint8_t both[2 * TPM_LONGEST_DIGEST];
    for (int i = 0; i < TPM_ALGORITHMS && event->pcr < FIRST_PCR_OF_SYSTEM; i++) {
        size_t size = tpm_algorithms[i].size;
        if (!event->digests[i])
            continue;
        memcpy(both, log->replayed[i][event->pcr], size);
        memcpy(both + size, event->digests[i], size);
        if (EVP_Q_digest(NULL, tpm_algorithms[i].digest, NULL, both, 2 * size, log->replayed[i][event->pcr], NULL) != 1)
            bulla_fail(&log->verdict->error, BULLA_E_INTERNAL, "%s failed", tpm_algorithms[i].name);
    }
    log->extended |= 1u << event->pcr;
}

/* Whether the digests of the quoted banks are those of the event's data. */
static int covers_data(const struct log *log, const struct event *event)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    for (int i = 0; i < TPM_ALGORITHMS; i++)
        if (log->quoted->given[i] >> event->pcr & 1 &&
            (!event->digests[i] ||
             EVP_Q_digest(NULL, tpm_algorithms[i].digest, NULL, event->data, event->length, digest, NULL) != 1 ||
             memcmp(digest, event->digests[i], tpm_algorithms[i].size) != 0))
            return 0;
    return 1;
}

/* UEFI_VARIABLE_DATA (10.4.3.1). Without the variable, or with several that differ, secure boot is off. */
static void take_variable(struct log *log, const struct event *event)
{
    struct reader reader = reader_over(event->data, event->length);
    const uint8_t *owner = reader_bytes(&reader, sizeof global_variable);
    uint64_t characters = reader_u64(&reader), length = reader_u64(&reader);
    const uint8_t *name = characters == sizeof secure_boot_name / 2 ? reader_bytes(&reader, sizeof secure_boot_name) : NULL;
    const uint8_t *value = reader_bytes(&reader, length);
    if (!owner || !name || memcmp(owner, global_variable, sizeof global_variable) != 0 ||
        memcmp(name, secure_boot_name, sizeof secure_boot_name) != 0)
        return;
    log->secure_boot = log->secure_boot != 0 && value && length == 1 && value[0] == 1 && reader_left(&reader) == 0;
}

static int is_separator(const struct event *event)
{
    return event->length == sizeof separators[0] && (memcmp(event->data, separators[0], sizeof separators[0]) == 0 ||
                                                     memcmp(event->data, separators[1], sizeof separators[1]) == 0);
}

static int is_boot_action(const struct event *event)
{
    for (size_t i = 0; i < sizeof boot_actions / sizeof *boot_actions; i++)
        if (event->length == strlen(boot_actions[i]) && memcmp(event->data, boot_actions[i], event->length) == 0)
            return 1;
    return 0;
}

/* Before its separator only the firmware measures into PCR 7, and only what its digests cover; what is behind it anyone may
 * have written. In PCR 4 all is a program but separators and what is known to be none. */
static void take_event(struct log *log, const struct event *event)
{
    int is_covered = covers_data(log, event), is_of_firmware = !(log->separated >> event->pcr & 1);
    if (event->type == separator || (event->pcr == PCR_SECURE_BOOT && is_of_firmware))
        log->data_is_right &= is_covered;
    if (event->pcr == PCR_SECURE_BOOT && is_of_firmware) {
        take_variable(log, event);
        log->debugs |= event->length >= sizeof debug_action - 1 &&
                       memcmp(event->data, debug_action, sizeof debug_action - 1) == 0;
    }
    if (event->pcr == PCR_BOOT_MANAGER && !(is_covered && (is_separator(event) || is_boot_action(event))) &&
        log->boot_loader_count++ < MOST_BOOT_LOADERS)
        log->boot_loaders[log->boot_loader_count - 1] = event->digests[tpm_algorithm_find(SHA_256)];
    if (is_covered && is_separator(event))
        log->separated |= 1u << event->pcr;
}

static int read_events(struct log *log)
{
    struct event event;
    while (reader_left(&log->reader) > 0) {
        if (!read_event(log, &event))
            return verdict_fails(log->verdict, "tpm.log.form", "event %zu, which ends at byte %zu, is malformed",
                                 log->events + 1, log->reader.offset);
        log->events++;
        if (event.type == no_action) {
            take_no_action(log, &event);
            continue;
        }
        extend(log, &event);
        take_event(log, &event);
    }
    return verdict_holds(log->verdict, "tpm.log.form", 1, "events", "%zu events", log->events);
}

/* ---- Checks ---- */

static void check_banks(struct log *log)
{
    const char *missing = NULL;
    for (int i = 0; i < TPM_ALGORITHMS; i++) {
        size_t at = 0;
        while (at < log->hash_count && log->ids[at] != tpm_algorithms[i].id)
            at++;
        if (log->quoted->given[i] && at == log->hash_count)
            missing = tpm_algorithms[i].name;
    }
    verdict_holds(log->verdict, "tpm.log.banks", !missing, "each quoted bank", "%s%s", missing ? "not " : "all",
                  missing ? missing : "");
}

/* What may be extended behind a firmware's log: its last events, which some leave out of it, and systemd's mark at the end
 * of the firmware's registers. */
static const struct unlogged {
    int pcr; /* -1: each */
    const char *texts[5];
} unlogged[] = {
    {-1, {NULL}},
    {-1, {"os-separator"}},
    {PCR_BOOT_EVENTS, {INVOCATION, RETURNED "Success"}},
    {PCR_BOOT_EVENTS, {INVOCATION, RETURNED "Success", "os-separator"}},
    {PCR_BOOT_EVENTS, {INVOCATION, RETURNED "Failure"}},
    {PCR_BOOT_EVENTS, {INVOCATION, RETURNED "Failure", INVOCATION, RETURNED "Success"}},
    {PCR_BOOT_EVENTS, {INVOCATION, RETURNED "Failure", INVOCATION, RETURNED "Success", "os-separator"}},
};

/* Whether the log's events, and perhaps some of these behind them, give the quoted value. */
static int gives(struct log *log, int algorithm, int pcr)
{
    const char *digest = tpm_algorithms[algorithm].digest;
    size_t size = tpm_algorithms[algorithm].size;
    for (size_t i = 0; i < sizeof unlogged / sizeof *unlogged; i++) {
        uint8_t both[2 * TPM_LONGEST_DIGEST], value[TPM_LONGEST_DIGEST];
        int is_made = unlogged[i].pcr < 0 || unlogged[i].pcr == pcr;
        memcpy(value, log->replayed[algorithm][pcr], size);
        for (size_t k = 0; k < 5 && unlogged[i].texts[k] && is_made; k++) {
            const char *text = unlogged[i].texts[k];
            memcpy(both, value, size);
            is_made = EVP_Q_digest(NULL, digest, NULL, text, strlen(text), both + size, NULL) == 1 &&
                      EVP_Q_digest(NULL, digest, NULL, both, 2 * size, value, NULL) == 1;
        }
        if (is_made && memcmp(value, log->quoted->values[algorithm][pcr], size) == 0)
            return 1;
    }
    return 0;
}

/* The firmware's PCRs are as replayed. Into the others systems measure without this log, and no claim is of them. */
static int check_replay(struct log *log)
{
    size_t compared = 0;
    for (int i = 0; i < TPM_ALGORITHMS; i++)
        for (int pcr = 0; pcr < FIRST_PCR_OF_SYSTEM; pcr++) {
            if (!(log->quoted->given[i] >> pcr & 1))
                continue;
            compared++;
            if (!gives(log, i, pcr))
                return verdict_fails(log->verdict, "tpm.log.replay", "PCR %d of %s is another than the log gives", pcr,
                                     tpm_algorithms[i].name);
        }
    if (compared > 0)
        return verdict_holds(log->verdict, "tpm.log.replay", 1, "the quoted values", "%zu of them", compared);
    verdict_not_made(log->verdict, "tpm.log.replay", "none of PCR 0 to 7 is quoted, and the log is of these");
    return 0;
}

static void claim(struct log *log)
{
    /* Of SHA-256 alone: a bank that firmware does not extend, the system may have filled. */
    int sha256 = tpm_algorithm_find(SHA_256), secure_boot_is_quoted = log->quoted->given[sha256] >> PCR_SECURE_BOOT & 1;
    if (secure_boot_is_quoted && log->secure_boot >= 0 && log->separated >> PCR_SECURE_BOOT & 1)
        evidence_claim_flag(log->evidence, "secure_boot", log->secure_boot);
    if (secure_boot_is_quoted || log->debugs)
        evidence_claim_flag(log->evidence, "debug", log->debugs);
    if (!(log->quoted->given[sha256] >> PCR_BOOT_MANAGER & 1))
        return;
    evidence_claim_number(log->evidence, "boot_loaders", log->boot_loader_count);
    for (unsigned i = 0; i < log->boot_loader_count && i < MOST_BOOT_LOADERS; i++)
        if (log->boot_loaders[i])
            evidence_claim_slot(log->evidence, "boot_loader", i, log->boot_loaders[i], tpm_algorithms[sha256].size);
}

void tpm_check_event_log(struct evidence *evidence, const struct tpm_pcrs *pcrs)
{
    struct verdict *verdict = evidence->verdict;
    struct log log = {.evidence = evidence, .verdict = verdict, .quoted = pcrs, .data_is_right = 1, .secure_boot = -1};
    size_t length;
    if (!json_get(evidence->document, "event_log")) {
        verdict_not_made(verdict, "tpm.log", "the document has no event log: the PCRs' values stand for themselves");
        return;
    }
    const uint8_t *bytes = evidence_bytes(evidence, "tpm.log", "event_log", TPM_MOST_LOG, &length);
    if (!bytes)
        return;
    log.reader = reader_over(bytes, length);
    if (!verdict_is(verdict, "tpm.log.spec_id", read_spec_id(&log), "\"Spec ID Event03\" of version 2 as the first event"))
        return;
    check_banks(&log);
    if (!read_events(&log))
        return;
    if (log.localities)
        verdict_holds(verdict, "tpm.log.startup_locality", log.locality_is_right, "0, 3 or 4, once, before PCR 0 is extended",
                      "%zu such events%s", log.localities, log.locality_is_right ? "" : ", not so");
    else
        verdict_not_made(verdict, "tpm.log.startup_locality", "the log does not say it: PCR 0 begins with zeros");
    verdict_is(verdict, "tpm.log.event_data", log.data_is_right, "digests of the data, where the data are believed");
    if (check_replay(&log) && log.data_is_right)
        claim(&log);
}
