#define _GNU_SOURCE
#include "cli/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static const int ending[] = {SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static const int news[] = {SIGINT, SIGWINCH, SIGTSTP};
enum { ENDING = sizeof ending / sizeof ending[0], NEWS = sizeof news / sizeof news[0] };

static struct termios original, current;
static volatile sig_atomic_t is_open, is_editing;
static volatile sig_atomic_t interrupted, resized, resumed;
static struct sigaction ending_before[ENDING], news_before[NEWS];

#define PASTE_ON "\x1b[?2004h"
#define PASTE_OFF "\x1b[?2004l"

/* Only calls that POSIX lists as safe in a signal handler. */
static void write_quietly(const char *text, size_t length)
{
    ssize_t ignored = write(STDOUT_FILENO, text, length);
    (void)ignored;
}

static void put_back(void)
{
    if (is_editing)
        write_quietly(PASTE_OFF, sizeof PASTE_OFF - 1);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &original);
}

static void take_up(void)
{
    tcsetattr(STDIN_FILENO, TCSADRAIN, &current);
    if (is_editing)
        write_quietly(PASTE_ON, sizeof PASTE_ON - 1);
}

static void on_ending(int number)
{
    int saved = errno;
    if (is_open)
        put_back();
    errno = saved;
    signal(number, SIG_DFL);
    raise(number); /* acts when this handler returns */
}

static void on_stop(void)
{
    put_back();
    raise(SIGSTOP);
    take_up();
    resumed = 1;
}

static void on_news(int number)
{
    int saved = errno;
    if (number == SIGINT)
        interrupted = 1;
    else if (number == SIGWINCH)
        resized = 1;
    else if (number == SIGTSTP && is_open)
        on_stop();
    errno = saved;
}

static void set_handlers(const int *numbers, int count, void (*handler)(int), struct sigaction *before)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler; /* without SA_RESTART: waiting ends */
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < count; i++) {
        sigaction(numbers[i], NULL, &before[i]);
        if (before[i].sa_handler == SIG_DFL) /* what is ignored stays so; sanitizers keep their own */
            sigaction(numbers[i], &action, NULL);
    }
}

int terminal_is_there(void)
{
    const char *kind = getenv("TERM");
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && kind && kind[0] && strcmp(kind, "dumb") != 0;
}

static int fail_with_errno(bulla_error *error, const char *what)
{
    char text[128];
    int number = errno;
    return bulla_fail(error, BULLA_E_IO, "the terminal: cannot %s: %s", what, strerror_r(number, text, sizeof text));
}

int terminal_open(bulla_error *error)
{
    if (tcgetattr(STDIN_FILENO, &original) != 0)
        return fail_with_errno(error, "read its state");
    current = original;
    interrupted = resized = resumed = 0;
    is_open = 1;
    set_handlers(ending, ENDING, on_ending, ending_before);
    set_handlers(news, NEWS, on_news, news_before);
    return BULLA_OK;
}

void terminal_close(void)
{
    if (!is_open)
        return;
    put_back();
    is_open = is_editing = 0;
    for (int i = 0; i < ENDING; i++)
        sigaction(ending[i], &ending_before[i], NULL);
    for (int i = 0; i < NEWS; i++)
        sigaction(news[i], &news_before[i], NULL);
}

static int set_mode(bulla_error *error)
{
    while (tcsetattr(STDIN_FILENO, TCSADRAIN, &current) != 0)
        if (errno != EINTR)
            return fail_with_errno(error, "set its mode");
    return BULLA_OK;
}

int terminal_begin_editing(bulla_error *error)
{
    current = original;
    current.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IGNCR | IXON | ISTRIP | BRKINT);
    current.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    current.c_cc[VMIN] = 1;
    current.c_cc[VTIME] = 0;
    int code = set_mode(error);
    is_editing = 1;
    write_quietly(PASTE_ON, sizeof PASTE_ON - 1);
    return code;
}

int terminal_begin_answering(bulla_error *error)
{
    if (is_editing)
        write_quietly(PASTE_OFF, sizeof PASTE_OFF - 1);
    is_editing = 0;
    interrupted = 0;
    current = original;
    /* What is typed ahead must reach the editor as it was typed: Enter stays a carriage return. */
    current.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IGNCR | ISTRIP);
    current.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN);
    current.c_lflag |= ISIG;
    current.c_cc[VMIN] = 1;
    current.c_cc[VTIME] = 0;
    return set_mode(error);
}

void terminal_size(int *columns, int *rows)
{
    struct winsize window;
    int known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0;
    *columns = known && window.ws_col ? window.ws_col : 80;
    *rows = known && window.ws_row ? window.ws_row : 24;
}

/* What a signal left to say, or TERMINAL_TIMEOUT for nothing. */
static long take_news(void)
{
    if (resumed) {
        resumed = resized = 0;
        return TERMINAL_RESUMED;
    }
    if (resized) {
        resized = 0;
        return TERMINAL_RESIZED;
    }
    return TERMINAL_TIMEOUT;
}

long terminal_read(uint8_t *bytes, size_t capacity, int milliseconds, bulla_error *error)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    struct timespec wait = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    sigset_t blocked, before;
    sigemptyset(&blocked);
    for (int i = 0; i < NEWS; i++)
        sigaddset(&blocked, news[i]);
    for (;;) {
        /* Between the look at the flags and the wait no signal may slip in: ppoll opens them. */
        sigprocmask(SIG_BLOCK, &blocked, &before);
        long result = take_news();
        int ready = result == TERMINAL_TIMEOUT ? ppoll(&input, 1, milliseconds < 0 ? NULL : &wait, &before) : 0;
        int number = errno;
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (result != TERMINAL_TIMEOUT)
            return result;
        if (ready == 0)
            return TERMINAL_TIMEOUT;
        if (ready > 0) {
            ssize_t count = read(STDIN_FILENO, bytes, capacity);
            if (count >= 0)
                return count;
            number = errno;
        }
        errno = number;
        if (number == EIO) /* the other end of the terminal is gone */
            return TERMINAL_END;
        if (number != EINTR && number != EAGAIN) {
            fail_with_errno(error, "read from it");
            return TERMINAL_FAILED;
        }
    }
}

int terminal_write(const void *bytes, size_t length, bulla_error *error)
{
    const uint8_t *at = bytes;
    while (length > 0) {
        ssize_t count = write(STDOUT_FILENO, at, length);
        if (count < 0 && errno != EINTR && errno != EAGAIN)
            return fail_with_errno(error, "write to it");
        if (count > 0) {
            at += count;
            length -= (size_t)count;
        }
    }
    return BULLA_OK;
}

void terminal_suspend(void)
{
    raise(SIGTSTP);
    resumed = 0; /* the caller draws anew */
}

int terminal_take_interrupt(void)
{
    int came = interrupted;
    interrupted = 0;
    return came;
}
