/* The program `bulla`: finds the verb, answers --help and --version, prints errors.
 *
 * Exit status: 0 done, 1 failed, 2 the command line is wrong, 130 cancelled. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "cli/verb.h"

static const struct verb *const verbs[] = {
    &verb_import, &verb_inspect,  &verb_run,        &verb_chat,   &verb_serve,
    &verb_connect, &verb_keys,    &verb_verify,     &verb_audit,  &verb_watch,  &verb_policy, &verb_log,   &verb_bench,
    &verb_tokenize, &verb_detokenize, &verb_doctor,
};

enum { VERB_COUNT = sizeof verbs / sizeof verbs[0], EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANCELLED = 130 };

static void describe_program(struct buffer *out)
{
    buffer_append_text(out, "Bulla runs language models as exact integer programs: an answer is a fact that\n"
                            "anyone with the model can recompute, bit for bit.\n\n"
                            "usage: bulla VERB [ARGUMENTS] [OPTIONS]\n\n");
    for (size_t i = 0; i < VERB_COUNT; i++)
        buffer_append_format(out, "  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    buffer_append_text(out, "\n`bulla VERB --help` says more about one; `bulla --version` says which Bulla this is.\n");
}

static void describe_verb(const struct verb *verb, struct buffer *out)
{
    buffer_append_format(out, "usage: bulla %s%s%s%s\n\n%s\n", verb->name, verb->arguments[0] ? " " : "",
                         verb->arguments, verb->option_count ? " [OPTIONS]" : "", verb->summary);
    if (verb->details)
        buffer_append_format(out, "\n%s\n", verb->details);
    if (verb->option_count) {
        buffer_append_text(out, "\n");
        options_describe(verb->options, verb->option_count, out);
    }
}

/* Whether all that was printed has left: a full disk shows only here. */
static int output_is_written(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 1;
    fprintf(stderr, "bulla: standard output could not be written\n");
    return 0;
}

/* Writes a help text and frees it; the exit status. */
static int show(struct buffer *text, FILE *stream)
{
    int failed = text->error.code != BULLA_OK;
    if (failed)
        fprintf(stderr, "bulla: %s\n", text->error.text);
    else
        fputs((const char *)text->data, stream);
    buffer_free(text);
    return failed || !output_is_written() ? EXIT_FAILED : 0;
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    return strcmp(verb_worker.name, name) == 0 ? &verb_worker : NULL; /* not for people: no help lists it */
}

static int unknown_verb(const char *name)
{
    const struct verb *nearest = NULL;
    size_t least = 3;
    for (size_t i = 0; i < VERB_COUNT; i++) {
        size_t distance = options_distance(name, verbs[i]->name);
        if (distance < least) {
            least = distance;
            nearest = verbs[i];
        }
    }
    bulla_error error = {0};
    bulla_fail(&error, BULLA_E_USAGE, "there is no verb \"%s\"", name); /* cleaned for the terminal */
    if (nearest)
        fprintf(stderr, "bulla: %s; did you mean %s?\n", error.text, nearest->name);
    else
        fprintf(stderr, "bulla: %s; `bulla --help` lists them\n", error.text);
    return EXIT_USAGE;
}

/* Whether --help stands among the options. */
static int asks_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
    return 0;
}

static int run_verb(const struct verb *verb, int argc, char **argv)
{
    bulla_error error = {0};
    int code = verb->run(verb, argc, argv, &error);
    int written = output_is_written();
    if (code == BULLA_OK)
        return written ? 0 : EXIT_FAILED;
    if (code == BULLA_E_CANCELLED)
        return EXIT_CANCELLED;
    fprintf(stderr, "bulla %s: %s\n", verb->name, error.text);
    if (code != BULLA_E_USAGE)
        return EXIT_FAILED;
    fprintf(stderr, "`bulla %s --help` says what it takes.\n", verb->name);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct buffer text = {0};
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error to report, as a full disk is */
    if (argc < 2) {
        describe_program(&text);
        show(&text, stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        buffer_append_text(&text, "bulla " BULLA_VERSION "\n");
        return show(&text, stdout);
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        if (argc == 2) {
            describe_program(&text);
            return show(&text, stdout);
        }
        name = argv[2];
        argc = 2;
    }
    const struct verb *verb = find_verb(name);
    if (!verb)
        return unknown_verb(name);
    if (name != argv[1] || asks_help(argc - 2, argv + 2)) {
        describe_verb(verb, &text);
        return show(&text, stdout);
    }
    return run_verb(verb, argc - 2, argv + 2);
}
