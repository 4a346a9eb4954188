/* The attesters, with the kernel's interfaces played: a folder in the shape of configfs-tsm's, Gramine's files, the Nitro
 * Secure Module's ioctl. They give evidence of real hardware, which then verifies. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "evidence_document.h"
#include "folder.h"
#include "trust/attester.h"
#include "trust/attester/tpm_log.h"

static uint8_t asked[ATTESTER_DATA];

static const uint8_t *wanted_data(void)
{
    static uint8_t data[ATTESTER_DATA];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 1);
    return data;
}

static void write_file(const char *path, const void *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    if (length)
        assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static size_t read_file(const char *path, void *bytes, size_t most)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t length = fread(bytes, 1, most, file);
    fclose(file);
    return length;
}

/* ---- A file whose content is made when it is read ---- */

struct served {
    char path[600], source[600];   /* what was written to `source` is what was asked */
    const void *bytes;
    size_t length;
    void (*more)(struct served *served); /* happens beside the reading */
    char folder[600];
    pthread_t thread;
    int is_served;
};

static void *serve(void *context)
{
    struct served *served = context;
    int descriptor = open(served->path, O_WRONLY); /* until somebody reads */
    if (descriptor < 0)
        return NULL;
    memset(asked, 0, sizeof asked);
    read_file(served->source, asked, sizeof asked);
    for (size_t done = 0; done < served->length;) {
        ssize_t written = write(descriptor, (const uint8_t *)served->bytes + done, served->length - done);
        if (written <= 0)
            break;
        done += (size_t)written;
    }
    if (served->more)
        served->more(served);
    close(descriptor);
    return NULL;
}

static void start_serving(struct served *served)
{
    assert_int_equal(mkfifo(served->path, 0600), 0);
    served->is_served = 1;
    assert_int_equal(pthread_create(&served->thread, NULL, serve, served), 0);
}

/* Also where nobody read. */
static void stop_serving(struct served *served)
{
    if (!served->is_served)
        return;
    served->is_served = 0;
    int descriptor = open(served->path, O_RDONLY | O_NONBLOCK);
    pthread_join(served->thread, NULL);
    if (descriptor >= 0)
        close(descriptor);
}

/* ---- configfs-tsm: folders that are made get files, folders that are removed lose them ---- */

static struct {
    const char *provider;
    const void *report, *auxiliary;
    size_t report_length, auxiliary_length;
    int refuses;         /* errno of mkdir */
    int is_disturbed;    /* someone else writes too */
    unsigned made, removed;
    struct served served;
} tsm;

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);

static const char *of_request(const char *folder_path, const char *name)
{
    static char path[8][600];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder_path, name);
    return path[turn];
}

/* The report is read: the one write before it has been counted. */
static void count_write(struct served *served)
{
    write_file(of_request(served->folder, "generation"), tsm.is_disturbed ? "9\n" : "8\n", 2);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    if (tsm.refuses) {
        errno = tsm.refuses;
        return -1;
    }
    if (__real_mkdir(path, mode) != 0)
        return -1;
    tsm.made++;
    write_file(of_request(path, "generation"), "7\n", 2);
    write_file(of_request(path, "inblob"), "", 0);
    write_file(of_request(path, "provider"), tsm.provider, strlen(tsm.provider));
    if (tsm.auxiliary)
        write_file(of_request(path, "auxblob"), tsm.auxiliary, tsm.auxiliary_length);
    tsm.served = (struct served){.bytes = tsm.report, .length = tsm.report_length, .more = count_write};
    snprintf(tsm.served.folder, sizeof tsm.served.folder, "%s", path);
    snprintf(tsm.served.path, sizeof tsm.served.path, "%s", of_request(path, "outblob"));
    snprintf(tsm.served.source, sizeof tsm.served.source, "%s", of_request(path, "inblob"));
    start_serving(&tsm.served);
    return 0;
}

