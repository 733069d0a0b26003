/* NEON with FMA, part of every 64-bit ARM: four floats; a tile of 6 x 16 keeps 24 sums in 32
 * registers. */
#define UE_ISA neon
#define UE_TARGET
#define UE_WIDTH 4
#define UE_ROWS 6
#define UE_VEC float32x4_t

static bool ue_math_supported_neon(void) {
    return true;
}

static UE_INLINE float32x4_t ue_pow2_neon(float32x4_t a) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(a), vdupq_n_s32(127)), 23));
}

static UE_INLINE float32x4_t ue_load_i8_neon(const void *from, size_t at) {
    int32_t four;
    memcpy(&four, (const int8_t *)from + at, sizeof four);
    const int16x8_t wide = vmovl_s8(vcreate_s8((uint32_t)four));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}

#define vzero() vdupq_n_f32(0.0f)
#define vsplat(x) vdupq_n_f32(x)
#define vload(p) vld1q_f32(p)
#define vstore(p, a) vst1q_f32(p, a)
#define vadd(a, b) vaddq_f32(a, b)
#define vsub(a, b) vsubq_f32(a, b)
#define vmul(a, b) vmulq_f32(a, b)
#define vdiv(a, b) vdivq_f32(a, b)
#define vmax(a, b) vmaxq_f32(a, b)
#define vmin(a, b) vminq_f32(a, b)
#define vfma(a, b, c) vfmaq_f32(c, a, b)
#define vround(a) vrndnq_f32(a)
#define vpow2(a) ue_pow2_neon(a)
#define vsum(a) vaddvq_f32(a)
#define vload_f16(p, i) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)(p) + (i))))
#define vload_bf16(p, i) \
    vreinterpretq_f32_u32(vshll_n_u16(vld1_u16((const uint16_t *)(p) + (i)), 16))
#define vload_i8(p, i) ue_load_i8_neon(p, i)

#include "aggregator/kernels/template.h"
