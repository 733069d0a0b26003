/* The variants this build has, and the choice among them at run time. */
#include "variants.h"

#include "portable.h"
#ifdef UE_HAVE_X86
#include "x86/avx2.h"
#include "x86/avx512.h"
#endif
#ifdef UE_HAVE_NEON
#include "arm/neon.h"
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

static const struct ue_variant *best_variant(void) {
    size_t i = 0;
    while (!variants[i]->supported())
        i++;
    return variants[i];
}

/* Threads that meet here on first use all find, and store, the same pointer to constant data. */
static const struct ue_variant *chosen_variant(void) {
#if !defined(__STDC_NO_ATOMICS__)
    static _Atomic(const struct ue_variant *) chosen;
    const struct ue_variant *variant = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (!variant) {
        variant = best_variant();
        atomic_store_explicit(&chosen, variant, memory_order_relaxed);
    }
    return variant;
#else
    return best_variant(); /* such compilers have the portable variant alone */
#endif
}

const struct ue_variant *ue_find_variant(const char *name) {
    if (!name)
        return chosen_variant();
    for (size_t i = 0; i < VARIANTS; i++)
        if (strcmp(variants[i]->name, name) == 0 && variants[i]->supported())
            return variants[i];
    return NULL;
}

const char *ue_variant_name(size_t index) {
    for (size_t i = 0; i < VARIANTS; i++)
        if (variants[i]->supported() && index-- == 0)
            return variants[i]->name;
    return NULL;
}
