/* `bulla dispute`: answers disputed before a referee that has no model. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/dispute_referee.h"
#include "cli/disputing.h"
#include "cli/model_cache.h"
#include "cli/verb.h"
#include "serve/dispute_part.h"
#include "trust/key_file.h"

static const struct option_spec options[] = {
    {"store", 0, OPTION_TEXT, offsetof(struct dispute_choice, store), "PLACE",
     "referee, log: where its log is kept: a SQLite file, or a PostgreSQL database as postgresql://...", 0, 0},
    {"program", 0, OPTION_TEXTS, offsetof(struct dispute_choice, programs), "FILE",
     "referee, replay: a model's program part, as `bulla dispute part` writes it; may be given again", 0, 0},
    {"key", 0, OPTION_TEXT, offsetof(struct dispute_choice, key), "FILE",
     "whose Ed25519 key in PEM signs the messages; made where it is not there", 0, 0},
    {"listen", 0, OPTION_TEXT, offsetof(struct dispute_choice, listen), "HOST:PORT", "referee: serves there", 0, 0},
    {"folder", 0, OPTION_TEXT, offsetof(struct dispute_choice, folder), "FOLDER", "messages are files in this folder", 0, 0},
    {"window", 0, OPTION_INTEGER, offsetof(struct dispute_choice, window), "SECONDS",
     "referee, new store: for how long an answer can be challenged; default 604800, a week", 1, 1000000000},
    {"turn", 0, OPTION_INTEGER, offsetof(struct dispute_choice, turn), "SECONDS",
     "referee, new store: for how long a party may be silent in its turn; default 3600", 1, 1000000000},
    {"proposer", 0, OPTION_TEXTS, offsetof(struct dispute_choice, proposers), "KEY",
     "referee, new store: whose answers are taken, may be given again, default anyone's; challenge: whose answer it is", 0, 0},
    {"certificate", 0, OPTION_TEXT, offsetof(struct dispute_choice, certificate), "FILE", "referee: its certificate in PEM", 0, 0},
    {"certificate-key", 0, OPTION_TEXT, offsetof(struct dispute_choice, certificate_key), "FILE", "referee: its key in PEM", 0, 0},
    {"tls", 0, OPTION_TEXT, offsetof(struct dispute_choice, tls_folder), "FOLDER",
     "referee: where a self-made certificate is kept; default: referee-tls of the state folder", 0, 0},
    {"http", 0, OPTION_FLAG, offsetof(struct dispute_choice, http), NULL, "referee: in the clear, for this machine alone", 0, 0},
    {"model", 'm', OPTION_TEXT, offsetof(struct dispute_choice, model), "FILE",
     "respond, challenge: the model, as `bulla run` takes it", 0, 0},
    {"referee", 0, OPTION_TEXT, offsetof(struct dispute_choice, referee), "URL", "respond, challenge: where the referee is", 0, 0},
    {"referee-key", 0, OPTION_TEXT, offsetof(struct dispute_choice, referee_key), "KEY",
     "respond, challenge: the referee's key, which it prints when it starts; checks what it says", 0, 0},
    {"ca", 0, OPTION_TEXT, offsetof(struct dispute_choice, ca), "FILE",
     "respond, challenge: certificates that an https referee's must be by; default: the system's", 0, 0},
    {"stake", 0, OPTION_TEXT, offsetof(struct dispute_choice, stake), "TEXT",
     "respond, challenge: what is staked, in words for whoever settles it; default none", 0, 0},
    {"choice", 0, OPTION_INTEGER, offsetof(struct dispute_choice, choice), "N",
     "challenge: which choice of the answer, from 0; default: the first that an audit finds wrong", 0, 2047},
    {"unaudited", 0, OPTION_FLAG, offsetof(struct dispute_choice, unaudited), NULL,
     "challenge: without an audit before, whatever comes of it", 0, 0},
    {"threads", 't', OPTION_INTEGER, offsetof(struct dispute_choice, threads), "N", "threads; default: one a core", 1, 1024},
    {"out", 'o', OPTION_TEXT, offsetof(struct dispute_choice, out), "FILE", "part: where it goes", 0, 0},
};

static int write_part(const struct dispute_choice *chosen, const char *path, bulla_error *error)
{
    bulla_model *model = NULL;
    struct trace_model *tree = NULL;
    if (!chosen->out)
        return bulla_fail(error, BULLA_E_USAGE, "where to? -o FILE");
    int code = model_cache_open(path, &(struct model_opening){(unsigned)chosen->threads, 1}, &model, error);
    if (code == BULLA_OK)
        code = trace_model_open(bulla_model_program(model), NULL, &tree, error);
    if (code == BULLA_OK)
        code = dispute_part_write(tree, chosen->out, error);
    trace_model_close(tree);
    bulla_model_close(model);
    return code;
}

static int print_key(const char *path, bulla_error *error)
{
    EVP_PKEY *key = NULL;
    uint8_t bytes[DISPUTE_KEY];
    char text[2 * DISPUTE_KEY + 1];
    int code = key_file_open(path, &key, error);
    if (code == BULLA_OK)
        code = dispute_public_key(key, bytes, error);
    if (code == BULLA_OK) {
        hex_encode(bytes, sizeof bytes, text);
        printf("%s\n", text);
    }
    EVP_PKEY_free(key);
    return code;
}

static int open_party(const struct dispute_choice *chosen, EVP_PKEY **key, uint8_t referee_key[DISPUTE_KEY],
                      struct disputing **disputing, bulla_error *error)
{
    const char *place = chosen->folder ? chosen->folder : chosen->referee;
    if (!chosen->model || !chosen->key || !place)
        return bulla_fail(error, BULLA_E_USAGE, "a party needs --model FILE, --key FILE, and --referee URL or --folder FOLDER");
    int code = key_file_open(chosen->key, key, error);
    if (code == BULLA_OK && chosen->referee_key)
        code = disputing_read_key(chosen->referee_key, referee_key, error);
    const struct disputing_options own = {.model = chosen->model, .threads = (unsigned)chosen->threads, .key = *key,
        .referee = place, .ca = chosen->ca, .referee_key = chosen->referee_key ? referee_key : NULL, .stake = chosen->stake};
    return code == BULLA_OK ? disputing_open(&own, disputing, error) : code;
}

static int respond(const struct dispute_choice *chosen, const char *const *paths, size_t count, bulla_error *error)
{
    EVP_PKEY *key = NULL;
    uint8_t referee_key[DISPUTE_KEY];
    struct disputing *disputing = NULL;
    int code = open_party(chosen, &key, referee_key, &disputing, error);
    if (code == BULLA_OK)
        code = disputing_respond(disputing, paths, count, error);
    disputing_close(disputing);
    EVP_PKEY_free(key);
    return code;
}

static int challenge(const struct dispute_choice *chosen, const char *path, bulla_error *error)
{
    EVP_PKEY *key = NULL;
    uint8_t referee_key[DISPUTE_KEY], proposer[DISPUTE_KEY];
    struct disputing *disputing = NULL;
    int is_right = 0;
    if (chosen->proposers.count != 1)
        return bulla_fail(error, BULLA_E_USAGE, "whose answer is it? --proposer KEY");
    int code = disputing_read_key(chosen->proposers.texts[0], proposer, error);
    if (code == BULLA_OK)
        code = open_party(chosen, &key, referee_key, &disputing, error);
    const struct disputing_challenge what = {.path = path, .proposer = proposer, .is_unaudited = chosen->unaudited,
        .choice = chosen->choice == UINT64_MAX ? -1 : (int64_t)chosen->choice};
    if (code == BULLA_OK)
        code = disputing_run_challenge(disputing, &what, &is_right, error);
    if (code == BULLA_OK && is_right)
        printf("%s: the answer is what its receipt says; nothing is challenged\n", path);
    disputing_close(disputing);
    EVP_PKEY_free(key);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct dispute_choice chosen = {.window = 604800, .turn = 3600, .stake = "", .choice = UINT64_MAX};
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    signal(SIGPIPE, SIG_IGN); /* a side that closes is an error of its connection */
    const char *what = argv[0];
    int takes_many = strcmp(what, "respond") == 0, takes_none = strcmp(what, "referee") == 0 || strcmp(what, "log") == 0;
    int most = takes_none ? 1 : takes_many ? (int)verb->maximum_arguments : 2;
    if (others > most)
        return bulla_fail(error, BULLA_E_USAGE, "one argument too many: \"%s\"", argv[most]);
    if (!takes_none && others < 2)
        return bulla_fail(error, BULLA_E_USAGE, "`bulla dispute %s` needs %s", what, takes_many ? "receipts" : "a file");
    if (strcmp(what, "referee") == 0)
        return dispute_referee(&chosen, error);
    if (strcmp(what, "log") == 0)
        return dispute_log(&chosen, error);
    if (takes_many)
        return respond(&chosen, (const char *const *)argv + 1, (size_t)others - 1, error);
    if (strcmp(what, "challenge") == 0)
        return challenge(&chosen, argv[1], error);
    if (strcmp(what, "replay") == 0)
        return dispute_replay(&chosen, argv[1], error);
    if (strcmp(what, "part") == 0)
        return write_part(&chosen, argv[1], error);
    if (strcmp(what, "key") == 0)
        return print_key(argv[1], error);
    return bulla_fail(error, BULLA_E_USAGE, "\"%s\" is neither referee, respond, challenge, replay, log, part nor key", what);
}

const struct verb verb_dispute = {
    .name = "dispute",
    .summary = "dispute answers before a referee that needs no model",
    .arguments = "referee|log, or respond|challenge|replay|part|key FILE...",
    .details = "`part` writes what a referee needs of a model; `referee` decides by that, keeps its log, and\n"
               "serves messages by HTTPS or as files of a folder; `log` prints that log, and `replay` computes the\n"
               "same outcome from it. `respond` vouches for the answers of receipt documents with their\n"
               "transcripts, and defends them until they are final. `challenge` audits one, and disputes what is\n"
               "not so. `key` prints a key's public part, making it first. docs/dispute.md says what is\n"
               "guaranteed, and what others must be given.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 65,
    .run = run,
};
