/* `bulla log`: the transparency log of receipts, for its operator and for whoever follows it. */
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/log_verbs.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "trust/tlog.h"

static const struct option_spec options[] = {
    {"log", 0, OPTION_TEXT, offsetof(struct log_choice, log), "KEY",
     "witness, monitor: the log's verifier key, NAME+ID+KEY, which `bulla log key` and a server's /log/key print", 0, 0},
    {"state", 0, OPTION_TEXT, offsetof(struct log_choice, state), "FILE",
     "witness, monitor: where the newest checkpoint found consistent is kept", 0, 0},
    {"ca", 0, OPTION_TEXT, offsetof(struct log_choice, ca), "FILE",
     "witness, monitor: certificates that an https server's must be by; default: the system's", 0, 0},
    {"key", 0, OPTION_TEXT, offsetof(struct log_choice, key), "FILE", "witness: its private key", 0, 0},
    {"name", 0, OPTION_TEXT, offsetof(struct log_choice, name), "NAME",
     "witness: its name, such as witness.example.com; makes the key where there is none", 0, 0},
    {"first", 0, OPTION_FLAG, offsetof(struct log_choice, first), NULL,
     "witness: begins with what the log shows now, though its key is there already and the state is not", 0, 0},
    {"out", 0, OPTION_TEXT, offsetof(struct log_choice, out), "FILE",
     "witness: where the cosigned checkpoint goes; default: standard output", 0, 0},
    {"once", 0, OPTION_FLAG, offsetof(struct log_choice, once), NULL, "monitor: looks once", 0, 0},
    {"every", 0, OPTION_INTEGER, offsetof(struct log_choice, every), "SECONDS",
     "monitor: between looks; default 60", 1, 86400},
    {"timeout", 0, OPTION_INTEGER, offsetof(struct log_choice, timeout), "SECONDS",
     "witness, monitor: longest time for one file from a server; default 30", 1, 3600},
    {"receipt", 0, OPTION_TEXT, offsetof(struct log_choice, receipt), "FILE",
     "monitor: looks once, and checks that this receipt document is in the log", 0, 0},
};

static int check(const char *folder, bulla_error *error)
{
    struct tlog_check found = {0};
    char root[2 * MERKLE_HASH + 1];
    int code = tlog_check(folder, &found, error);
    if (code != BULLA_OK)
        return code;
    hex_encode(found.root, MERKLE_HASH, root);
    printf("%s: whole: %" PRIu64 " receipts, %" PRIu64 " of them published, root %s\n", folder, found.size,
           found.published, root);
    return BULLA_OK;
}

/* The receipt document, without evidence. */
static int print_proof(const char *folder, const char *text, bulla_error *error)
{
    uint8_t id[TLOG_ID];
    struct buffer receipt = {0}, out = {0};
    struct tlog_inclusion inclusion = {0};
    if (!hex_decode(text, strlen(text), id, sizeof id))
        return bulla_fail(error, BULLA_E_USAGE, "\"%s\" is no receipt's id: %d hex digits", text, 2 * TLOG_ID);
    int code = tlog_read_receipt(folder, id, &receipt, &inclusion, error);
    if (code == BULLA_OK) {
        buffer_append_text(&out, "{\"bulla_receipt\":1,\"log\":");
        tlog_inclusion_write(&inclusion, &out);
        buffer_append_text(&out, ",\"signed\":");
        buffer_append(&out, receipt.data, receipt.length);
        buffer_append_text(&out, "}\n");
        code = out.error.code != BULLA_OK ? bulla_fail(error, out.error.code, "%s", out.error.text) : BULLA_OK;
    }
    if (code == BULLA_OK)
        output_text(stdout, (const char *)out.data, out.length);
    tlog_inclusion_free(&inclusion);
    buffer_free(&receipt);
    buffer_free(&out);
    /* Its place is what is wrong, not the command line. */
    if (code == BULLA_E_USAGE && error)
        error->code = code = BULLA_E_INPUT;
    return code;
}

static int print_key(const char *folder, bulla_error *error)
{
    struct note_key key;
    struct buffer line = {0};
    int code = tlog_read_key(folder, &key, error);
    if (code == BULLA_OK) {
        note_key_write(&key, &line);
        buffer_append_byte(&line, '\n');
        code = line.error.code != BULLA_OK ? bulla_fail(error, line.error.code, "%s", line.error.text) : BULLA_OK;
    }
    if (code == BULLA_OK)
        output_text(stdout, (const char *)line.data, line.length);
    buffer_free(&line);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct log_choice chosen = {.every = 60, .timeout = 30};
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    int proves = strcmp(argv[0], "proof") == 0;
    if (others != (proves ? 3 : 2))
        return bulla_fail(error, BULLA_E_USAGE, proves ? "which receipt? `bulla log proof FOLDER ID`" : "one argument too many");
    signal(SIGPIPE, SIG_IGN); /* a server that closes is an error of its connection */
    if (strcmp(argv[0], "check") == 0)
        return check(argv[1], error);
    if (proves)
        return print_proof(argv[1], argv[2], error);
    if (strcmp(argv[0], "key") == 0)
        return print_key(argv[1], error);
    if (strcmp(argv[0], "witness") == 0)
        return log_witness(&chosen, argv[1], error);
    if (strcmp(argv[0], "monitor") == 0)
        return log_monitor(&chosen, argv[1], error);
    return bulla_fail(error, BULLA_E_USAGE, "\"%s\" is neither check, key, proof, witness nor monitor", argv[0]);
}

const struct verb verb_log = {
    .name = "log",
    .summary = "check and follow a transparency log of receipts",
    .arguments = "check|key FOLDER, proof FOLDER ID, or witness|monitor SOURCE",
    .details = "`check` looks at every receipt, node and file of a log's folder; `key` prints its verifier\n"
               "key; `proof` a receipt with its proof. A SOURCE is such a folder or a URL, as\n"
               "https://example.com/log. `witness` cosigns the log's checkpoint where the log has only grown\n"
               "since the last time; `monitor` computes the tree anew from all entries as they come. A fork\n"
               "ends both with status 1, and is kept as evidence; an old checkpoint is none, and is said.\n"
               "docs/log.md says more.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 2,
    .maximum_arguments = 3,
    .run = run,
};
