/* `bulla chat`: a conversation on a terminal, or line by line through a pipe. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/answer_options.h"
#include "cli/conversation.h"
#include "cli/input.h"
#include "cli/line_editor.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "cli/verb.h"

enum { ESCAPE_MILLISECONDS = 50 };

static const char commands_help[] =
    "/reset          start a new conversation\n"
    "/system TEXT    a system message from now on; without TEXT: none\n"
    "/temperature T  0 takes the likeliest token each time, more draws at random\n"
    "/seed N         what random draws follow from\n"
    "/help           this list\n"
    "/quit           leave, as Ctrl-D does\n"
    "A message that starts with / is written with //. Ctrl-C stops an answer. Alt-Enter or Ctrl-J starts a new line.\n";

struct chat {
    struct answer_options options;
    struct session session;
    struct conversation conversation;
    int is_interactive; /* a person at a terminal */
    int at_line_start;  /* the answer's text so far ends with a newline */
    int is_leaving;
    int turns_failed;
};

static const struct option_spec options[] = {ANSWER_OPTIONS(struct chat, options)};

/* --- Answers --- */

static int print_text(void *context, const char *text, size_t length)
{
    struct chat *chat = context;
    if (length == 0)
        return 0;
    chat->at_line_start = text[length - 1] == '\n';
    return !output_text(stdout, text, length);
}

static int is_stopped(void *context)
{
    return ((struct chat *)context)->is_interactive && terminal_take_interrupt();
}

/* What a person should know about how the turn ended. */
static void explain(const struct chat *chat, const struct conversation_turn *turn)
{
    uint32_t context = bulla_model_program(chat->session.model)->context;
    if (turn->is_full)
        fprintf(stderr,
                "(the conversation would have %zu tokens and the model's context is %" PRIu32
                ": your message was not sent. /reset starts a new conversation)\n",
                turn->prompt_tokens, context);
    else if (turn->finish == GENERATE_RANGE)
        fprintf(stderr,
                "(the answer ends here: at position %" PRIu64 " operation %" PRIu32
                " left its bound, docs/canonical.md, RANGE. /reset starts a new conversation)\n",
                turn->range_position, turn->range_operation);
    else if (turn->finish == GENERATE_LENGTH && turn->prompt_tokens + turn->output_tokens >= context)
        fprintf(stderr, "(the model's context of %" PRIu32 " tokens is full. /reset starts a new conversation)\n",
                context);
    else if (turn->finish == GENERATE_LENGTH)
        fprintf(stderr, "(cut after %zu tokens: --max-tokens)\n", turn->output_tokens);
    else if (turn->finish == GENERATE_CANCELLED && chat->is_interactive)
        fprintf(stderr, "(stopped)\n");
}

/* One turn. What is wrong with it is said; only a lost output ends the chat. */
static int say(struct chat *chat, const char *text, size_t length, bulla_error *error)
{
    struct conversation_turn turn;
    struct conversation_output output = {.on_text = print_text, .is_cancelled = is_stopped, .context = chat};
    bulla_error own = {0};
    chat->at_line_start = 1;
    int code = conversation_say(&chat->conversation, text, length, &output, &turn, &own);
    if (code == BULLA_OK && !turn.is_full && (!chat->at_line_start || turn.output_tokens == 0))
        output_text(stdout, "\n", 1);
    else if (!chat->at_line_start)
        output_text(stdout, "\n", 1);
    if (ferror(stdout))
        return bulla_fail(error, BULLA_E_IO, "the answer could not be written");
    if (code == BULLA_OK)
        explain(chat, &turn);
    else
        fprintf(stderr, "(%s)\n", own.text);
    chat->turns_failed += code != BULLA_OK || turn.is_full || turn.finish == GENERATE_RANGE;
    return BULLA_OK;
}

/* --- Commands --- */

/* Reads a command's number by the option of the same name. */
static void set_number(struct chat *chat, const char *name, const char *value)
{
    bulla_error problem = {0};
    int others;
    struct buffer argument = {0};
    buffer_append_format(&argument, "--%s=%s", name, value);
    char *arguments[] = {(char *)argument.data};
    if (argument.error.code != BULLA_OK)
        bulla_fail(&problem, argument.error.code, "%s", argument.error.text);
    else
        options_parse(options, sizeof options / sizeof options[0], 1, arguments, chat, &others, &problem);
    if (problem.code != BULLA_OK)
        fprintf(stderr, "(%s)\n", problem.text);
    answer_options_sampling(&chat->options, &chat->conversation.sampling);
    buffer_free(&argument);
}

