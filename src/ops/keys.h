/* API keys: who may use a server and who may administer it.
 *
 * A key is "bulla-" and 64 hex digits: 32 random bytes. A store keeps only the SHA-256 of these bytes. A slow
 * hash (scrypt, Argon2) makes guessing dear where people choose what is hashed; nobody guesses 256 random bits,
 * so here it would only make every request dear.
 *
 * A store is a file of JSON lines, one object a key, or an SQLite database (table `keys`, write-ahead log,
 * synchronous=FULL); docs/serving.md tables the fields. What lies at the path decides; where nothing does, names
 * that end in .db, .sqlite or .sqlite3 stand for databases. A key that key_store_add has returned is durable. */
#ifndef OPS_KEYS_H
#define OPS_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

enum {
    KEY_BYTES = 32,
    KEY_TEXT = 6 + 2 * KEY_BYTES + 1,
    KEY_ID = 24,
    KEY_TENANT = 64,
    KEY_MOST_PRIORITY = 1000,
    KEY_MOST_COUNT = 100000 /* keys of one store */
};

struct key_entry {
    char id[KEY_ID];          /* names the key in lists and logs: the first 16 hex digits of its hash */
    uint8_t hash[KEY_BYTES];
    char tenant[KEY_TENANT];  /* letters, digits and ._- ; "" for none */
    int is_admin;             /* scope "admin" (may use too), else "use" */
    int is_disabled;
    int priority;             /* largest that its requests may ask for: 0 .. KEY_MOST_PRIORITY */
    uint64_t most_tokens;     /* an answer, 0: no limit */
    int64_t created;          /* Unix time */
};

/* All keys of a store, as it was when it was read; sorted by hash. */
struct key_set;

/* BULLA_E_INPUT naming the line or row where something is not as it must be; one bad key spoils the store,
 * because leaving it out could open what it closes. BULLA_E_IO also where there is no file. */
int key_store_read(const char *path, struct key_set **set, bulla_error *error);
void key_set_free(struct key_set *set); /* NULL is fine */
size_t key_set_count(const struct key_set *set);
const struct key_entry *key_set_at(const struct key_set *set, size_t number);
/* The entry of the key that this text is, also one that is disabled; NULL where it is none. Takes the hash of the key
 * first, so that the time it takes tells nothing about keys of the store. */
const struct key_entry *key_set_find(const struct key_set *set, const char *text, size_t length);

int key_set_equals(const struct key_set *a, const struct key_set *b);

/* What shows whether a store is still as it was: which files it is, their sizes and when they last changed. Costs two
 * calls of the system. */
struct key_stamp {
    struct {
        uint64_t device, inode, size, seconds, nanoseconds;
    } files[2]; /* the store, and an SQLite database's log beside it; zeros where there is none */
};
void key_stamp_take(const char *path, struct key_stamp *stamp);
int key_stamp_equals(const struct key_stamp *a, const struct key_stamp *b);
/* Whether one of its files has changed so lately that a change after the stamp may show the same times: clocks of file
 * systems are coarse. */
int key_stamp_is_fresh(const struct key_stamp *stamp);

/* Makes a key and adds it, with the store where there is none yet. Of `entry`, tenant, is_admin, priority and most_tokens
 * are read, the rest is filled in. `text` is the only copy of the key. */
int key_store_add(const char *path, struct key_entry *entry, char text[KEY_TEXT], bulla_error *error);
/* BULLA_E_USAGE: no such id. */
int key_store_disable(const char *path, const char *id, bulla_error *error);

/* BULLA_E_INPUT naming the field that is not as the comments above say. `where` starts the sentence. */
int key_check(const struct key_entry *entry, const char *where, bulla_error *error);

#endif
