/* The variants of the aggregator's kernels that this build has, and the choice at run time. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__)
#define UE_UNROLL _Pragma("GCC unroll 16")
#define UE_PREFETCH(address) __builtin_prefetch(address)
#else
#define UE_UNROLL
#define UE_PREFETCH(address) (void)(address)
#endif

/* IEEE 754 binary16 to float: exact. */
static float ue_half(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16, size = bits & 0x7fff;
    uint32_t wide = size >= 0x7c00 ? 0x7f800000u | size << 13 : (size << 13) + 0x38000000u;
    float value;
    if (size < 0x0400) {
        value = (float)size * 5.9604644775390625e-8f; /* 2^-24 */
        memcpy(&wide, &value, sizeof wide);
    }
    wide |= sign;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Element `at` of a stored row, as float32; int8 without its scale. */
static UE_INLINE float ue_widen(const void *row, size_t at, enum ue_storage storage) {
    const uint16_t *halves = row;
    switch (storage) {
    case UE_STORED_F16:
        return ue_half(halves[at]);
    case UE_STORED_BF16: {
        const uint32_t wide = (uint32_t)halves[at] << 16;
        float value;
        memcpy(&value, &wide, sizeof value);
        return value;
    }
    case UE_STORED_I8:
        return ((const int8_t *)row)[at];
    default:
        return ((const float *)row)[at];
    }
}

#include "portable.h"
#ifdef UE_HAVE_X86
#include <cpuid.h>
#include <immintrin.h>

#include "x86/avx2.h"
#include "x86/avx512.h"
#endif
#ifdef UE_HAVE_NEON
#include <arm_neon.h>

#include "arm/neon.h"
#endif

/* Best first; the portable one always runs. */
static const struct ue_kernels *const variants[] = {
#ifdef UE_HAVE_X86
    &ue_kernels_avx512,
    &ue_kernels_avx2,
#endif
#ifdef UE_HAVE_NEON
    &ue_kernels_neon,
#endif
    &ue_kernels_portable,
};

enum { VARIANTS = sizeof variants / sizeof variants[0] };

const struct ue_kernels *ue_find_kernels(const char *name) {
    for (size_t i = 0; i < VARIANTS; i++)
        if ((!name || strcmp(variants[i]->name, name) == 0) && variants[i]->supported())
            return variants[i];
    return NULL;
}

const char *ue_aggregator_variant(size_t index) {
    for (size_t i = 0; i < VARIANTS; i++)
        if (variants[i]->supported() && index-- == 0)
            return variants[i]->name;
    return NULL;
}
