/* The variants this build has, and the choice among them at run time. */
#include "variants.h"

#include "portable.h"
#ifdef UE_HAVE_X86
#include "pixels/x86/avx2.h"
#include "pixels/x86/avx512.h"
#endif
#ifdef UE_HAVE_NEON
#include "pixels/arm/neon.h"
#endif

#if !defined(__STDC_NO_ATOMICS__)
#include <stdatomic.h>
#endif

/*
 * Best first, but for the jobs of a variant that the next one does faster; the portable one is last
 * and always runs. On a Xeon with AVX-512 (benchmarks/test_native.py), taking bytes apart
 * costs 12.2 us a tile in 64-byte registers and 8.6 in the 16-byte ones of AVX2, and measuring 36.4
 * and 27.8: a row of 224 bytes ends in half a register of 64, and in none of 32.
 */
static const struct {
    const struct ue_variant *variant;
    unsigned slow; /* bits of ue_job */
} variants[] = {
#ifdef UE_HAVE_X86
    {&ue_variant_avx512, 1u << UE_TAKE_APART | 1u << UE_MEASURE},
    {&ue_variant_avx2, 0},
#endif
#ifdef UE_HAVE_NEON
    {&ue_variant_neon, 0},
#endif
    {&ue_variant_portable, 0},
};

enum { VARIANTS = sizeof variants / sizeof variants[0] };

/*
 * Whether the processor runs a variant. It is asked once, because in a virtual machine asking may
 * take longer than a tile; threads that ask at the same time all store the same answer.
 */
static bool runs(size_t index) {
#if !defined(__STDC_NO_ATOMICS__)
    enum { NOT_ASKED, NO, YES };
    static atomic_uchar answers[VARIANTS];
    unsigned char answer = atomic_load_explicit(&answers[index], memory_order_relaxed);
    if (answer == NOT_ASKED) {
        answer = variants[index].variant->supported() ? YES : NO;
        atomic_store_explicit(&answers[index], answer, memory_order_relaxed);
    }
    return answer == YES;
#else
    return variants[index]
        .variant->supported(); /* such compilers have the portable variant alone */
#endif
}

const struct ue_variant *ue_find_variant(const char *name, enum ue_job job) {
    for (size_t i = 0; i < VARIANTS; i++) {
        const bool wanted =
            name ? strcmp(variants[i].variant->name, name) == 0 : !(variants[i].slow >> job & 1);
        if (wanted && runs(i))
            return variants[i].variant;
    }
    return NULL;
}

const char *ue_variant_name(size_t index) {
    for (size_t i = 0; i < VARIANTS; i++)
        if (runs(i) && index-- == 0)
            return variants[i].variant->name;
    return NULL;
}

const char *ue_measure_variant(void) {
    return ue_find_variant(NULL, UE_MEASURE)->name;
}
