/* For tests in Python: what the C reader makes of a model.
 *
 *   tool_source list PATH               a line per tensor: name, type, shape
 *   tool_source tensor PATH NAME        its values as little-endian float32, raw
 *   tool_source digest PATH             hex
 *   tool_source get PATH KIND KEY       KIND: integer, real, bool, text, array, array_integer, array_real,
 *                                       array_text (every element, one a line)
 *   tool_source probe PATH...           reads all there is; a line each: "ok", or the error's code and sentence
 *   tool_source cuts PATH STEP          opens a GGUF file cut at every multiple of STEP bytes; how many cuts
 *                                       there are, and how many opened all the same
 *
 * Exits 0; 1 with the sentence on standard error; 3 where a setting is absent. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "model/source_format.h"

static int report(const bulla_error *error)
{
    fprintf(stderr, "%s: %s\n", bulla_code_name(error->code), error->text);
    return 1;
}

static int list(const struct source *source)
{
    for (size_t i = 0; i < source_tensor_count(source); i++) {
        const struct source_tensor *tensor = source_tensor_at(source, i);
        printf("%s\t%s\t", tensor->name, tensor->type_name);
        for (int d = 0; d < tensor->dimensions; d++)
            printf("%s%" PRIu64, d ? "," : "", tensor->shape[d]);
        printf("\n");
    }
    return 0;
}

/* In pieces of an odd number of rows, so that row arithmetic is exercised. */
static int dump(const struct source *source, const struct source_tensor *tensor, FILE *out, bulla_error *error)
{
    uint64_t piece = tensor->columns ? (1 << 20) / tensor->columns | 1 : 1;
    for (uint64_t row = 0; row < tensor->rows; row += piece) {
        uint64_t count = tensor->rows - row < piece ? tensor->rows - row : piece;
        float *values = malloc((size_t)(count * tensor->columns) * sizeof *values + 1);
        if (!values)
            return bulla_fail(error, BULLA_E_MEMORY, "out of memory");
        int code = source_tensor_read(source, tensor, row, count, values, error);
        if (code == BULLA_OK && out)
            fwrite(values, sizeof *values, (size_t)(count * tensor->columns), out);
        free(values);
        if (code != BULLA_OK)
            return code;
    }
    source_tensor_release(source, tensor);
    return BULLA_OK;
}

static void probe(const char *path)
{
    bulla_error error = {0};
    struct source *source;
    int code = source_open(path, &source, &error);
    for (size_t i = 0; code == BULLA_OK && i < source_tensor_count(source); i++)
        code = dump(source, source_tensor_at(source, i), NULL, &error);
    source_close(source);
    if (code == BULLA_OK)
        printf("ok\n");
    else
        printf("%s: %s\n", bulla_code_name(error.code), error.text);
}

static int cut(const char *path, size_t step, bulla_error *error)
{
    struct file_map map;
    size_t cuts = 0, opened = 0;
    if (file_map_open(path, &map, error) != BULLA_OK)
        return report(error);
    for (size_t length = 0; length < map.length; length += step, cuts++) {
        bulla_error own = {0};
        struct source *source;
        opened += source_open_bytes(SOURCE_GGUF, map.data, length, NULL, 0, &source, &own) == BULLA_OK;
        source_close(source);
    }
    file_map_close(&map);
    printf("%zu %zu\n", cuts, opened);
    return 0;
}

static int print_element(const struct source *source, const char *kind, const char *key, uint64_t index,
                         bulla_error *error)
{
    int64_t integer = 0;
    double real = 0;
    const char *text = "";
    size_t length = 0;
    int found;
    if (strcmp(kind, "array_integer") == 0)
        found = source_get_array_integer(source, key, index, &integer, error);
    else if (strcmp(kind, "array_real") == 0)
        found = source_get_array_real(source, key, index, &real, error);
    else
        found = source_get_array_text(source, key, index, &text, &length, error);
    if (found != 1)
        return found;
    if (strcmp(kind, "array_integer") == 0)
        printf("%" PRId64 "\n", integer);
    else if (strcmp(kind, "array_real") == 0)
        printf("%a\n", real);
    else
        printf("%s\n", text);
    return 1;
}

static int get(const struct source *source, const char *kind, const char *key, bulla_error *error)
{
    int64_t integer = 0;
    double real = 0;
    int boolean = 0, found;
    const char *text = NULL;
    size_t length = 0;
    uint64_t count = 0;
    if (strcmp(kind, "integer") == 0) {
        found = source_get_integer(source, key, INT64_MIN, INT64_MAX, &integer, error);
        if (found == 1)
            printf("%" PRId64 "\n", integer);
    } else if (strcmp(kind, "real") == 0) {
        found = source_get_real(source, key, &real, error);
        if (found == 1)
            printf("%a\n", real);
    } else if (strcmp(kind, "bool") == 0) {
        found = source_get_bool(source, key, &boolean, error);
        if (found == 1)
            printf("%d\n", boolean);
    } else if (strcmp(kind, "text") == 0) {
        found = source_get_text(source, key, &text, &length, error);
        if (found == 1)
            fwrite(text, 1, length, stdout);
    } else {
        found = source_get_array(source, key, &count, error);
        if (found == 1 && strcmp(kind, "array") == 0)
            printf("%" PRIu64 "\n", count);
        for (uint64_t i = 0; found == 1 && strcmp(kind, "array") != 0 && i < count; i++)
            found = print_element(source, kind, key, i, error);
    }
    return found == 1 ? 0 : found == 0 ? 3 : report(error);
}

static int print_digest(const struct source *source, bulla_error *error)
{
    uint8_t digest[32];
    char text[65];
    if (source_digest(source, digest, error) != BULLA_OK)
        return report(error);
    hex_encode(digest, sizeof digest, text);
    printf("%s\n", text);
    return 0;
}

int main(int argc, char **argv)
{
    bulla_error error = {0};
    struct source *source;
    if (argc < 3)
        return 2;
    for (int i = 2; strcmp(argv[1], "probe") == 0 && i < argc; i++)
        probe(argv[i]);
    if (strcmp(argv[1], "probe") == 0)
        return 0;
    if (strcmp(argv[1], "cuts") == 0 && argc == 4 && strtoull(argv[3], NULL, 10) > 0)
        return cut(argv[2], (size_t)strtoull(argv[3], NULL, 10), &error);
    if (source_open(argv[2], &source, &error) != BULLA_OK)
        return report(&error);
    int status = 2;
    if (strcmp(argv[1], "list") == 0)
        status = list(source);
    else if (strcmp(argv[1], "digest") == 0)
        status = print_digest(source, &error);
    else if (strcmp(argv[1], "get") == 0 && argc == 5)
        status = get(source, argv[3], argv[4], &error);
    else if (strcmp(argv[1], "tensor") == 0 && argc == 4) {
        const struct source_tensor *tensor = source_tensor_find(source, argv[3]);
        if (!tensor)
            bulla_fail(&error, BULLA_E_USAGE, "no tensor %s", argv[3]);
        else
            dump(source, tensor, stdout, &error);
        status = error.code ? report(&error) : 0;
    }
    source_close(source);
    return status;
}
