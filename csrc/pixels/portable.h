/* The portable variant: C11, one pixel at a time; what every other variant is compared with. */
#include <string.h>

#define UE_ISA portable
#define UE_TARGET
#define UE_BLOCK 1
#define UE_VEC float

static inline bool ue_supported_portable(void) {
    return true;
}

static UE_INLINE void ue_load_portable(const uint8_t *pixel, float rgb[3]) {
    rgb[0] = pixel[0];
    rgb[1] = pixel[1];
    rgb[2] = pixel[2];
}

static UE_INLINE float ue_splat_portable(float value) {
    return value;
}

static UE_INLINE float ue_mul_portable(float a, float b) {
    return a * b;
}

static UE_INLINE float ue_add_portable(float a, float b) {
    return a + b;
}

static UE_INLINE void ue_store_f32_portable(float *out, float value) {
    *out = value;
}

static UE_INLINE uint32_t ue_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/*
 * float32 to binary16, nearest even, without branches, so that the loop can be vectorised. Below
 * 2^-14 adding 0.5 lets the float adder round: its last bit is then worth 2^-24, the smallest half.
 * Above, adding half a unit less one, plus the bit to be kept, carries into the exponent where it
 * must. There are no NaNs: coefficients are finite and bounded.
 */
static UE_INLINE void ue_store_f16_portable(uint16_t *out, float value) {
    const uint32_t bits = ue_float_bits(value), sign = bits & 0x80000000u, size = bits ^ sign;
    float magnitude;
    memcpy(&magnitude, &size, sizeof magnitude);
    const uint32_t tiny = ue_float_bits(magnitude + 0.5f) - 0x3f000000u;
    const uint32_t normal = (size - 0x38000000u + 0xfffu + ((size >> 13) & 1)) >> 13;
    uint32_t half = size < 0x38800000u ? tiny : normal;
    half = size >= 0x477ff000u ? 0x7c00u : half; /* 65520 and above: infinity */
    *out = (uint16_t)(half | sign >> 16);
}

/* Above 2^23 a float32 has no fraction left: the addition rounds, and its last byte is the answer.
 */
static UE_INLINE void ue_store_u8_portable(uint8_t *out, float value) {
    value = value > 0.0f ? value : 0.0f;
    value = value < 255.0f ? value : 255.0f;
    *out = (uint8_t)ue_float_bits(value + 8388608.0f);
}

static UE_INLINE void ue_copy_portable(const uint8_t *pixel, uint8_t *red, uint8_t *green,
                                       uint8_t *blue) {
    *red = pixel[0];
    *green = pixel[1];
    *blue = pixel[2];
}

/* round(0.299 R + 0.587 G + 0.114 B), halves up. */
static UE_INLINE void ue_luma_portable(const uint8_t *pixel, uint8_t *luma) {
    *luma = (uint8_t)((299u * pixel[0] + 587u * pixel[1] + 114u * pixel[2] + 500) / 1000);
}

#include "template.h"
