#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/merkle.h"
#include "trust/attestation_internal.h"

enum { MOST_COLLATERAL = 8 << 20, MOST_DOCUMENT_MEMORY = 64 << 20 };

static const char path_member[] = "nonce_path";

/* ---- The tree over nonces ---- */

/* The nodes of a level above one of `count`: a last one without a partner moves up as it is. */
static size_t above(size_t count)
{
    return count / 2 + count % 2;
}

static int hash_parent(const uint8_t (*pair)[32], uint8_t parent[32], bulla_error *error)
{
    uint8_t both[2][32];
    memcpy(both, pair, sizeof both);
    return merkle_root(both[0], 2, parent, error);
}

int nonce_tree_make(const uint8_t (*nonces)[32], size_t count, struct nonce_tree *tree, bulla_error *error)
{
    size_t total = 1;
    for (size_t level = count; level > 1; level = above(level))
        total += level;
    *tree = (struct nonce_tree){.nodes = memory_alloc(total, sizeof *tree->nodes, error), .count = count};
    int code = tree->nodes ? BULLA_OK : BULLA_E_MEMORY;
    for (size_t i = 0; code == BULLA_OK && i < count; i++)
        code = merkle_leaf_hash(nonces[i], sizeof nonces[i], tree->nodes[i], error);
    uint8_t(*level)[32] = tree->nodes;
    for (size_t size = count; code == BULLA_OK && size > 1; size = above(size)) {
        for (size_t i = 0; code == BULLA_OK && i + 1 < size; i += 2)
            code = hash_parent((const uint8_t(*)[32])(level + i), level[size + i / 2], error);
        if (size % 2)
            memcpy(level[size + size / 2], level[size - 1], sizeof *level);
        level += size;
    }
    if (code != BULLA_OK)
        nonce_tree_free(tree);
    return code;
}

void nonce_tree_free(struct nonce_tree *tree)
{
    memory_free(tree->nodes);
    *tree = (struct nonce_tree){0};
}

const uint8_t *nonce_tree_root(const struct nonce_tree *tree)
{
    size_t start = 0;
    for (size_t size = tree->count; size > 1; size = above(size))
        start += size;
    return tree->nodes[start];
}

void nonce_tree_write_path(const struct nonce_tree *tree, size_t index, struct buffer *out)
{
    char hex[65];
    const char *before = "";
    size_t start = 0, place = index;
    buffer_append_format(out, "{\"count\":%zu,\"index\":%zu,\"path\":[", tree->count, index);
    for (size_t size = tree->count; size > 1; start += size, size = above(size), place /= 2) {
        if ((place ^ 1) >= size)
            continue;
        hex_encode(tree->nodes[start + (place ^ 1)], 32, hex);
        buffer_append_format(out, "%s\"%s\"", before, hex);
        before = ",";
    }
    buffer_append_text(out, "]}");
}

/* ---- Collateral ---- */

static int is_same_file(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino && one->st_size == other->st_size &&
           one->st_mtim.tv_sec == other->st_mtim.tv_sec && one->st_mtim.tv_nsec == other->st_mtim.tv_nsec;
}

/* What the attestation itself says, nobody else does. */
static int check_collateral(const char *text, size_t length, const char *path, bulla_error *error)
{
    static const char *const own[] = {"bulla_evidence", "type", "binding", path_member};
    struct arena arena = {.limit = MOST_DOCUMENT_MEMORY};
    const struct json *value = json_parse(text, length, path, &arena, error);
    int code = value ? BULLA_OK : BULLA_E_INPUT;
    if (value && value->type != JSON_OBJECT)
        code = bulla_fail(error, BULLA_E_INPUT, "%s: is not an object of JSON with members for the evidence", path);
    for (size_t i = 0; code == BULLA_OK && i < sizeof own / sizeof *own; i++)
        if (json_get(value, own[i]))
            code = bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" is not the collateral's to say", path, own[i]);
    arena_free(&arena);
    return code;
}

int collateral_read(struct collateral *collateral, bulla_error *error)
{
    struct stat status = {0};
    uint8_t *text;
    size_t length;
    if (!collateral->path)
        return BULLA_OK;
    int is_there = stat(collateral->path, &status) == 0; /* file_read says why not */
    if (collateral->text && is_there && is_same_file(&status, &collateral->status))
        return BULLA_OK;
    int code = file_read(collateral->path, MOST_COLLATERAL, &text, &length, error);
    if (code != BULLA_OK)
        return code;
    code = check_collateral((const char *)text, length, collateral->path, error);
    if (code != BULLA_OK) {
        memory_free(text);
        return code;
    }
    memory_free(collateral->text);
    collateral->text = (char *)text;
    collateral->length = length;
    collateral->status = status;
    return BULLA_OK;
}

void collateral_free(struct collateral *collateral)
{
    memory_free(collateral->text);
    collateral->text = NULL;
}

/* ---- Documents ---- */

