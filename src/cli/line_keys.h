/* Bytes from a terminal as keys: UTF-8, control characters, the escape
 * sequences of xterm and its kin (ECMA-48 CSI, SS3), bracketed paste. */
#ifndef CLI_LINE_KEYS_H
#define CLI_LINE_KEYS_H

#include <stddef.h>
#include <stdint.h>

enum line_key {
    LINE_KEY_NONE,      /* nothing yet, or nothing that means anything */
    LINE_KEY_CHARACTER, /* *code_point, which may be a newline or a tab */
    LINE_KEY_ENTER,
    LINE_KEY_LEFT,
    LINE_KEY_RIGHT,
    LINE_KEY_UP,
    LINE_KEY_DOWN,
    LINE_KEY_PREVIOUS, /* in the history, whatever the cursor's row */
    LINE_KEY_NEXT,
    LINE_KEY_HOME,
    LINE_KEY_END,
    LINE_KEY_WORD_LEFT,
    LINE_KEY_WORD_RIGHT,
    LINE_KEY_BACKSPACE,
    LINE_KEY_DELETE,
    LINE_KEY_DELETE_OR_END, /* Ctrl-D */
    LINE_KEY_KILL_WORD,     /* Ctrl-W: back to a blank */
    LINE_KEY_KILL_WORD_AFTER,
    LINE_KEY_KILL_BEFORE, /* Ctrl-U */
    LINE_KEY_KILL_AFTER,  /* Ctrl-K */
    LINE_KEY_YANK,        /* Ctrl-Y: what was killed last */
    LINE_KEY_CLEAR,       /* Ctrl-L: the screen */
    LINE_KEY_INTERRUPT,   /* Ctrl-C */
    LINE_KEY_SUSPEND      /* Ctrl-Z */
};

/* Zero-initialise. */
struct line_key_reader {
    uint8_t held[32];
    size_t held_length;
    int pasting;
    int after_return; /* in a paste: \r came last, and \n after it is the same newline */
};

enum line_key line_keys_push(struct line_key_reader *reader, uint8_t byte, uint32_t *code_point);
/* Whether the escape key alone may have been pressed: a sequence has begun and nothing followed. */
int line_keys_waiting(const struct line_key_reader *reader);
/* Nothing followed for a while: it was. */
void line_keys_expire(struct line_key_reader *reader);

#endif
