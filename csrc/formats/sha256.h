/* SHA-256 (FIPS 180-4), by which a bundle names its files. Bytes may come in parts of any size. */
#ifndef UE_SHA256_H
#define UE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { UE_SHA256_BLOCK = 64, UE_SHA256_HEX = 65 };

/* What was hashed so far; a whole number of blocks, and the beginning of the next one. */
struct ue_sha256 {
    uint32_t words[8];
    uint64_t bytes;
    unsigned char block[UE_SHA256_BLOCK];
};

void ue_sha256_start(struct ue_sha256 *hash);
/* `bytes` may be NULL where `size` is 0. */
void ue_sha256_add(struct ue_sha256 *hash, const void *bytes, size_t size);
/* The digest as manifests write it, lower case with a NUL; to hash again, start again. */
void ue_sha256_finish(struct ue_sha256 *hash, char hex[UE_SHA256_HEX]);

#endif
