/* A folder of a test's own below /tmp: cmocka's group setup and teardown make and remove it. One a program. */
#ifndef TESTS_FOLDER_H
#define TESTS_FOLDER_H

extern char folder[64];

int make_folder(void **state);
int remove_folder(void **state); /* with the files in it, but for hidden ones: where there is one, it fails */
void empty_folder(void);
/* PATH of a name in it; valid until the fourth call after it. */
const char *in_folder(const char *name);

#endif
