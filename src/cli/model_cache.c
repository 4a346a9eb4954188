#define _GNU_SOURCE
#include "cli/model_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "cli/importing.h"
#include "cli/interrupt.h"
#include "model/model_file.h"
#include "model/source.h"

enum { DIGEST = HASH_SHA256_BYTES, DIGEST_TEXT = 2 * HASH_SHA256_BYTES };

/* Where things lie, as C strings in buffers. */
struct cache_paths {
    struct buffer folder, known, model, lock;
    const char *model_name; /* inside `model` */
};

static int fail_with_errno(bulla_error *error, const char *path, const char *what)
{
    char text[128];
    int number = errno;
    return bulla_fail(error, BULLA_E_IO, "%s: cannot %s: %s", path, what, strerror_r(number, text, sizeof text));
}

static int buffer_result(const struct buffer *buffer, bulla_error *error)
{
    return buffer->error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, buffer->error.code, "%s", buffer->error.text);
}

static void free_paths(struct cache_paths *paths)
{
    buffer_free(&paths->folder);
    buffer_free(&paths->known);
    buffer_free(&paths->model);
    buffer_free(&paths->lock);
}

/* Whether the file starts as a model file does. A file that cannot be opened is left to the
 * readers of sources, whose sentences say what is wrong with it. */
static int is_model_file(const char *path)
{
    char magic[sizeof MODEL_FILE_MAGIC];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0)
        return 0;
    ssize_t count = read(descriptor, magic, sizeof magic);
    close(descriptor);
    return count == (ssize_t)sizeof magic && memcmp(magic, MODEL_FILE_MAGIC, sizeof magic) == 0;
}

/* --- The signature of a source's files --- */

static void sign_file(struct buffer *text, const char *path, const struct stat *status)
{
    buffer_append_format(text, "%s\n%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 ".%09ld %" PRId64 ".%09ld\n", path,
                         (uint64_t)status->st_dev, (uint64_t)status->st_ino, (uint64_t)status->st_size,
                         (int64_t)status->st_mtim.tv_sec, (long)status->st_mtim.tv_nsec,
                         (int64_t)status->st_ctim.tv_sec, (long)status->st_ctim.tv_nsec);
}

static int compare_entries(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Every regular file of a folder: whichever of them matter to the reader. */
static void sign_folder(struct buffer *text, const char *folder, bulla_error *error)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, compare_entries);
    if (count < 0) {
        fail_with_errno(error, folder, "list it");
        return;
    }
    struct buffer path = {0};
    for (int i = 0; i < count; i++) {
        struct stat status;
        buffer_clear(&path);
        buffer_append_format(&path, "%s/%s", folder, entries[i]->d_name);
        if (path.error.code == BULLA_OK && stat((const char *)path.data, &status) == 0 && S_ISREG(status.st_mode))
            sign_file(text, (const char *)path.data, &status);
        free(entries[i]); /* scandir's own, not base/memory.h's */
    }
    free(entries);
    if (path.error.code != BULLA_OK)
        text->error = path.error;
    buffer_free(&path);
}

static int hash_text(const struct buffer *text, char hex[DIGEST_TEXT + 1], bulla_error *error)
{
    uint8_t digest[DIGEST];
    int code = buffer_result(text, error);
    if (code == BULLA_OK)
        code = hash_sha256(text->data, text->length, digest, error);
    if (code == BULLA_OK)
        hex_encode(digest, DIGEST, hex);
    return code;
}

/* Hex of the signature of everything that the source at `path` may read. */
static int find_signature(const struct source *source, const char *path, char signature[DIGEST_TEXT + 1],
                          bulla_error *error)
{
    bulla_error own = {0};
    struct stat status;
    char *real = realpath(path, NULL);
    if (!real || stat(real, &status) != 0) {
        free(real);
        return fail_with_errno(error, path, "look at it");
    }
    struct buffer text = {0};
    buffer_append_format(&text, "%s\n", real);
    if (S_ISDIR(status.st_mode)) {
        sign_folder(&text, real, &own);
    } else {
        sign_file(&text, real, &status);
        char *slash = strrchr(real, '/');
        if (source_kind(source) == SOURCE_SAFETENSORS && slash) {
            *slash = 0; /* config.json and its like lie beside it */
            sign_folder(&text, slash == real ? "/" : real, &own);
        }
    }
    free(real);
    int code = own.code == BULLA_OK ? hash_text(&text, signature, &own) : own.code;
    buffer_free(&text);
    return code == BULLA_OK ? code : bulla_fail(error, code, "%s", own.text);
}