static void set_system(struct chat *chat, const char *text)
{
    bulla_error problem = {0};
    if (conversation_set_system(&chat->conversation, text, strlen(text), &problem) != BULLA_OK)
        fprintf(stderr, "(%s)\n", problem.text);
}

/* `line` starts with '/'. */
static void command(struct chat *chat, const char *line)
{
    char name[16] = "";
    size_t length = strcspn(line + 1, " \t\n");
    const char *rest = line + 1 + length + strspn(line + 1 + length, " \t");
    if (length < sizeof name)
        memcpy(name, line + 1, length);
    if (strcmp(name, "reset") == 0)
        conversation_reset(&chat->conversation);
    else if (strcmp(name, "quit") == 0 || strcmp(name, "exit") == 0)
        chat->is_leaving = 1;
    else if (strcmp(name, "help") == 0)
        fputs(commands_help, stderr);
    else if (strcmp(name, "system") == 0)
        set_system(chat, rest);
    else if (strcmp(name, "seed") == 0 || strcmp(name, "temperature") == 0)
        set_number(chat, name, rest);
    else
        fprintf(stderr, "(there is no such command; /help lists them, and // starts a message with a /)\n");
}

/* A line that was entered: a command, a message, or nothing. */
static int take_line(struct chat *chat, const char *line, size_t length, bulla_error *error)
{
    if (length == 0 || strspn(line, " \t\n") == length)
        return BULLA_OK;
    if (line[0] == '/' && line[1] != '/') {
        command(chat, line);
        return BULLA_OK;
    }
    size_t skip = line[0] == '/';
    return say(chat, line + skip, length - skip, error);
}

/* --- Through a pipe --- */

static int run_piped(struct chat *chat, bulla_error *error)
{
    struct buffer line = {0};
    int there = 1;
    int code = BULLA_OK;
    while (code == BULLA_OK && !chat->is_leaving) {
        code = input_read_line(stdin, &line, &there, error);
        if (code != BULLA_OK || !there)
            break;
        code = take_line(chat, line.length ? (const char *)line.data : "", line.length, error);
    }
    buffer_free(&line);
    if (code == BULLA_OK && chat->turns_failed)
        return bulla_fail(error, BULLA_E_INPUT, "%d of the turns got no whole answer", chat->turns_failed);
    return code;
}

/* --- On a terminal --- */

/* Bytes that were read and not used yet: what was typed ahead. */
struct typed {
    uint8_t bytes[4096];
    size_t at, length;
};

static int flush_drawing(struct buffer *drawing, bulla_error *error)
{
    if (drawing->error.code != BULLA_OK)
        return bulla_fail(error, drawing->error.code, "%s", drawing->error.text);
    int code = terminal_write(drawing->data, drawing->length, error);
    buffer_clear(drawing);
    return code;
}

/* Feeds the editor until something happens. */
static int edit(struct line_editor *editor, struct typed *typed, enum line_event *event, bulla_error *error)
{
    struct buffer drawing = {0};
    int columns, rows;
    terminal_size(&columns, &rows);
    line_editor_begin(editor, columns, rows, &drawing);
    int code = flush_drawing(&drawing, error);
    for (*event = LINE_MORE; code == BULLA_OK && *event == LINE_MORE;) {
        long count = 1;
        if (typed->at == typed->length) {
            count = terminal_read(typed->bytes, sizeof typed->bytes,
                                  line_editor_waiting(editor) ? ESCAPE_MILLISECONDS : -1, error);
            typed->at = 0;
            typed->length = count > 0 ? (size_t)count : 0;
        }
        if (count == TERMINAL_FAILED)
            code = BULLA_E_IO;
        else if (count == TERMINAL_END)
            *event = LINE_END;
        else if (count == TERMINAL_TIMEOUT)
            line_editor_expire(editor);
        else if (count == TERMINAL_RESUMED)
            line_editor_redraw(editor, &drawing);
        terminal_size(&columns, &rows);
        if (count == TERMINAL_RESIZED)
            line_editor_resize(editor, columns, rows, &drawing);
        size_t used = 0;
        if (count > 0)
            *event = line_editor_feed(editor, typed->bytes + typed->at, typed->length - typed->at, &used, &drawing);
        typed->at += used;
        if (code == BULLA_OK)
            code = flush_drawing(&drawing, error);
        if (code == BULLA_OK && *event == LINE_SUSPEND) {
            terminal_suspend();
            line_editor_redraw(editor, &drawing);
            *event = LINE_MORE;
            code = flush_drawing(&drawing, error);
        }
    }
    buffer_free(&drawing);
    return code;
}

