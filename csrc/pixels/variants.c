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

/* Best first; the portable one is last and always runs. */
static const struct ue_variant *const variants[] = {
#ifdef UE_HAVE_X86
    &ue_variant_avx512,
    &ue_variant_avx2,
#endif
#ifdef UE_HAVE_NEON
    &ue_variant_neon,
#endif
    &ue_variant_portable,
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
        answer = variants[index]->supported() ? YES : NO;
        atomic_store_explicit(&answers[index], answer, memory_order_relaxed);
    }
    return answer == YES;
#else
    return variants[index]->supported(); /* such compilers have the portable variant alone */
#endif
}

const struct ue_variant *ue_find_variant(const char *name) {
    for (size_t i = 0; i < VARIANTS; i++)
        if ((!name || strcmp(variants[i]->name, name) == 0) && runs(i))
            return variants[i];
    return NULL;
}

const char *ue_variant_name(size_t index) {
    for (size_t i = 0; i < VARIANTS; i++)
        if (runs(i) && index-- == 0)
            return variants[i]->name;
    return NULL;
}