int __wrap_rmdir(const char *path)
{
    if (tsm.made > tsm.removed && strcmp(path, tsm.served.folder) == 0) {
        tsm.removed++;
        stop_serving(&tsm.served);
        static const char *const names[] = {"generation", "inblob", "provider", "auxblob", "outblob"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            remove(of_request(path, names[i]));
    }
    return __real_rmdir(path);
}

static void play_tsm(const char *provider, const void *report, size_t length)
{
    memset(&tsm, 0, sizeof tsm);
    tsm.provider = provider;
    tsm.report = report;
    tsm.report_length = length;
}

/* ---- Quotes ---- */

static int take_quote(const struct attester *attester, const struct attester_options *options, struct buffer *document,
                      bulla_error *error)
{
    void *state = NULL;
    struct buffer own = {0};
    int code = attester->open(options, &state, error);
    if (code == BULLA_OK) {
        code = attester->quote(state, wanted_data(), &own, error);
        attester->close(state);
    }
    buffer_clear(document);
    if (code == BULLA_OK) /* the document that an attestation would make of it, without a binding */
        buffer_append_format(document, "{\"bulla_evidence\":1,%s", (const char *)own.data + 1);
    buffer_free(&own);
    return code;
}

static void add_member(struct buffer *document, const char *name, const char *value)
{
    buffer_cut(document, document->length - 1);
    buffer_append_format(document, ",\"%s\":%s}", name, value);
}

static void check_passes(const struct buffer *document, const char *type, const uint8_t *report_data, const char *more,
                         const char *date)
{
    char policy[400], hex[129];
    hex_encode(report_data, 64, hex);
    snprintf(policy, sizeof policy, "{\"type\":\"%s\",\"report_data\":\"%s\"%s}", type, hex, more);
    bulla_verdict *verdict = evidence_judge(document, policy, evidence_time(date));
    assert_string_equal(evidence_failures(verdict), "");
    assert_true(bulla_verdict_passed(verdict));
    bulla_verdict_free(verdict);
}

static void add_row(struct buffer *table, const char *guid, size_t offset, size_t length)
{
    uint8_t bytes[16];
    assert_true(hex_decode(guid, 32, bytes, 16));
    buffer_append(table, bytes, 16);
    buffer_append_u32(table, (uint32_t)offset);
    buffer_append_u32(table, (uint32_t)length);
}

static const char vcek[] = "63da758de6644564adc5f4b93be8accd", vcek_mixed[] = "8d75da6364e66445adc5f4b93be8accd",
                  ask[] = "4ab7b379bbac4fe4a02f05aef327c782",
                  other[] = "00112233445566778899aabbccddeeff", end[] = "00000000000000000000000000000000";

/* The host's table: VCEK in DER, ASK and ARK together in PEM under ASK's GUID, as the file of vectors has them. */
static void make_table(struct buffer *table, const char *leaf_guid)
{
    enum { ROWS = 4 * 24 };
    size_t leaf_length, issuers_length;
    uint8_t *leaf = evidence_file(evidence_folder("snp"), "milan-v2-vcek.der", &leaf_length);
    uint8_t *issuers = evidence_file(evidence_folder("snp"), "ask_ark_milan.pem", &issuers_length);
    buffer_clear(table);
    add_row(table, other, ROWS, 7);
    add_row(table, ask, ROWS + leaf_length, issuers_length + 1);
    add_row(table, leaf_guid, ROWS, leaf_length);
    add_row(table, end, 0, 0);
    buffer_append(table, leaf, leaf_length);
    buffer_append(table, issuers, issuers_length + 1); /* NUL behind it */
    memory_free(leaf);
    memory_free(issuers);
}

static void snp_by_configfs(void **state)
{
    if (!evidence_folder("snp"))
        skip();
    size_t length;
    uint8_t *report = evidence_file(evidence_folder("snp"), "milan-v2-report.bin", &length);
    struct attester_options options = {.tsm = folder, .gramine = "/nowhere", .nsm = "/nowhere", .tpm_device = "/nowhere"};
    struct buffer document = {0}, table = {0};
    bulla_error error = {0};
    for (int is_mixed = 0; is_mixed <= 1; is_mixed++) {
        play_tsm("sev_guest\n", report, length);
        make_table(&table, is_mixed ? vcek_mixed : vcek);
        tsm.auxiliary = table.data;
        tsm.auxiliary_length = table.length;
        assert_ptr_equal(attester_find(&options), &attester_tsm);
        assert_ok(take_quote(&attester_tsm, &options, &document, &error), error);
        assert_memory_equal(asked, wanted_data(), ATTESTER_DATA);
        check_passes(&document, "snp", report + 0x50, ",\"allow_debug\":true", "2023-06-01");
        assert_int_equal(tsm.made, 2); /* one to look whether it is there */
        assert_int_equal(tsm.removed, 2);
    }
    /* Tables that lie: rows without end, outside. */
    table.data[24 * 2 + 20] = 0xff;
    table.data[24 * 2 + 23] = 0xff;
    assert_int_equal(take_quote(&attester_tsm, &options, &document, &error), BULLA_E_INPUT);
    assert_non_null(strstr(error.text, "outside"));
    bulla_error_clear(&error);
    tsm.auxiliary_length = 24 * 2;
    make_table(&table, vcek);
    tsm.auxiliary = table.data;
    table.data[20] = table.data[24 + 20] = 1;
    memset(table.data + 21, 0, 3);
    memset(table.data + 24 + 21, 0, 3);
    memset(table.data + 16, 0, 4);
    memset(table.data + 24 + 16, 0, 4);
    assert_int_equal(take_quote(&attester_tsm, &options, &document, &error), BULLA_E_INPUT);
    assert_non_null(strstr(error.text, "last row"));
    bulla_error_clear(&error);
    tsm.auxiliary = NULL; /* no table: without certificates */
    assert_ok(take_quote(&attester_tsm, &options, &document, &error), error);
    assert_null(strstr((char *)document.data, "certificates"));
    assert_int_equal(tsm.made, tsm.removed);
    buffer_free(&document);
    buffer_free(&table);
    memory_free(report);
}

static void tdx_by_configfs(void **state)
{
    if (!evidence_folder("tdx"))
        skip();
    size_t length, collateral_length;
    uint8_t *quote = evidence_file(evidence_folder("tdx"), "quote.bin", &length);
    struct attester_options options = {.tsm = folder};
    struct buffer document = {0};
    bulla_error error = {0};
    play_tsm("tdx_guest\n", quote, length);
    tsm.auxiliary = "";
    assert_ok(take_quote(&attester_tsm, &options, &document, &error), error);
    uint8_t *collateral = evidence_file(evidence_folder("tdx"), "collateral.json", &collateral_length);
    add_member(&document, "collateral", (const char *)collateral);
    check_passes(&document, "tdx", quote + 48 + 520, "", "2025-06-20");
    assert_memory_equal(asked, wanted_data(), ATTESTER_DATA);
    play_tsm("arm_cca_guest\n", "token", 5);
    assert_ok(take_quote(&attester_tsm, &options, &document, &error), error);
    assert_string_equal((char *)document.data, "{\"bulla_evidence\":1,\"type\":\"cca\",\"token\":\"dG9rZW4=\"}");
    buffer_free(&document);
    memory_free(collateral);
    memory_free(quote);
}

static void trouble_with_configfs(void **state)
{
    struct attester_options options = {.tsm = folder, .gramine = "/nowhere", .nsm = "/nowhere", .tpm_device = "/nowhere"};
    struct buffer document = {0};
    bulla_error error = {0};
    play_tsm("sev_guest\n", "report", 6);
    tsm.is_disturbed = 1;
    assert_int_equal(take_quote(&attester_tsm, &options, &document, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "from 7 to 9 with one write"));
    bulla_error_clear(&error);
    assert_int_equal(tsm.made, tsm.removed);
    play_tsm("sev_guests\n", "report", 6);
    assert_int_equal(take_quote(&attester_tsm, &options, &document, &error), BULLA_E_UNSUPPORTED);
    assert_non_null(strstr(error.text, "\"sev_guests\""));
    bulla_error_clear(&error);
    static const uint8_t many[70000];
    play_tsm("sev_guest\n", many, sizeof many);
    assert_int_equal(take_quote(&attester_tsm, &options, &document, &error), BULLA_E_LIMIT);
    bulla_error_clear(&error);
    play_tsm("", "report", 6);
    tsm.refuses = EACCES; /* it is there, and says so when it is asked */
    assert_ptr_equal(attester_find(&options), &attester_tsm);
    assert_int_equal(take_quote(&attester_tsm, &options, &document, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "Permission denied"));
    tsm.refuses = ENXIO; /* a kernel without a provider */
    assert_null(attester_find(&options));
    options.tsm = "/nowhere";
    assert_null(attester_find(&options));
    buffer_free(&document);
}

/* ---- Gramine ---- */

static void sgx_by_gramine(void **state)
{
    if (!evidence_folder("sgx"))
        skip();
    size_t length, collateral_length;
    uint8_t *quote = evidence_file(evidence_folder("sgx"), "quote.bin", &length);
    uint8_t *collateral = evidence_file(evidence_folder("sgx"), "collateral.json", &collateral_length);
    struct attester_options options = {.tsm = "/nowhere", .gramine = folder, .nsm = "/nowhere", .tpm_device = "/nowhere"};
    struct buffer document = {0};
    bulla_error error = {0};
    struct served served = {.bytes = quote, .length = length};
    assert_null(attester_find(&options));
    snprintf(served.path, sizeof served.path, "%s", in_folder("quote"));
    snprintf(served.source, sizeof served.source, "%s", in_folder("user_report_data"));
    write_file(served.source, "", 0);
    write_file(in_folder("attestation_type"), "dcap", 4);
    start_serving(&served);
    assert_ptr_equal(attester_find(&options), &attester_gramine);
    assert_ok(take_quote(&attester_gramine, &options, &document, &error), error);
    stop_serving(&served);
    assert_memory_equal(asked, wanted_data(), ATTESTER_DATA);
    add_member(&document, "collateral", (const char *)collateral);
    check_passes(&document, "sgx", quote + 48 + 320, ",\"tcb_status\":\"ConfigurationAndSWHardeningNeeded\"", "2025-06-20");
    write_file(in_folder("attestation_type"), "epid", 4);
    assert_int_equal(take_quote(&attester_gramine, &options, &document, &error), BULLA_E_UNSUPPORTED);
    assert_non_null(strstr(error.text, "\"epid\""));
    empty_folder();
    buffer_free(&document);
    memory_free(collateral);
    memory_free(quote);
}

/* ---- The Nitro Secure Module ---- */

static struct {
    const void *answer;
    size_t length;
    int number; /* errno */
    uint8_t request[512];
    size_t request_length;
    unsigned long call;
} nsm;

static int play_nsm(int descriptor, unsigned long request, void *message)
{
    struct {
        uint64_t request, request_length, response, response_length;
    } parts;
    memcpy(&parts, message, sizeof parts);
    nsm.call = request;
    nsm.request_length = (size_t)parts.request_length;
    assert_true(parts.request_length <= sizeof nsm.request);
    memcpy(nsm.request, (const void *)(uintptr_t)parts.request, nsm.request_length);
    if (nsm.number) {
        errno = nsm.number;
        nsm.number = nsm.number == EINTR ? 0 : nsm.number;
        return -1;
    }
    assert_int_equal(parts.response_length, 0x3000);
    if (nsm.length <= parts.response_length)
        memcpy((void *)(uintptr_t)parts.response, nsm.answer, nsm.length);
    parts.response_length = nsm.length;
    memcpy(message, &parts, sizeof parts);
    return 0;
}

static void nitro_by_nsm(void **state)
{
    if (!evidence_folder("nitro"))
        skip();
    size_t length;
    uint8_t *made = evidence_file(evidence_folder("nitro"), "document.cose", &length);
    struct attester_options options = {.tsm = "/nowhere", .gramine = "/nowhere", .nsm = "/dev/null",
                                       .tpm_device = "/nowhere", .nsm_call = play_nsm};
    struct buffer answer = {0}, document = {0};
    bulla_error error = {0};
    buffer_append(&answer, "\xa1\x6b" "Attestation\xa1\x68" "document\x59", 24);
    buffer_append_byte(&answer, (uint8_t)(length >> 8));
    buffer_append_byte(&answer, (uint8_t)length);
    buffer_append(&answer, made, length);
    memset(&nsm, 0, sizeof nsm);
    nsm.answer = answer.data;
    nsm.length = answer.length;
    nsm.number = EINTR; /* once */
    assert_ptr_equal(attester_find(&options), &attester_nsm);
    assert_ok(take_quote(&attester_nsm, &options, &document, &error), error);
    /* {"Attestation": {"user_data": h'...', "nonce": null, "public_key": null}} */
    static const char before[] = "a16b4174746573746174696f6ea369757365725f646174615840",
                      after[] = "656e6f6e6365f66a7075626c69635f6b6579f6";
    char hex[2 * sizeof nsm.request + 1];
    hex_encode(nsm.request, nsm.request_length, hex);
    assert_int_equal(strlen(hex), sizeof before - 1 + 128 + sizeof after - 1);
    assert_memory_equal(hex, before, sizeof before - 1);
    assert_string_equal(hex + sizeof before - 1 + 128, after);
    assert_memory_equal(nsm.request + (sizeof before - 1) / 2, wanted_data(), 64);
    assert_int_equal(nsm.call, 0xc0200a00); /* _IOWR(0x0a, 0, 32 bytes) */
    bulla_verdict *verdict = evidence_judge(&document, "{\"type\":\"nitro\"}", evidence_time("2024-12-20"));
    assert_string_equal(evidence_state(verdict, "nitro.signature"), "pass");
    bulla_verdict_free(verdict);
    buffer_free(&document);
    buffer_free(&answer);
    memory_free(made);
}

static void trouble_with_nsm(void **state)
{
    static const struct {
        const char *answer;
        size_t length;
        const char *sentence;
    } cases[] = {{"\xa1\x65" "Error\x6c" "InputTooLarge", 20, "InputTooLarg"},
                 {"\xa1\x6b" "Attestation\xf6", 14, "no attestation document"},
                 {"", 0, "no attestation document"},
                 {"\xa1", 1, "no attestation document"},
                 {"", 0x3001, "more bytes"}};
    struct attester_options options = {.nsm = "/dev/null", .nsm_call = play_nsm};
    struct buffer document = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bulla_error error = {0};
        memset(&nsm, 0, sizeof nsm);
        nsm.answer = cases[i].answer;
        nsm.length = cases[i].length;
        assert_int_equal(take_quote(&attester_nsm, &options, &document, &error), BULLA_E_IO);
        if (!strstr(error.text, cases[i].sentence))
            fail_msg("%s, expected %s", error.text, cases[i].sentence);
    }
    bulla_error error = {0};
    nsm.number = EPERM;
    assert_int_equal(take_quote(&attester_nsm, &options, &document, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "CAP_SYS_ADMIN"));
    bulla_error_clear(&error);
    options.nsm = "/nowhere";
    assert_int_equal(take_quote(&attester_nsm, &options, &document, &error), BULLA_E_IO);
    buffer_free(&document);
}

