/* Half-precision numbers as float32. */
#ifndef UE_HALF_H
#define UE_HALF_H

#include <stdint.h>
#include <string.h>

/*
 * binary16 to float32. A subnormal half is a whole number of 2^-24 and a normal float32, so nothing
 * here depends on whether the host's threads flush denormals.
 */
static inline float ue_from_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest < 0x0400) {
        const float magnitude = (float)rest * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    const uint32_t rebias = rest >= 0x7c00 ? 0x70000000 : 0x38000000; /* infinities and NaNs too */
    const uint32_t bits = sign | ((rest << 13) + rebias);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float ue_from_bfloat(uint16_t bfloat) {
    const uint32_t bits = (uint32_t)bfloat << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
