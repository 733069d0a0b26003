/*
 * AVX-512 F: sixteen floats, one register a row of a 12 x 16 tile. AVX-512 BF16 is left alone: its
 * dot product rounds the activations to bf16 too, and the experts, which it would serve, wait for
 * memory as it is.
 */
#define UE_ISA avx512
#define UE_TARGET __attribute__((target("avx512f")))
#define UE_WIDTH 16
#define UE_ROWS 12
#define UE_VEC __m512

static bool ue_math_supported_avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f");
}

#define vzero() _mm512_setzero_ps()
#define vsplat(x) _mm512_set1_ps(x)
#define vload(p) _mm512_loadu_ps(p)
#define vstore(p, a) _mm512_storeu_ps(p, a)
#define vadd(a, b) _mm512_add_ps(a, b)
#define vsub(a, b) _mm512_sub_ps(a, b)
#define vmul(a, b) _mm512_mul_ps(a, b)
#define vdiv(a, b) _mm512_div_ps(a, b)
#define vmax(a, b) _mm512_max_ps(a, b)
#define vmin(a, b) _mm512_min_ps(a, b)
#define vfma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vround(a) _mm512_roundscale_ps(a, 0)
#define vpow2(a)         \
    _mm512_castsi512_ps( \
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)), 23))
#define vsum(a) _mm512_reduce_add_ps(a)
#define vload_f16(p, i) \
    _mm512_cvtph_ps(_mm256_loadu_si256((const void *)((const uint16_t *)(p) + (i))))
#define vload_bf16(p, i)                                                                        \
    _mm512_castsi512_ps(_mm512_slli_epi32(                                                      \
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)((const uint16_t *)(p) + (i)))), \
        16))
#define vload_i8(p, i)  \
    _mm512_cvtepi32_ps( \
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)((const int8_t *)(p) + (i)))))

#include "aggregator/kernels/template.h"
