#include "base/merkle_range.h"

#include <string.h>

int merkle_range_leaf(struct hash_stream *stream, int tag, const void *data, size_t length, uint8_t hash[MERKLE_HASH])
{
    uint8_t head[2] = {0, (uint8_t)tag};
    hash_stream_update(stream, head, tag < 0 ? 1 : 2);
    hash_stream_update(stream, data, length);
    return hash_stream_finish(stream, hash, NULL);
}

unsigned merkle_range_length(uint64_t first, uint64_t count, uint64_t total)
{
    unsigned length = 0;
    for (uint64_t last = first + count - 1; total > 1; first /= 2, last /= 2, total = total / 2 + (total & 1))
        length += (unsigned)(first & 1) + (!(last & 1) && last + 1 < total);
    return length;
}

int merkle_range_verify(struct hash_stream *stream, uint8_t (*nodes)[MERKLE_HASH], uint64_t first, uint64_t count,
                        uint64_t total, const uint8_t *proof, const uint8_t root[MERKLE_HASH])
{
    if (count == 0 || count > MERKLE_RANGE_LEAVES || first >= total || count > total - first)
        return 0;
    for (; total > 1; first /= 2, total = total / 2 + (total & 1)) {
        if (first & 1) {
            memmove(nodes + 1, nodes, count * MERKLE_HASH);
            memcpy(nodes[0], proof, MERKLE_HASH);
            proof += MERKLE_HASH;
            first--;
            count++;
        }
        if (count & 1 && first + count < total) {
            memcpy(nodes[count++], proof, MERKLE_HASH);
            proof += MERKLE_HASH;
        }
        for (uint64_t i = 0; i < count / 2; i++)
            if (merkle_hash_node(stream, nodes[2 * i], nodes[2 * i + 1], nodes[i], NULL))
                return 0;
        if (count & 1) /* the tree's last node has no sibling: it moves up unchanged */
            memmove(nodes[count / 2], nodes[count - 1], MERKLE_HASH);
        count = count / 2 + (count & 1);
    }
    return memcmp(nodes[0], root, MERKLE_HASH) == 0;
}

int merkle_prefix_add(struct hash_stream *stream, struct merkle_prefix *prefix, const uint8_t leaf[MERKLE_HASH])
{
    uint8_t node[MERKLE_HASH];
    memcpy(node, leaf, MERKLE_HASH);
    int level = 0, code = BULLA_OK;
    for (uint64_t rest = prefix->count; rest & 1 && code == BULLA_OK; rest >>= 1)
        code = merkle_hash_node(stream, prefix->nodes[level++], node, node, NULL);
    memcpy(prefix->nodes[level], node, MERKLE_HASH);
    prefix->count++;
    return code;
}

int merkle_prefix_verify(struct hash_stream *stream, const struct merkle_prefix *prefix, uint64_t total,
                         const uint8_t *proof, unsigned length, const uint8_t root[MERKLE_HASH])
{
    uint64_t count = prefix->count; /* nodes of this level that are complete */
    if (count == 0 || count > total || length != merkle_range_length(0, count, total))
        return 0;
    uint8_t edge[MERKLE_HASH]; /* the node after them, where part of its leaves is among the first */
    int has_edge = 0, code = BULLA_OK;
    for (int level = 0; total > 1 && code == BULLA_OK; level++, count /= 2, total = total / 2 + (total & 1)) {
        const uint8_t *left = count & 1 ? prefix->nodes[level] : edge, *right = has_edge ? edge : NULL;
        uint64_t index = count & 1 ? count - 1 : count; /* of `left`: always even */
        if (!(count & 1) && !has_edge)
            continue;
        if (!(count & 1) || !right) {
            right = index + 1 < total ? proof : NULL;
            if (right)
                proof += MERKLE_HASH;
        }
        if (right)
            code = merkle_hash_node(stream, left, right, edge, NULL);
        else if (left != edge)
            memcpy(edge, left, MERKLE_HASH);
        has_edge = 1;
        /* A pair of complete nodes is itself in prefix->nodes, so only an edge goes on here. */
    }
    if (!has_edge) { /* all leaves, and a power of two of them */
        int level = 0;
        for (uint64_t rest = prefix->count; rest > 1; rest >>= 1)
            level++;
        memcpy(edge, prefix->nodes[level], MERKLE_HASH);
    }
    return code == BULLA_OK && memcmp(edge, root, MERKLE_HASH) == 0;
}