/* --- Folders --- */

static int make_folder(const char *path, bulla_error *error)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return BULLA_OK;
    return fail_with_errno(error, path, "make this folder (BULLA_CACHE names another place for imported models)");
}

/* `folder` with those above it that are not there. */
static int make_folders(struct buffer *folder, bulla_error *error)
{
    char *path = (char *)folder->data;
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        struct stat status;
        int code = stat(path, &status) == 0 ? BULLA_OK : make_folder(path, error);
        *slash = '/';
        if (code != BULLA_OK)
            return code;
    }
    return make_folder(path, error);
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

static int name_folders(struct cache_paths *paths, bulla_error *error)
{
    const char *own = variable("BULLA_CACHE"), *shared = variable("XDG_CACHE_HOME"), *home = variable("HOME");
    if (own)
        buffer_append_text(&paths->folder, own);
    else if (shared)
        buffer_append_format(&paths->folder, "%s/bulla", shared);
    else if (home)
        buffer_append_format(&paths->folder, "%s/.cache/bulla", home);
    else
        return bulla_fail(error, BULLA_E_USAGE,
                          "there is no place for imported models: neither BULLA_CACHE nor HOME is set; set one, or "
                          "`bulla import` the model to a file");
    buffer_append_text(&paths->folder, "/models");
    buffer_append_format(&paths->known, "%s/known", (const char *)paths->folder.data);
    return buffer_result(&paths->known, error);
}

static int find_folders(struct cache_paths *paths, bulla_error *error)
{
    int code = name_folders(paths, error);
    return code == BULLA_OK ? make_folders(&paths->known, error) : code;
}

/* --- Digests that are known by signature --- */

static int read_known(const char *path, uint8_t digest[DIGEST])
{
    char text[DIGEST_TEXT + 1];
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t length = fread(text, 1, sizeof text, file);
    fclose(file);
    return length == sizeof text && text[DIGEST_TEXT] == '\n' && hex_decode(text, DIGEST_TEXT, digest, DIGEST);
}

static int write_known(const char *path, const uint8_t digest[DIGEST], bulla_error *error)
{
    char text[DIGEST_TEXT + 2];
    hex_encode(digest, DIGEST, text);
    text[DIGEST_TEXT] = '\n';
    return file_write(path, text, DIGEST_TEXT + 1, error);
}

/* The source's digest, from memory where its files are as they were. */
static int find_digest(const struct source *source, const char *path, const struct cache_paths *paths,
                       uint8_t digest[DIGEST], bulla_error *error)
{
    char signature[DIGEST_TEXT + 1];
    int code = find_signature(source, path, signature, error);
    if (code != BULLA_OK)
        return code;
    struct buffer known = {0};
    buffer_append_format(&known, "%s/%s", (const char *)paths->known.data, signature);
    code = buffer_result(&known, error);
    if (code == BULLA_OK && !read_known((const char *)known.data, digest)) {
        code = source_digest(source, digest, error);
        if (code == BULLA_OK)
            code = write_known((const char *)known.data, digest, error);
    }
    buffer_free(&known);
    return code;
}

/* --- Model files whose root is known by signature --- */

/* A file that was changed this short a time ago might be changed again without its times telling. */
enum { SETTLED_SECONDS = 2 };

/* Where the root of the file with this status would be remembered; 0: nowhere. Free both in every case. */
static int find_place(const char *path, const struct stat *status, struct cache_paths *paths, struct buffer *place)
{
    bulla_error none = {0};
    char signature[DIGEST_TEXT + 1];
    struct buffer text = {0};
    char *real = realpath(path, NULL);
    sign_file(&text, real ? real : path, status);
    int found = hash_text(&text, signature, &none) == BULLA_OK && name_folders(paths, &none) == BULLA_OK;
    if (found)
        buffer_append_format(place, "%s/%s", (const char *)paths->known.data, signature);
    free(real);
    buffer_free(&text);
    return found && place->error.code == BULLA_OK;
}

