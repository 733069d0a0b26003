/* The variants of the aggregator's kernels that this build has, and the choice at run time. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "unicas_edge.h"

#if defined(__GNUC__)
#define UE_UNROLL _Pragma("GCC unroll 16")
#define UE_PREFETCH(address) __builtin_prefetch(address)
#else
#define UE_UNROLL
#define UE_PREFETCH(address) (void)(address)
#endif

/* Element `at` of a stored row, as float32; int8 without its scale. */
static UE_INLINE float ue_stored(const void *row, size_t at, enum ue_storage storage) {
    switch (storage) {
    case UE_STORED_F16:
        return ue_from_half(((const uint16_t *)row)[at]);
    case UE_STORED_BF16:
        return ue_from_bfloat(((const uint16_t *)row)[at]);
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

#include "aggregator/kernels/x86/avx2.h"
#include "aggregator/kernels/x86/avx512.h"
#endif
#ifdef UE_HAVE_NEON
#include <arm_neon.h>

#include "aggregator/kernels/arm/neon.h"
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
