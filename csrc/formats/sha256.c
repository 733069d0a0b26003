#include "sha256.h"

#include <string.h>

enum { LENGTH_AT = UE_SHA256_BLOCK - 8 }; /* the last block ends in the length, in bits */

static const uint32_t first_words[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* Of the cube roots of the first 64 primes, as the standard lists them. */
static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turned(uint32_t word, unsigned by) {
    return (word >> by) | (word << (32 - by));
}

/* Big-endian, whatever the machine is. */
static uint32_t word_at(const unsigned char *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* The message schedule: the block's 16 words, and 48 more that are made of them. */
static void expand(const unsigned char *block, uint32_t w[64]) {
    for (size_t i = 0; i < 16; i++)
        w[i] = word_at(block + 4 * i);
    for (size_t i = 16; i < 64; i++) {
        const uint32_t a = w[i - 15], b = w[i - 2];
        const uint32_t early = turned(a, 7) ^ turned(a, 18) ^ (a >> 3);
        const uint32_t late = turned(b, 17) ^ turned(b, 19) ^ (b >> 10);
        w[i] = w[i - 16] + early + w[i - 7] + late;
    }
}

/* One round on the words a to h, which lie in s[0] to s[7]. */
static void mix(uint32_t s[8], uint32_t added) {
    const uint32_t a = s[0], e = s[4];
    const uint32_t choice = (e & s[5]) ^ (~e & s[6]);
    const uint32_t majority = (a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]);
    const uint32_t one = s[7] + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + choice + added;
    const uint32_t two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + majority;
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += one;
    s[0] = one + two;
}

static void take_block(uint32_t words[8], const unsigned char *block) {
    uint32_t w[64], s[8];
    expand(block, w);
    memcpy(s, words, sizeof s);
    for (size_t i = 0; i < 64; i++)
        mix(s, constants[i] + w[i]);
    for (size_t i = 0; i < 8; i++)
        words[i] += s[i];
}

void ue_sha256_start(struct ue_sha256 *hash) {
    *hash = (struct ue_sha256){.bytes = 0};
    memcpy(hash->words, first_words, sizeof first_words);
}

void ue_sha256_add(struct ue_sha256 *hash, const void *bytes, size_t size) {
    const unsigned char *next = bytes;
    while (size) {
        const size_t at = hash->bytes % UE_SHA256_BLOCK, room = UE_SHA256_BLOCK - at;
        const size_t taken = size < room ? size : room;
        if (taken == UE_SHA256_BLOCK) { /* most of a file: need not be copied */
            take_block(hash->words, next);
        } else {
            memcpy(hash->block + at, next, taken);
            if (taken == room)
                take_block(hash->words, hash->block);
        }
        hash->bytes += taken;
        next += taken;
        size -= taken;
    }
}

/* Fill up with a one bit, zeros and the length, as the standard says. */
static void pad(struct ue_sha256 *hash) {
    static const unsigned char padding[UE_SHA256_BLOCK] = {0x80};
    const uint64_t bits = hash->bytes * 8;
    const size_t at = hash->bytes % UE_SHA256_BLOCK;
    unsigned char length[8];
    for (size_t i = 0; i < sizeof length; i++)
        length[i] = (unsigned char)(bits >> (56 - 8 * i));
    ue_sha256_add(hash, padding, (at < LENGTH_AT ? LENGTH_AT : LENGTH_AT + UE_SHA256_BLOCK) - at);
    ue_sha256_add(hash, length, sizeof length);
}

void ue_sha256_finish(struct ue_sha256 *hash, char hex[UE_SHA256_HEX]) {
    static const char digits[] = "0123456789abcdef";
    pad(hash);
    for (size_t i = 0; i < UE_SHA256_HEX - 1; i++)
        hex[i] = digits[hash->words[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hex[UE_SHA256_HEX - 1] = '\0';
}