static int is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The file's root is computed and remembered, or was before for the file as it is now. */
static int open_descriptor(const char *path, int descriptor, const struct model_opening *opening, bulla_model **model,
                           bulla_error *error)
{
    struct stat before, after;
    struct cache_paths paths = {0};
    struct buffer place = {0};
    bulla_error none = {0};
    uint8_t root[DIGEST];
    int code = BULLA_OK, is_open = 0;
    int has_place = fstat(descriptor, &before) == 0 && !opening->always_rooted && find_place(path, &before, &paths, &place);
    int is_settled = has_place && time(NULL) - before.st_ctim.tv_sec > SETTLED_SECONDS;
    if (has_place && read_known((const char *)place.data, root) &&
        bulla_model_open_unrooted(descriptor, path, model, &none) == BULLA_OK) {
        is_open = memcmp(bulla_model_root(*model), root, DIGEST) == 0;
        if (!is_open) {
            bulla_model_close(*model);
            *model = NULL;
        }
    }
    if (!is_open)
        code = bulla_model_open_descriptor(descriptor, path, opening->threads, model, error);
    if (!is_open && code == BULLA_OK && is_settled && fstat(descriptor, &after) == 0 && is_same_file(&before, &after) &&
        make_folders(&paths.known, &none) == BULLA_OK)
        write_known((const char *)place.data, bulla_model_root(*model), &none); /* else it is computed again next time */
    buffer_free(&place);
    free_paths(&paths);
    return code;
}

static int open_model_file(const char *path, const struct model_opening *opening, bulla_model **model, bulla_error *error)
{
    int descriptor, code = file_open(path, &descriptor, error);
    if (code != BULLA_OK)
        return code;
    code = open_descriptor(path, descriptor, opening, model, error);
    close(descriptor);
    return code;
}

static int name_model(struct cache_paths *paths, const uint8_t digest[DIGEST], bulla_error *error)
{
    char text[DIGEST_TEXT + 1];
    hex_encode(digest, DIGEST, text);
    buffer_append_format(&paths->model, "%s/%s-r%d.bulla", (const char *)paths->folder.data, text, IMPORT_REVISION);
    buffer_append_format(&paths->lock, "%s.lock", (const char *)paths->model.data);
    int code = buffer_result(&paths->model, error);
    if (code == BULLA_OK)
        code = buffer_result(&paths->lock, error);
    if (code == BULLA_OK)
        paths->model_name = strrchr((const char *)paths->model.data, '/') + 1;
    return code;
}

/* --- The import itself, by one process at a time --- */

/* Takes the lock; -1 with the error recorded. Closing the descriptor gives it back. */
static int take_lock(const char *path, bulla_error *error)
{
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0) {
        fail_with_errno(error, path, "open it");
        return -1;
    }
    int result = flock(descriptor, LOCK_EX | LOCK_NB);
    if (result != 0 && errno == EWOULDBLOCK) {
        fprintf(stderr, "waiting for another process that imports the same model\n");
        do
            result = flock(descriptor, LOCK_EX);
        while (result != 0 && errno == EINTR);
    }
    if (result == 0)
        return descriptor;
    fail_with_errno(error, path, "lock it");
    close(descriptor);
    return -1;
}