static int answer_line(struct chat *chat, struct line_editor *editor, bulla_error *error)
{
    size_t length;
    const char *line = line_editor_text(editor, &length);
    if (length == 0)
        return BULLA_OK;
    int code = line_editor_remember(editor, line, length, error);
    if (code == BULLA_OK)
        code = terminal_begin_answering(error);
    if (code == BULLA_OK)
        code = take_line(chat, line, length, error);
    return code;
}

static int converse(struct chat *chat, struct line_editor *editor, bulla_error *error)
{
    struct typed typed = {.at = 0};
    int interrupts = 0; /* in a row, with nothing written */
    int code = BULLA_OK;
    while (code == BULLA_OK && !chat->is_leaving) {
        enum line_event event;
        size_t length;
        code = terminal_begin_editing(error);
        if (code == BULLA_OK)
            code = edit(editor, &typed, &event, error);
        if (code != BULLA_OK)
            break;
        line_editor_text(editor, &length);
        interrupts = event == LINE_INTERRUPT && length == 0 ? interrupts + 1 : 0;
        if (interrupts == 1)
            fprintf(stderr, "(Ctrl-C once more leaves; /help lists commands)\n");
        chat->is_leaving = event == LINE_END || interrupts == 2;
        if (event == LINE_DONE)
            code = answer_line(chat, editor, error);
    }
    return code;
}

static int run_interactive(struct chat *chat, bulla_error *error)
{
    struct line_editor *editor = line_editor_open("> ", "  ", error);
    if (!editor)
        return BULLA_E_MEMORY;
    fprintf(stderr, "/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves\n");
    int code = terminal_open(error);
    if (code == BULLA_OK)
        code = converse(chat, editor, error);
    terminal_close();
    line_editor_close(editor);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct chat chat = {0};
    int others;
    answer_options_defaults(&chat.options);
    int code = verb_parse(verb, argc, argv, &chat, &others, error);
    if (code != BULLA_OK)
        return code;
    code = session_open(argv[0], &(bulla_engine_options){.threads = (unsigned)chat.options.threads}, &chat.session,
                        error);
    if (code == BULLA_OK && !chat.session.chat_template)
        code = bulla_fail(error, BULLA_E_UNSUPPORTED,
                          "%s: the model has no chat template, so it cannot be chatted with; `bulla import --template` "
                          "gives it one, `bulla run --raw` lets it continue a text",
                          argv[0]);
    if (code == BULLA_OK) {
        conversation_begin(&chat.conversation, &chat.session);
        chat.conversation.max_tokens = chat.options.max_tokens;
        chat.conversation.speculate = (uint32_t)chat.options.speculate;
        answer_options_sampling(&chat.options, &chat.conversation.sampling);
        chat.is_interactive = terminal_is_there();
        const char *system = chat.options.system ? chat.options.system : "";
        code = conversation_set_system(&chat.conversation, system, strlen(system), error);
        if (code == BULLA_OK)
            code = chat.is_interactive ? run_interactive(&chat, error) : run_piped(&chat, error);
        conversation_end(&chat.conversation);
    }
    session_close(&chat.session);
    return code;
}

const struct verb verb_chat = {
    .name = "chat",
    .summary = "talk with a model",
    .arguments = "FILE",
    .details = "FILE as for `bulla run`. On a terminal with a line editor: arrows, history, pasted texts of many\n"
               "lines; /help lists commands. Where standard input is no terminal each of its lines is a turn, and\n"
               "only the answers go to standard output.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
