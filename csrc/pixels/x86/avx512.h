/* AVX-512 F and BW: 16 pixels in one vector. tests/c includes this with SIMDe in its place. */
#ifndef UE_EMULATED
#include <immintrin.h>
#define UE_TARGET __attribute__((target("avx512f,avx512bw")))
#else
#define UE_TARGET
#endif

#define UE_ISA avx512
#define UE_BLOCK 16
#define UE_VEC __m512

static bool ue_supported_avx512(void) {
#ifndef UE_EMULATED
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
#else
    return true;
#endif
}

/* Gives each 128-bit lane four whole pixels: 12 bytes of the 48, and 4 that are not looked at. */
UE_TARGET static UE_INLINE __m512i ue_lanes_avx512(const uint8_t *pixels) {
    const __m256i low = _mm256_loadu_si256((const __m256i *)pixels);
    const __m128i high = _mm_loadu_si128((const __m128i *)(pixels + 32));
    const __m512i all =
        _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm256_castsi128_si256(high), 1);
    const __m512i place = _mm512_setr_epi32(0, 1, 2, 0, 3, 4, 5, 0, 6, 7, 8, 0, 9, 10, 11, 0);
    return _mm512_permutexvar_epi32(place, all);
}

/* One channel as 32-bit integers: in each lane, bytes c, 3 + c, 6 + c, 9 + c; -1 gives zero. */
UE_TARGET static UE_INLINE __m512i ue_channel_avx512(__m512i lanes, int c) {
    const int zero = (int)0xffffff00;
    return _mm512_shuffle_epi8(
        lanes, _mm512_set4_epi32(zero | (9 + c), zero | (6 + c), zero | (3 + c), zero | c));
}

UE_TARGET static UE_INLINE void ue_load_avx512(const uint8_t *pixels, __m512 rgb[3]) {
    const __m512i lanes = ue_lanes_avx512(pixels);
    for (int c = 0; c < 3; c++)
        rgb[c] = _mm512_cvtepu32_ps(ue_channel_avx512(lanes, c));
}

UE_TARGET static UE_INLINE __m512 ue_splat_avx512(float value) {
    return _mm512_set1_ps(value);
}

UE_TARGET static UE_INLINE __m512 ue_mul_avx512(__m512 a, __m512 b) {
    return _mm512_mul_ps(a, b);
}

UE_TARGET static UE_INLINE __m512 ue_add_avx512(__m512 a, __m512 b) {
    return _mm512_add_ps(a, b);
}

UE_TARGET static UE_INLINE void ue_store_f32_avx512(float *out, __m512 value) {
    _mm512_storeu_ps(out, value);
}

UE_TARGET static UE_INLINE void ue_store_f16_avx512(uint16_t *out, __m512 value) {
    _mm256_storeu_si256((__m256i *)out, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

/* The low byte of each 32-bit element, as 16 adjacent bytes. */
UE_TARGET static UE_INLINE __m128i ue_low_bytes_avx512(__m512i value) {
    const __m512i four = _mm512_shuffle_epi8(value, _mm512_set4_epi32(-1, -1, -1, 0x0c080400));
    const __m512i place = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm512_castsi512_si128(_mm512_permutexvar_epi32(place, four));
}

/* Rounds as ue_store_u8_portable does. */
UE_TARGET static UE_INLINE void ue_store_u8_avx512(uint8_t *out, __m512 value) {
    value = _mm512_max_ps(value, _mm512_setzero_ps());
    value = _mm512_min_ps(value, _mm512_set1_ps(255.0f));
    value = _mm512_add_ps(value, _mm512_set1_ps(8388608.0f));
    _mm_storeu_si128((__m128i *)out, ue_low_bytes_avx512(_mm512_castps_si512(value)));
}

UE_TARGET static UE_INLINE void ue_copy_avx512(const uint8_t *pixels, uint8_t *red, uint8_t *green,
                                               uint8_t *blue) {
    const __m512i lanes = ue_lanes_avx512(pixels);
    uint8_t *const planes[3] = {red, green, blue};
    for (int c = 0; c < 3; c++)
        _mm_storeu_si128((__m128i *)planes[c], ue_low_bytes_avx512(ue_channel_avx512(lanes, c)));
}

/* (299 R + 587 G + 114 B + 500) / 8 is n < 2^15, and n / 125 is n * 33555 >> 22. */
UE_TARGET static UE_INLINE void ue_luma_avx512(const uint8_t *pixels, uint8_t *luma) {
    const int none = (int)0x80008000;
    const __m512i lanes = ue_lanes_avx512(pixels);
    const __m512i red_green = _mm512_shuffle_epi8(
        lanes, _mm512_set4_epi32(none | 0xa0009, none | 0x70006, none | 0x40003, none | 0x10000));
    const __m512i blue = ue_channel_avx512(lanes, 2);
    __m512i sum = _mm512_add_epi32(_mm512_madd_epi16(red_green, _mm512_set1_epi32(587 << 16 | 299)),
                                   _mm512_madd_epi16(blue, _mm512_set1_epi32(114)));
    sum = _mm512_srli_epi32(_mm512_add_epi32(sum, _mm512_set1_epi32(500)), 3);
    sum = _mm512_srli_epi32(_mm512_mullo_epi32(sum, _mm512_set1_epi32(33555)), 22);
    _mm_storeu_si128((__m128i *)luma, ue_low_bytes_avx512(sum));
}

#include "pixels/template.h"
