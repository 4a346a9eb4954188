/* `bulla connect`: a local endpoint for OpenAI's clients that verifies the server behind it. */
#include <stddef.h>

#include "cli/connecting.h"
#include "cli/verb.h"

struct connect_choice {
    const char *policy, *listen, *state, *receipts, *local_key_file, *server_key_file, *log_key;
    struct option_texts witnesses;
    int is_open, is_strict, needs_no_log, leaves_texts_out;
    uint64_t witnesses_needed, renew, idle;
};

enum { MOST_SECONDS = 30 * 86400 };

#define TEXT(name_, field, value_, help_) \
    {name_, 0, OPTION_TEXT, offsetof(struct connect_choice, field), value_, help_, 0, 0}
#define FLAG(name_, field, help_) {name_, 0, OPTION_FLAG, offsetof(struct connect_choice, field), NULL, help_, 0, 0}
#define NUMBER(name_, field, help_, minimum_, maximum_) \
    {name_, 0, OPTION_INTEGER, offsetof(struct connect_choice, field), "N", help_, minimum_, maximum_}

static const struct option_spec options[] = {
    TEXT("policy", policy, "FILE", "what the server's evidence must show (docs/policy.md); needed"),
    TEXT("listen", listen, "HOST:PORT", "where clients ask; loopback only; default 127.0.0.1:8081; port 0 takes a free one"),
    TEXT("state", state, "DIR", "folder for what is kept; default: connect in $BULLA_STATE or ~/.local/state/bulla"),
    TEXT("receipts", receipts, "DIR", "folder for receipts; default: receipts in the folder of --state"),
    FLAG("no-transcripts", leaves_texts_out, "keep receipts without the texts of requests and answers"),
    TEXT("local-key-file", local_key_file, "FILE",
         "file with the key that clients must send; made at the first start; default: key in the folder of --state"),
    FLAG("open", is_open, "ask clients for no key"),
    TEXT("server-key-file", server_key_file, "FILE", "file with the key to send to the server"),
    TEXT("log-key", log_key, "KEY",
         "verifier key of the server's log, NAME+ID+BASE64; default: the one that the verified server tells"),
    {"witness", 0, OPTION_TEXTS, offsetof(struct connect_choice, witnesses), "KEY",
     "verifier key of a witness, once or several times", 0, 0},
    NUMBER("witnesses", witnesses_needed, "how many witnesses must have cosigned each checkpoint; default 0", 0, 16),
    FLAG("no-log", needs_no_log, "accept receipts of a server that has no log"),
    NUMBER("renew", renew, "seconds after which a connection's evidence is too old; default 3600", 1, MOST_SECONDS),
    NUMBER("idle-seconds", idle, "longest time without a byte of an answer; default 300", 1, MOST_SECONDS),
    FLAG("strict", is_strict, "refuse routes whose answers have no receipt, such as embeddings"),
};

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct connect_choice chosen = {.listen = "127.0.0.1:8081", .renew = 3600, .idle = 300};
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    if (!chosen.policy)
        return bulla_fail(error, BULLA_E_USAGE, "what is accepted? --policy FILE says it (docs/policy.md)");
    if (chosen.witnesses_needed > chosen.witnesses.count)
        return bulla_fail(error, BULLA_E_USAGE, "--witnesses %llu, and %zu are named with --witness",
                          (unsigned long long)chosen.witnesses_needed, chosen.witnesses.count);
    const struct connecting connecting = {.url = argv[0],
                                          .policy = chosen.policy,
                                          .listen = chosen.listen,
                                          .state = chosen.state,
                                          .receipts = chosen.receipts,
                                          .local_key_file = chosen.local_key_file,
                                          .server_key_file = chosen.server_key_file,
                                          .is_open = chosen.is_open,
                                          .is_strict = chosen.is_strict,
                                          .needs_no_log = chosen.needs_no_log,
                                          .leaves_texts_out = chosen.leaves_texts_out,
                                          .log_key = chosen.log_key,
                                          .witnesses = chosen.witnesses.texts,
                                          .witness_count = chosen.witnesses.count,
                                          .witnesses_needed = (size_t)chosen.witnesses_needed,
                                          .renew_seconds = (unsigned)chosen.renew,
                                          .idle_seconds = (unsigned)chosen.idle};
    return connecting_run(&connecting, error);
}

const struct verb verb_connect = {
    .name = "connect",
    .summary = "a local endpoint that verifies a server and each of its answers",
    .arguments = "URL --policy FILE",
    .details = "Any OpenAI client points at it unchanged. Before a byte of a request is sent, the server's\n"
               "evidence is verified against the policy, bound to the connection's TLS key; each answer is\n"
               "checked as it comes, and its receipt at the end. What differs ends the answer with an error.\n"
               "docs/connect.md says all of it.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