/* ---- Which one ---- */

static void simulated_evidence_is_never_found(void **state)
{
    struct attester_options nothing = {.tsm = "/nowhere", .gramine = "/nowhere", .nsm = "/nowhere", .tpm_device = "/nowhere"};
    size_t count;
    const struct attester *const *all = attesters(&count);
    assert_null(attester_find(&nothing));
    assert_ptr_equal(attester_named("sim"), &attester_sim);
    assert_null(attester_named("none"));
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(attester_named(all[i]->name), all[i]);
        assert_int_equal(all[i]->is_simulated, all[i] == &attester_sim);
        assert_int_equal(all[i]->is_there == NULL, all[i] == &attester_sim);
    }
    nothing.tpm_tcti = "swtpm"; /* a TPM that is named is there */
    assert_ptr_equal(attester_find(&nothing), &attester_tpm);
    nothing.tpm_tcti = NULL;
    nothing.tpm_device = "/dev/null";
    assert_ptr_equal(attester_find(&nothing), &attester_tpm);
}

static void a_tpm_that_is_not_there(void **state)
{
    struct attester_options options = {.tpm_device = "/nowhere"};
    struct buffer document = {0};
    bulla_error error = {0};
    assert_int_equal(take_quote(&attester_tpm, &options, &document, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "device:/nowhere"));
    static const char *const lists[] = {"", "24", "1,", ",1", "1;2", "-1", "1, 2"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        bulla_error_clear(&error);
        options.tpm_pcrs = lists[i];
        assert_int_equal(take_quote(&attester_tpm, &options, &document, &error), BULLA_E_USAGE);
    }
    buffer_free(&document);
}

