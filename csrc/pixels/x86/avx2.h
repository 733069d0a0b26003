/* AVX2 with F16C: 16 pixels, as two vectors of eight. No FMA: see unicas_edge.h. */
#include <cpuid.h>
#include <immintrin.h>

#define UE_ISA avx2
#define UE_TARGET __attribute__((target("avx2,f16c")))
#define UE_BLOCK 16
#define UE_VEC struct ue_pair

struct ue_pair {
    __m256 low, high;
};

/* __builtin_cpu_supports asks the operating system too, but knows F16C in new compilers alone. */
static bool ue_supported_avx2(void) {
    unsigned eax, ebx, ecx, edx;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) &&
           (ecx & bit_F16C);
}

/*
 * One channel of 16 RGB pixels in three registers. Byte i of channel c is byte 3 i + c of the 48;
 * each register gives the bytes it holds and zero (index 0x80) for the rest.
 */
UE_TARGET static UE_INLINE __m128i ue_channel_avx2(const __m128i in[3], __m128i a, __m128i b,
                                                   __m128i c) {
    return _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(in[0], a), _mm_shuffle_epi8(in[1], b)),
                        _mm_shuffle_epi8(in[2], c));
}

UE_TARGET static UE_INLINE void ue_split_avx2(const uint8_t *pixels, __m128i rgb[3]) {
    const __m128i in[3] = {_mm_loadu_si128((const __m128i *)pixels),
                           _mm_loadu_si128((const __m128i *)(pixels + 16)),
                           _mm_loadu_si128((const __m128i *)(pixels + 32))};
#define UE_NONE5 -1, -1, -1, -1, -1
#define UE_NONE10 UE_NONE5, UE_NONE5
    rgb[0] = ue_channel_avx2(in, _mm_setr_epi8(0, 3, 6, 9, 12, 15, UE_NONE10),
                             _mm_setr_epi8(-1, UE_NONE5, 2, 5, 8, 11, 14, UE_NONE5),
                             _mm_setr_epi8(-1, UE_NONE10, 1, 4, 7, 10, 13));
    rgb[1] = ue_channel_avx2(in, _mm_setr_epi8(1, 4, 7, 10, 13, -1, UE_NONE10),
                             _mm_setr_epi8(UE_NONE5, 0, 3, 6, 9, 12, 15, UE_NONE5),
                             _mm_setr_epi8(-1, UE_NONE10, 2, 5, 8, 11, 14));
    rgb[2] = ue_channel_avx2(in, _mm_setr_epi8(2, 5, 8, 11, 14, -1, UE_NONE10),
                             _mm_setr_epi8(UE_NONE5, 1, 4, 7, 10, 13, -1, UE_NONE5),
                             _mm_setr_epi8(UE_NONE10, 0, 3, 6, 9, 12, 15));
#undef UE_NONE5
#undef UE_NONE10
}

UE_TARGET static UE_INLINE void ue_load_avx2(const uint8_t *pixels, struct ue_pair rgb[3]) {
    __m128i bytes[3];
    ue_split_avx2(pixels, bytes);
    for (int c = 0; c < 3; c++) {
        rgb[c].low = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes[c]));
        rgb[c].high = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes[c], 8)));
    }
}

UE_TARGET static UE_INLINE struct ue_pair ue_splat_avx2(float value) {
    return (struct ue_pair){_mm256_set1_ps(value), _mm256_set1_ps(value)};
}

UE_TARGET static UE_INLINE struct ue_pair ue_mul_avx2(struct ue_pair a, struct ue_pair b) {
    return (struct ue_pair){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}

UE_TARGET static UE_INLINE struct ue_pair ue_add_avx2(struct ue_pair a, struct ue_pair b) {
    return (struct ue_pair){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}

UE_TARGET static UE_INLINE void ue_store_f32_avx2(float *out, struct ue_pair value) {
    _mm256_storeu_ps(out, value.low);
    _mm256_storeu_ps(out + 8, value.high);
}

UE_TARGET static UE_INLINE void ue_store_f16_avx2(uint16_t *out, struct ue_pair value) {
    _mm_storeu_si128((__m128i *)out, _mm256_cvtps_ph(value.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(out + 8), _mm256_cvtps_ph(value.high, _MM_FROUND_TO_NEAREST_INT));
}

/* Conversion rounds to nearest even, packing saturates; only what overflows int32 needs the min. */
UE_TARGET static UE_INLINE void ue_store_u8_avx2(uint8_t *out, struct ue_pair value) {
    const __m256 top = _mm256_set1_ps(255.0f);
    const __m256i low = _mm256_cvtps_epi32(_mm256_min_ps(value.low, top));
    const __m256i high = _mm256_cvtps_epi32(_mm256_min_ps(value.high, top));
    const __m256i words = _mm256_packs_epi32(low, high);
    const __m256i bytes = _mm256_packus_epi16(words, words);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0);
    _mm_storeu_si128((__m128i *)out,
                     _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)));
}

UE_TARGET static UE_INLINE void ue_copy_avx2(const uint8_t *pixels, uint8_t *red, uint8_t *green,
                                             uint8_t *blue) {
    __m128i bytes[3];
    ue_split_avx2(pixels, bytes);
    _mm_storeu_si128((__m128i *)red, bytes[0]);
    _mm_storeu_si128((__m128i *)green, bytes[1]);
    _mm_storeu_si128((__m128i *)blue, bytes[2]);
}

/* (299 R + 587 G + 114 B + 500) / 8 of eight pixels, the first four of either half. */
UE_TARGET static UE_INLINE __m256i ue_eighths_avx2(__m128i low, __m128i high) {
    const __m256i pixels = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    const __m128i two = _mm_setr_epi8(0, -1, 1, -1, 3, -1, 4, -1, 6, -1, 7, -1, 9, -1, 10, -1);
    const __m128i one = _mm_setr_epi8(2, -1, -1, -1, 5, -1, -1, -1, 8, -1, -1, -1, 11, -1, -1, -1);
    const __m256i red_green = _mm256_shuffle_epi8(pixels, _mm256_broadcastsi128_si256(two));
    const __m256i blue = _mm256_shuffle_epi8(pixels, _mm256_broadcastsi128_si256(one));
    const __m256i sum =
        _mm256_add_epi32(_mm256_madd_epi16(red_green, _mm256_set1_epi32(587 << 16 | 299)),
                         _mm256_madd_epi16(blue, _mm256_set1_epi32(114)));
    return _mm256_srli_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(500)), 3);
}

/* n / 125 is n * 33555 >> 22 for n < 2^15. */
UE_TARGET static UE_INLINE void ue_luma_avx2(const uint8_t *pixels, uint8_t *luma) {
    const __m128i in[4] = {_mm_loadu_si128((const __m128i *)pixels),
                           _mm_loadu_si128((const __m128i *)(pixels + 12)),
                           _mm_loadu_si128((const __m128i *)(pixels + 24)),
                           _mm_loadu_si128((const __m128i *)(pixels + 32))};
    const __m256i eighths = _mm256_packs_epi32(ue_eighths_avx2(in[0], in[1]),
                                               ue_eighths_avx2(in[2], _mm_srli_si128(in[3], 4)));
    const __m256i words =
        _mm256_srli_epi16(_mm256_mulhi_epu16(eighths, _mm256_set1_epi16((short)33555)), 6);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words, words), order);
    _mm_storeu_si128((__m128i *)luma, _mm256_castsi256_si128(bytes));
}

#include "pixels/template.h"
