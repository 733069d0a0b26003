/*
 * The AVX-512 or NEON template on a processor that has neither: SIMDe carries the intrinsics out,
 * and every row function must give the bits of the portable one. -DEMULATE_AVX512 or _NEON.
 */
#define _DEFAULT_SOURCE
#define UE_EMULATED 1
#define SIMDE_ENABLE_NATIVE_ALIASES
#ifdef EMULATE_AVX512
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#else
#include <simde/arm/neon.h>
#endif

#include "check.h"
#include "pixels/variants.h"

#include "pixels/portable.h"

#ifdef EMULATE_AVX512
/* SIMDe 0.7 has this one without its alias ... */
#ifndef _mm512_cvtepu32_ps
#define _mm512_cvtepu32_ps simde_mm512_cvtepu32_ps
#endif
/* ... this one with four parameters ... */
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
/* ... and not this one at all, but both halves of it, which are F16C. */
static inline __m256i halves_of(__m512 value) {
    simde__m512_private parts = simde__m512_to_private(value);
    return simde_mm256_set_m128i(simde_mm256_cvtps_ph(parts.m256[1], 0),
                                 simde_mm256_cvtps_ph(parts.m256[0], 0));
}
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(value, rounding) halves_of(value)
#include "pixels/x86/avx512.h"
static const struct ue_variant *const emulated = &ue_variant_avx512;
#else
#include "pixels/arm/neon.h"
static const struct ue_variant *const emulated = &ue_variant_neon;
#endif

static const size_t element[UE_DTYPES] = {4, 2, 1};

static void random_affine(float affine[12], float scale) {
    for (int k = 0; k < 12; k++)
        affine[k] = random_float(scale);
}

/* One row at the end of its page, so that reading or writing a byte too much ends the program. */
static void compare_row(size_t count, const float affine[12], ue_dtype dtype, enum ue_kind kind) {
    const size_t plane = count * element[dtype];
    struct guarded src = guarded_alloc(3 * count, random_bits() & 1);
    struct guarded expected = guarded_alloc(3 * plane, 1);
    struct guarded actual[3];
    fill_random(src.bytes, 3 * count);
    uint8_t *const out = expected.bytes;
    ue_variant_portable.rows[dtype][kind](src.bytes, count, affine, out, out + plane,
                                          out + 2 * plane);
    for (int c = 0; c < 3; c++)
        actual[c] = guarded_alloc(plane, 1);
    emulated->rows[dtype][kind](src.bytes, count, affine, actual[0].bytes, actual[1].bytes,
                                actual[2].bytes);
    for (size_t c = 0; c < 3; c++) {
        CHECK(memcmp(actual[c].bytes, out + c * plane, plane) == 0,
              "%s, %zu pixels, dtype %d, kind %d, channel %zu", emulated->name, count, (int)dtype,
              (int)kind, c);
        guarded_free(actual[c]);
    }
    guarded_free(src);
    guarded_free(expected);
}

/* ue_content_score's part: luma at the ends of pages, then levels of whole bands. */
static void compare_score(size_t count) {
    static uint8_t band[UE_BAND_PIXELS];
    static struct ue_divisors divisors;
    static struct ue_blocks expected_blocks, actual_blocks;
    struct guarded src = guarded_alloc(3 * count, random_bits() & 1);
    struct guarded expected = guarded_alloc(count, 1), actual = guarded_alloc(count, 1);
    fill_random(src.bytes, 3 * count);
    ue_variant_portable.luma(src.bytes, count, expected.bytes);
    emulated->luma(src.bytes, count, actual.bytes);
    CHECK(memcmp(actual.bytes, expected.bytes, count) == 0, "luma of %zu pixels", count);
    fill_random(band, sizeof band);
    ue_divisors_set(&divisors);
    ue_variant_portable.transform(band, &divisors, &expected_blocks);
    emulated->transform(band, &divisors, &actual_blocks);
    CHECK(memcmp(&actual_blocks, &expected_blocks, sizeof actual_blocks) == 0, "levels");
    guarded_free(src);
    guarded_free(expected);
    guarded_free(actual);
}

int main(void) {
    static const float scales[] = {1e-7f, 1e-4f, 0.02f, 1.0f, 300.0f, 1e20f};
    for (size_t round = 0; round < 600; round++) {
        float affine[12];
        random_affine(affine, scales[round % 6]);
        const size_t count = 1 + random_below(round % 10 ? 100 : 1000);
        for (int dtype = 0; dtype < UE_DTYPES; dtype++)
            for (int kind = UE_GENERAL; kind <= UE_DIAGONAL; kind++)
                compare_row(count, affine, (ue_dtype)dtype, (enum ue_kind)kind);
        compare_row(count, affine, UE_UINT8, UE_COPY);
        compare_score(count);
    }
    printf("%s: same bits as portable\n", emulated->name);
    return 0;
}
