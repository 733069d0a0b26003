/* What JPEG at quality 75 divides by, and its codes: the tables of ITU-T T.81, Annex K. */
#include <string.h>

#include "score.h"

const uint8_t ue_natural[UE_COEFFICIENTS] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

/* K.1: luminance. */
static const uint8_t luminance[UE_COEFFICIENTS] = {
    16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,
    14, 13, 16, 24, 40,  57,  69,  56,  14, 17, 22, 29, 51,  87,  80,  62,
    18, 22, 37, 56, 68,  109, 103, 77,  24, 35, 55, 64, 81,  104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
};

/*
 * With n < 2^15, 2^b the next power of two and r = ceil(2^(15 + b) / d), n r >> (15 + b) is n / d:
 * r d is less than d <= 2^b too large, so n times that less than 2^(15 + b), which is what a
 * remainder of d - 1 is away from the next quotient.
 */
static void set_divisor(struct ue_divisors *divisors, int place, uint32_t divisor) {
    const unsigned shift = 15 + ue_bit_length(divisor - 1);
    divisors->half[place] = (uint16_t)(divisor / 2);
    divisors->reciprocal[place] = (uint16_t)((((uint32_t)1 << shift) + divisor - 1) / divisor);
    divisors->scale[place] = (uint16_t)((uint32_t)1 << (32 - shift));
}

void ue_divisors_set(struct ue_divisors *divisors) {
    /* sqrt(2) cos(k pi / 16), by which the transform leaves coefficient k too large. */
    static const double left[UE_BLOCK_SIDE] = {1.0, 1.387039845, 1.306562965, 1.175875602,
                                               1.0, 0.785694958, 0.541196100, 0.275899379};
    for (int place = 0; place < UE_COEFFICIENTS; place++) {
        const int k = ue_natural[place];
        const uint32_t step = (luminance[k] * 50u + 50) / 100; /* quality 75 halves the table */
        const double scale = left[k / UE_BLOCK_SIDE] * left[k % UE_BLOCK_SIDE];
        const uint32_t rounded = (uint32_t)(16384 * scale + 0.5);    /* as libjpeg has it */
        set_divisor(divisors, place, (step * rounded + 1024) >> 11); /* 8 steps */
    }
}

/* K.3 and K.5: how many codes there are of 1, 2, ... 16 bits. */
static const uint8_t dc_lengths[16] = {0, 1, 5, 1, 1, 1, 1, 1, 1};
static const uint8_t ac_lengths[16] = {0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125};
static const uint8_t dc_values[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const uint8_t ac_values[162] = {
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61,
    0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52,
    0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25,
    0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45,
    0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64,
    0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6,
    0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3,
    0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8,
    0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
};

/* Codes of one length follow each other: T.81, Annex C. */
static void set_codes(const uint8_t lengths[16], const uint8_t *values, uint32_t *codes) {
    uint32_t code = 0;
    for (uint32_t length = 1; length <= 16; length++, code <<= 1)
        for (int i = 0; i < lengths[length - 1]; i++)
            codes[*values++] = code++ << 8 | length;
}

void ue_codes_set(struct ue_codes *codes) {
    memset(codes, 0, sizeof *codes);
    set_codes(dc_lengths, dc_values, codes->dc);
    set_codes(ac_lengths, ac_values, codes->ac);
    for (uint32_t zeros = 0; zeros < 16; zeros++)
        for (int value = -8; value < 8; value++)
            codes->small[zeros][value + 8] = (uint32_t)ue_code_of(codes->ac + 16 * zeros, value);
}
