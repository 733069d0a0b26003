/* NEON on AArch64: 16 pixels as four vectors. tests/c includes this with SIMDe in its place. */
#ifndef UE_EMULATED
#include <arm_neon.h>
#endif

#define UE_ISA neon
#define UE_TARGET
#define UE_BLOCK 16
#define UE_VEC struct ue_quad

struct ue_quad {
    float32x4_t part[4];
};

static bool ue_supported_neon(void) {
    return true; /* part of every AArch64 processor */
}

static UE_INLINE void ue_load_neon(const uint8_t *pixels, struct ue_quad rgb[3]) {
    const uint8x16x3_t bytes = vld3q_u8(pixels);
    for (int c = 0; c < 3; c++) {
        const uint16x8_t low = vmovl_u8(vget_low_u8(bytes.val[c]));
        const uint16x8_t high = vmovl_u8(vget_high_u8(bytes.val[c]));
        rgb[c].part[0] = vcvtq_f32_u32(vmovl_u16(vget_low_u16(low)));
        rgb[c].part[1] = vcvtq_f32_u32(vmovl_u16(vget_high_u16(low)));
        rgb[c].part[2] = vcvtq_f32_u32(vmovl_u16(vget_low_u16(high)));
        rgb[c].part[3] = vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)));
    }
}

static UE_INLINE struct ue_quad ue_splat_neon(float value) {
    const float32x4_t all = vdupq_n_f32(value);
    return (struct ue_quad){{all, all, all, all}};
}

static UE_INLINE struct ue_quad ue_mul_neon(struct ue_quad a, struct ue_quad b) {
    for (int k = 0; k < 4; k++)
        a.part[k] = vmulq_f32(a.part[k], b.part[k]);
    return a;
}

static UE_INLINE struct ue_quad ue_add_neon(struct ue_quad a, struct ue_quad b) {
    for (int k = 0; k < 4; k++)
        a.part[k] = vaddq_f32(a.part[k], b.part[k]);
    return a;
}

static UE_INLINE void ue_store_f32_neon(float *out, struct ue_quad value) {
    for (int k = 0; k < 4; k++)
        vst1q_f32(out + 4 * k, value.part[k]);
}

static UE_INLINE void ue_store_f16_neon(uint16_t *out, struct ue_quad value) {
    for (int k = 0; k < 4; k++)
        vst1_u16(out + 4 * k, vreinterpret_u16_f16(vcvt_f16_f32(value.part[k])));
}

/* Rounds as ue_store_u8_portable does; narrowing keeps the low bits. */
static UE_INLINE uint16x4_t ue_rounded_neon(float32x4_t value) {
    value = vminq_f32(vmaxq_f32(value, vdupq_n_f32(0.0f)), vdupq_n_f32(255.0f));
    return vmovn_u32(vreinterpretq_u32_f32(vaddq_f32(value, vdupq_n_f32(8388608.0f))));
}

static UE_INLINE void ue_store_u8_neon(uint8_t *out, struct ue_quad value) {
    for (int k = 0; k < 2; k++) {
        const uint16x4_t low = ue_rounded_neon(value.part[2 * k]);
        const uint16x4_t high = ue_rounded_neon(value.part[2 * k + 1]);
        vst1_u8(out + 8 * k, vmovn_u16(vcombine_u16(low, high)));
    }
}

static UE_INLINE void ue_copy_neon(const uint8_t *pixels, uint8_t *red, uint8_t *green,
                                   uint8_t *blue) {
    const uint8x16x3_t bytes = vld3q_u8(pixels);
    vst1q_u8(red, bytes.val[0]);
    vst1q_u8(green, bytes.val[1]);
    vst1q_u8(blue, bytes.val[2]);
}

/* (299 R + 587 G + 114 B + 500) / 8 is n < 2^15, and n / 125 is n * 33555 >> 22. */
static UE_INLINE uint16x4_t ue_luma4_neon(uint16x4_t red, uint16x4_t green, uint16x4_t blue) {
    uint32x4_t sum = vmlal_n_u16(vdupq_n_u32(500), red, 299);
    sum = vmlal_n_u16(vmlal_n_u16(sum, green, 587), blue, 114);
    return vshrn_n_u32(vshrq_n_u32(vmull_n_u16(vshrn_n_u32(sum, 3), 33555), 6), 16);
}

static UE_INLINE uint8x8_t ue_luma8_neon(uint8x8_t red, uint8x8_t green, uint8x8_t blue) {
    const uint16x8_t r = vmovl_u8(red), g = vmovl_u8(green), b = vmovl_u8(blue);
    return vmovn_u16(
        vcombine_u16(ue_luma4_neon(vget_low_u16(r), vget_low_u16(g), vget_low_u16(b)),
                     ue_luma4_neon(vget_high_u16(r), vget_high_u16(g), vget_high_u16(b))));
}

static UE_INLINE void ue_luma_neon(const uint8_t *pixels, uint8_t *luma) {
    const uint8x16x3_t rgb = vld3q_u8(pixels);
    vst1q_u8(luma, vcombine_u8(ue_luma8_neon(vget_low_u8(rgb.val[0]), vget_low_u8(rgb.val[1]),
                                             vget_low_u8(rgb.val[2])),
                               ue_luma8_neon(vget_high_u8(rgb.val[0]), vget_high_u8(rgb.val[1]),
                                             vget_high_u8(rgb.val[2]))));
}

#include "pixels/template.h"
