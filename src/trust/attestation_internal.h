/* What the attestation's parts share: documents as they are put together, the tree over nonces, the collateral's file. */
#ifndef TRUST_ATTESTATION_INTERNAL_H
#define TRUST_ATTESTATION_INTERNAL_H

#include <sys/stat.h>

#include "trust/attestation.h"
#include "trust/binding.h"

/* The Merkle tree (RFC 6962) over nonces, level by level: the path of each costs no hash more. */
struct nonce_tree {
    uint8_t (*nodes)[32]; /* the leaves' hashes, then each level above, the root last */
    size_t count;         /* leaves */
};

int nonce_tree_make(const uint8_t (*nonces)[32], size_t count, struct nonce_tree *tree, bulla_error *error);
void nonce_tree_free(struct nonce_tree *tree); /* a zeroed one is fine */
const uint8_t *nonce_tree_root(const struct nonce_tree *tree);
/* {"count":N,"index":I,"path":[...]} */
void nonce_tree_write_path(const struct nonce_tree *tree, size_t index, struct buffer *out);

/* What an operator gives for the documents beside what the attester says: certificates, revocation lists, collateral. */
struct collateral {
    const char *path;  /* NULL: none */
    char *text;        /* an object of JSON */
    size_t length;
    struct stat status; /* of the file when it was read */
};

/* Reads the file where it is another than last time. After an error the text is as before. */
int collateral_read(struct collateral *collateral, bulla_error *error);
void collateral_free(struct collateral *collateral);

/* A document in canonical form, cut where "nonce_path" has its place. */
struct document {
    struct buffer head, tail;
};

/* Of what the attester gave (an object of JSON), the binding and the collateral. A list of certificates or revocation lists
 * that both give is the attester's followed by the collateral's; nothing else may be in both. */
int document_make(const struct buffer *given, const struct binding *binding, const struct collateral *collateral,
                  struct document *document, bulla_error *error);
void document_free(struct document *document);
/* What comes between the two; `tree` NULL: the nonce is the binding's own. */
void document_write_middle(const struct nonce_tree *tree, size_t index, struct buffer *out);
/* The whole. */
void document_write(const struct document *document, const struct nonce_tree *tree, size_t index, struct buffer *out);

#endif
