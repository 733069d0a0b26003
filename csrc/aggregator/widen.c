#include "widen.h"

#include <stdint.h>
#include <string.h>

#include "aggregator/kernels/matrix.h"
#include "formats/safetensors.h"

void ue_widen(float *out, const unsigned char *bytes, size_t count, unsigned dtype) {
    uint16_t narrow;
    if (dtype == UE_DTYPE_F32) {
        memcpy(out, bytes, count * sizeof *out);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(&narrow, bytes + 2 * i, sizeof narrow);
        out[i] = dtype == UE_DTYPE_F16 ? ue_from_half(narrow) : ue_from_bfloat(narrow);
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