/* It is left out, which is said with what to do about it; whatever is shorter is there whole. */
static void event_logs_have_a_limit(void **state)
{
    enum { MOST = 4 << 20 };
    const char *path = in_folder("event_log");
    const struct attester_options options = {.tpm_event_log = path};
    char *text = calloc(1, MOST + 1);
    for (int is_longer = 0; is_longer < 2; is_longer++) {
        struct buffer log = {0};
        bulla_error error = {0};
        write_file(path, text, MOST + (size_t)is_longer);
        assert_int_equal(tpm_log_read(path, &log, &error), is_longer ? BULLA_E_LIMIT : BULLA_OK);
        assert_int_equal(log.length, is_longer ? 0 : MOST);
        bulla_error_clear(&error);
        assert_int_equal(attester_tpm.find_lack(&options, &error), is_longer ? BULLA_E_LIMIT : BULLA_OK);
        assert_true(!is_longer || (strstr(error.text, path) && strstr(error.text, "more than 4 MiB") &&
                                   strstr(error.text, "name PCRs")));
        buffer_free(&log);
    }
    free(text);
    const struct attester_options others = {.tpm_event_log = "/nowhere"}, another = {.tpm_tcti = "swtpm"};
    assert_int_equal(attester_tpm.find_lack(&others, NULL), BULLA_OK);
    assert_int_equal(attester_tpm.find_lack(&another, NULL), BULLA_OK);
}

int main(void)
{
    setenv("TSS2_LOG", "all+none", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snp_by_configfs),
        cmocka_unit_test(tdx_by_configfs),
        cmocka_unit_test(trouble_with_configfs),
        cmocka_unit_test(sgx_by_gramine),
        cmocka_unit_test(nitro_by_nsm),
        cmocka_unit_test(trouble_with_nsm),
        cmocka_unit_test(simulated_evidence_is_never_found),
        cmocka_unit_test(a_tpm_that_is_not_there),
        cmocka_unit_test(event_logs_have_a_limit),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
