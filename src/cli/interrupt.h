/* Ctrl-C and a polite kill as a question to ask: long work that leaves files
 * behind looks here and ends by itself. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

/* From here SIGINT, SIGTERM and SIGHUP only set a flag. Calls nest. The flag is process-wide, as signals are. */
void interrupt_catch(void);
/* Signals act again as before interrupt_catch. */
void interrupt_release(void);
/* Whether one came since interrupt_catch or interrupt_forget. */
int interrupt_came(void);
void interrupt_forget(void);

#endif