/* The items of a list, or a single value, behind those before. */
static void write_items(const struct json *value, const char **before, struct buffer *out)
{
    size_t count = value->type == JSON_ARRAY ? value->length : 1;
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(out, *before);
        json_write(out, value->type == JSON_ARRAY ? value->items[i] : value);
        *before = ",";
    }
}

static int is_list_of_both(const char *name)
{
    return strcmp(name, "certificates") == 0 || strcmp(name, "crls") == 0;
}

static void write_member(const char *name, size_t length, const struct json *value, const struct json *more,
                         struct buffer *out)
{
    const char *before = "";
    buffer_append_byte(out, ',');
    json_write_string(out, name, length);
    buffer_append_byte(out, ':');
    if (!more) {
        json_write(out, value);
        return;
    }
    buffer_append_byte(out, '[');
    write_items(value, &before, out);
    write_items(more, &before, out);
    buffer_append_byte(out, ']');
}

/* Every member of both, in no order. */
static int join(const struct json *given, const struct json *more, const struct binding *binding, struct buffer *out,
                bulla_error *error)
{
    buffer_append_text(out, "{\"bulla_evidence\":1,\"binding\":");
    binding_write(binding, out);
    for (size_t i = 0; i < given->length; i++) {
        const struct json *also = json_get(more, given->keys[i]);
        if (also && !is_list_of_both(given->keys[i]))
            return bulla_fail(error, BULLA_E_INPUT, "the collateral has \"%s\", which the attester gives itself: take it out",
                              given->keys[i]);
        write_member(given->keys[i], given->key_lengths[i], given->items[i], also, out);
    }
    for (size_t i = 0; more && i < more->length; i++)
        if (!json_get(given, more->keys[i]))
            write_member(more->keys[i], more->key_lengths[i], more->items[i], NULL, out);
    buffer_append_byte(out, '}');
    return out->error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, out->error.code, "%s", out->error.text);
}

/* The members whose names come before "nonce_path" as `{...`, or those behind it as `...}`: "bulla_evidence" is among the
 * first, "type" among the others. */
static void write_part(const struct json *whole, int is_tail, struct arena *arena, struct buffer *out, bulla_error *error)
{
    struct buffer text = {0};
    struct json part = {.type = JSON_OBJECT};
    part.items = arena_alloc(arena, whole->length, sizeof *part.items, error);
    part.keys = arena_alloc(arena, whole->length, sizeof *part.keys, error);
    part.key_lengths = arena_alloc(arena, whole->length, sizeof *part.key_lengths, error);
    if (!part.items || !part.keys || !part.key_lengths)
        return;
    for (size_t i = 0; i < whole->length; i++) {
        if ((strcmp(whole->keys[i], path_member) > 0) != is_tail)
            continue;
        part.items[part.length] = whole->items[i];
        part.keys[part.length] = whole->keys[i];
        part.key_lengths[part.length++] = whole->key_lengths[i];
    }
    json_write_canonical(&text, &part);
    if (text.error.code == BULLA_OK)
        buffer_append(out, text.data + is_tail, text.length - 1);
    else
        bulla_fail(error, text.error.code, "%s", text.error.text);
    buffer_free(&text);
}

int document_make(const struct buffer *given, const struct binding *binding, const struct collateral *collateral,
                  struct document *document, bulla_error *error)
{
    struct arena arena = {.limit = MOST_DOCUMENT_MEMORY};
    struct buffer text = {0};
    bulla_error own = {0};
    const struct json *whole = NULL, *more = NULL;
    *document = (struct document){0};
    const struct json *value = json_parse((const char *)given->data, given->length, "the attester's answer", &arena, &own);
    if (value && collateral->text)
        more = json_parse(collateral->text, collateral->length, collateral->path, &arena, &own);
    if (own.code == BULLA_OK && join(value, more, binding, &text, &own) == BULLA_OK)
        whole = json_parse((const char *)text.data, text.length, "the evidence", &arena, &own);
    for (int is_tail = 0; whole && is_tail <= 1 && own.code == BULLA_OK; is_tail++)
        write_part(whole, is_tail, &arena, is_tail ? &document->tail : &document->head, &own);
    if (document->head.error.code != BULLA_OK || document->tail.error.code != BULLA_OK)
        bulla_fail(&own, BULLA_E_MEMORY, "out of memory for a document of evidence");
    arena_free(&arena);
    buffer_free(&text);
    if (own.code == BULLA_OK)
        return BULLA_OK;
    document_free(document);
    return bulla_fail(error, own.code, "%s", own.text);
}

void document_free(struct document *document)
{
    buffer_free(&document->head);
    buffer_free(&document->tail);
}

void document_write_middle(const struct nonce_tree *tree, size_t index, struct buffer *out)
{
    buffer_append_byte(out, ',');
    if (tree) {
        buffer_append_format(out, "\"%s\":", path_member);
        nonce_tree_write_path(tree, index, out);
        buffer_append_byte(out, ',');
    }
}

void document_write(const struct document *document, const struct nonce_tree *tree, size_t index, struct buffer *out)
{
    buffer_append(out, document->head.data, document->head.length);
    document_write_middle(tree, index, out);
    buffer_append(out, document->tail.data, document->tail.length);
}
