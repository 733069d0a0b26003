#include "widen.h"

#include <stdint.h>
#include <string.h>

#include "safetensors.h"

/*
 * binary16 to float32. A subnormal half is a whole number of 2^-24 and a normal float32, so nothing
 * here depends on whether the host's threads flush denormals.
 */
static float from_half(uint16_t half) {
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

static float from_bfloat(uint16_t bfloat) {
    const uint32_t bits = (uint32_t)bfloat << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void ue_widen(float *out, const unsigned char *bytes, size_t count, unsigned dtype) {
    uint16_t narrow;
    if (dtype == UE_DTYPE_F32) {
        memcpy(out, bytes, count * sizeof *out);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(&narrow, bytes + 2 * i, sizeof narrow);
        out[i] = dtype == UE_DTYPE_F16 ? from_half(narrow) : from_bfloat(narrow);
    }
}

bool ue_all_positive(const unsigned char *bytes, size_t count) {
    uint32_t bits, bad = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(&bits, bytes + 4 * i, sizeof bits);
        bad |= bits - 1 >= 0x7f7fffff; /* a sign, an exponent of ones, or 0 */
    }
    return !bad;
}
