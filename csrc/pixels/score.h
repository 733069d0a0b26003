/* Inside ue_content_score: what its parts hand each other. */
#ifndef UE_SCORE_H
#define UE_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "system/instructions.h"

enum {
    UE_BLOCK_SIDE = 8,
    UE_COEFFICIENTS = 64,                /* of a block */
    UE_BLOCKS = 32,                      /* that are transformed at once, side by side */
    UE_BAND = UE_BLOCKS * UE_BLOCK_SIDE, /* their pixels in a row */
    UE_BAND_PIXELS = UE_BAND * UE_BLOCK_SIDE
};

/* (x + half) / divisor, in zigzag order: ((x + half) * reciprocal >> 16) * scale >> 16. */
struct ue_divisors {
    uint16_t half[UE_COEFFICIENTS], reciprocal[UE_COEFFICIENTS], scale[UE_COEFFICIENTS];
};

/* The quantised coefficients of blocks, in zigzag order, and a bit for each that is not 0. */
struct ue_blocks {
    int16_t level[UE_COEFFICIENTS][UE_BLOCKS];
    uint16_t nonzero[UE_COEFFICIENTS / 16][UE_BLOCKS];
};

/* Zigzag order, ITU-T T.81, figure A.6: where each one is among rows of coefficients. */
extern const uint8_t ue_natural[UE_COEFFICIENTS];

void ue_divisors_set(struct ue_divisors *divisors);

/* Huffman codes of ITU-T T.81, Annex K, above the number of their bits, which takes 8. */
struct ue_codes {
    uint32_t dc[16], ac[256]; /* by the number of bits of a level; of zeros before, and that */
    uint32_t small[16][16];   /* of zeros before, and levels of -8 to 7, which are included */
};

void ue_codes_set(struct ue_codes *codes);

/* The code of a level, and the level itself. */
static inline uint64_t ue_code_of(const uint32_t *codes, int level) {
    const unsigned length = ue_bit_length((uint32_t)(level < 0 ? -level : level));
    const uint64_t code = codes[length];
    const uint32_t value = (uint32_t)(level - (level < 0)) & ((1u << length) - 1);
    return ((code >> 8) << length | value) << 8 | ((code & 255) + length);
}

/* The bits of a level are at most 11, those of its code 16. */
enum { UE_CODED_BYTES = UE_BLOCKS * UE_COEFFICIENTS * 27 / 8 + 8 };

/* Counts the bytes of an entropy-coded segment. */
struct ue_coder {
    struct ue_codes codes;
    int before;     /* level 0 of the last block */
    uint64_t bytes; /* of what is coded, stuffed ones included */
    uint64_t bits;  /* that make no whole byte yet, */
    unsigned more;  /* and how many they are */
};

void ue_coder_start(struct ue_coder *coder);
/* Code the first `count` blocks. */
void ue_coder_add(struct ue_coder *coder, const struct ue_blocks *blocks, size_t count);
/* The bytes of the segment, once it is complete. */
uint64_t ue_coder_end(const struct ue_coder *coder);

#endif
