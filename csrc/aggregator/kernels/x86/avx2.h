/* AVX2, FMA and F16C: eight floats; a tile of 6 x 16 keeps twelve sums in the sixteen registers. */
#define UE_ISA avx2
#define UE_TARGET __attribute__((target("avx2,fma,f16c")))
#define UE_WIDTH 8
#define UE_ROWS 6
#define UE_VEC __m256

static bool ue_math_supported_avx2(void) {
    unsigned eax, ebx, ecx, edx;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

UE_TARGET static UE_INLINE float ue_sum_avx2(__m256 a) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

#define vzero() _mm256_setzero_ps()
#define vsplat(x) _mm256_set1_ps(x)
#define vload(p) _mm256_loadu_ps(p)
#define vstore(p, a) _mm256_storeu_ps(p, a)
#define vadd(a, b) _mm256_add_ps(a, b)
#define vsub(a, b) _mm256_sub_ps(a, b)
#define vmul(a, b) _mm256_mul_ps(a, b)
#define vdiv(a, b) _mm256_div_ps(a, b)
#define vmax(a, b) _mm256_max_ps(a, b)
#define vmin(a, b) _mm256_min_ps(a, b)
#define vfma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vround(a) _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vpow2(a)         \
    _mm256_castsi256_ps( \
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127)), 23))
#define vsum(a) ue_sum_avx2(a)
#define vload_f16(p, i) \
    _mm256_cvtph_ps(_mm_loadu_si128((const void *)((const uint16_t *)(p) + (i))))
#define vload_bf16(p, i)                   \
    _mm256_castsi256_ps(_mm256_slli_epi32( \
        _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)((const uint16_t *)(p) + (i)))), 16))
#define vload_i8(p, i)  \
    _mm256_cvtepi32_ps( \
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)((const int8_t *)(p) + (i)))))

#include "aggregator/kernels/template.h"