/* Removes what imports of this model that were killed left behind; call with the lock held. */
static void remove_partials(const struct cache_paths *paths)
{
    DIR *folder = opendir((const char *)paths->folder.data);
    if (!folder)
        return;
    struct buffer prefix = {0};
    buffer_append_format(&prefix, "%s.partial-", paths->model_name);
    for (struct dirent *entry; prefix.error.code == BULLA_OK && (entry = readdir(folder));)
        if (strncmp(entry->d_name, (const char *)prefix.data, prefix.length) == 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
    buffer_free(&prefix);
    closedir(folder);
}

static int import_now(const char *source, const struct cache_paths *paths, unsigned threads, bulla_error *error)
{
    uint8_t root[32];
    double seconds;
    remove_partials(paths);
    fprintf(stderr, "importing %s (once: the result is kept in %s)\n", source, (const char *)paths->folder.data);
    int code = importing_run(source, (const char *)paths->model.data, &(struct import_options){.threads = threads},
                             root, &seconds, error);
    if (code == BULLA_OK)
        fprintf(stderr, "imported in %.1f s\n", seconds);
    return code;
}

/* The cached model, of the right source; BULLA_E_INPUT where the file is not what it should be. */
static int open_cached(const struct cache_paths *paths, const uint8_t digest[DIGEST], const struct model_opening *opening,
                       bulla_model **model, bulla_error *error)
{
    int code = open_model_file((const char *)paths->model.data, opening, model, error);
    if (code == BULLA_OK && memcmp(bulla_model_source_digest(*model), digest, DIGEST) != 0) {
        bulla_model_close(*model);
        *model = NULL;
        code = bulla_fail(error, BULLA_E_INPUT, "%s: made from another source than its name says",
                          (const char *)paths->model.data);
    }
    return code;
}

/* *model stays NULL where there is none, or one that is damaged (said, and removed where `locked`). */
static int open_if_there(const struct cache_paths *paths, const uint8_t digest[DIGEST],
                         const struct model_opening *opening, int locked, bulla_model **model, bulla_error *error)
{
    enum file_kind kind;
    bulla_error damage = {0};
    const char *path = (const char *)paths->model.data;
    int code = file_find_kind(path, &kind, error);
    if (code != BULLA_OK || kind == FILE_ABSENT)
        return code;
    code = open_cached(paths, digest, opening, model, &damage);
    if (code != BULLA_E_INPUT && code != BULLA_E_UNSUPPORTED)
        return code == BULLA_OK ? code : bulla_fail(error, code, "%s", damage.text);
    if (locked) {
        fprintf(stderr, "%s\nit is imported again\n", damage.text);
        unlink(path);
    }
    return BULLA_OK;
}

/* With the lock: another process may have imported it meanwhile. */
static int import_locked(const char *source, const struct cache_paths *paths, const uint8_t digest[DIGEST],
                         const struct model_opening *opening, bulla_model **model, bulla_error *error)
{
    int lock = take_lock((const char *)paths->lock.data, error);
    if (lock < 0)
        return BULLA_E_IO;
    int code = open_if_there(paths, digest, opening, 1, model, error);
    if (code == BULLA_OK && !*model) {
        code = import_now(source, paths, opening->threads, error);
        if (code == BULLA_OK)
            code = open_cached(paths, digest, opening, model, error);
    }
    close(lock);
    return code;
}

/* Where the import of `source` lies, or would. `paths` is to be freed also after an error. */
static int find_cached(const char *path, const struct source *source, struct cache_paths *paths, uint8_t digest[DIGEST],
                       bulla_error *error)
{
    int code = find_folders(paths, error);
    if (code == BULLA_OK)
        code = find_digest(source, path, paths, digest, error);
    return code == BULLA_OK ? name_model(paths, digest, error) : code;
}

static int open_source(const char *path, const struct source *source, const struct model_opening *opening,
                       bulla_model **model, bulla_error *error)
{
    struct cache_paths paths = {0};
    uint8_t digest[DIGEST];
    int code = find_cached(path, source, &paths, digest, error);
    if (code == BULLA_OK)
        code = open_if_there(&paths, digest, opening, 0, model, error);
    if (code == BULLA_OK && !*model)
        code = import_locked(path, &paths, digest, opening, model, error);
    free_paths(&paths);
    return code;
}

int model_cache_open(const char *path, const struct model_opening *opening, bulla_model **model, bulla_error *error)
{
    *model = NULL;
    if (is_model_file(path))
        return open_model_file(path, opening, model, error);
    struct source *source;
    int code = source_open(path, &source, error);
    if (code != BULLA_OK)
        return code;
    code = open_source(path, source, opening, model, error);
    source_close(source);
    return code;
}

static int find_source(const char *path, const struct source *source, const struct model_opening *opening,
                       struct buffer *found, bulla_error *error)
{
    struct cache_paths paths = {0};
    uint8_t digest[DIGEST];
    enum file_kind kind = FILE_ABSENT;
    bulla_model *model = NULL;
    int code = find_cached(path, source, &paths, digest, error);
    if (code == BULLA_OK)
        code = file_find_kind((const char *)paths.model.data, &kind, error);
    if (code == BULLA_OK && kind == FILE_ABSENT)
        code = import_locked(path, &paths, digest, opening, &model, error);
    bulla_model_close(model);
    if (code == BULLA_OK)
        buffer_append(found, paths.model.data, paths.model.length);
    free_paths(&paths);
    return code == BULLA_OK ? buffer_result(found, error) : code;
}

int model_cache_find(const char *path, unsigned threads, struct buffer *found, bulla_error *error)
{
    if (is_model_file(path)) {
        buffer_append_text(found, path);
        return buffer_result(found, error);
    }
    struct source *source;
    int code = source_open(path, &source, error);
    if (code != BULLA_OK)
        return code;
    code = find_source(path, source, &(struct model_opening){threads, 1}, found, error);
    source_close(source);
    return code;
}
