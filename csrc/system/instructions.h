/* What the compiler at hand can make of the processor: forced inlining, instruction sets. */
#ifndef UE_INSTRUCTIONS_H
#define UE_INSTRUCTIONS_H

#include <stdint.h>

#if defined(_MSC_VER) && !defined(__clang__)
#define UE_INLINE __forceinline
#else
#define UE_INLINE inline __attribute__((always_inline))
#endif

/* The intrinsics need GNU-style target attributes; any other compiler gets the portable variant. */
#if defined(UE_PORTABLE_ONLY)
#elif defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define UE_HAVE_X86 1
#elif defined(__GNUC__) && defined(__aarch64__) && !defined(__AARCH64EB__)
#define UE_HAVE_NEON 1
#endif

/* The place of the lowest bit of a number that is not 0. */
static inline unsigned ue_lowest_bit(uint64_t value) {
#if defined(__GNUC__)
    return (unsigned)__builtin_ctzll(value);
#else
    unsigned place = 0;
    for (; !(value & 1); value >>= 1)
        place++;
    return place;
#endif
}

/* How many bits a number takes, 0 for 0. */
static inline unsigned ue_bit_length(uint32_t value) {
#if defined(__GNUC__)
    return value ? 32 - (unsigned)__builtin_clz(value) : 0;
#else
    unsigned length = 0;
    for (; value; value >>= 1)
        length++;
    return length;
#endif
}

#endif
