/* What the compiler at hand can make of the processor: forced inlining, instruction sets. */
#ifndef UE_INSTRUCTIONS_H
#define UE_INSTRUCTIONS_H

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

#endif
