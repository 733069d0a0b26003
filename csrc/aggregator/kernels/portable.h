/* The portable variant: four floats at a time in plain C11, which compilers turn into SSE or NEON.
 */
#define UE_ISA portable
#define UE_TARGET
#define UE_WIDTH 4
#define UE_ROWS 2
#define UE_VEC struct ue_four

struct ue_four {
    float v[4];
};

static inline bool ue_math_supported_portable(void) {
    return true;
}

#define UE_FOUR(name, expression)                                                      \
    static UE_INLINE struct ue_four ue_four_##name(struct ue_four a, struct ue_four b, \
                                                   struct ue_four c) {                 \
        struct ue_four out;                                                            \
        for (int i = 0; i < 4; i++)                                                    \
            out.v[i] = (expression);                                                   \
        (void)b;                                                                       \
        (void)c;                                                                       \
        return out;                                                                    \
    }
UE_FOUR(add, a.v[i] + b.v[i])
UE_FOUR(sub, a.v[i] - b.v[i])
UE_FOUR(mul, a.v[i] * b.v[i])
UE_FOUR(div, a.v[i] / b.v[i])
UE_FOUR(max, a.v[i] > b.v[i] ? a.v[i] : b.v[i])
UE_FOUR(min, a.v[i] < b.v[i] ? a.v[i] : b.v[i])
UE_FOUR(fma, a.v[i] * b.v[i] + c.v[i])
UE_FOUR(round, (a.v[i] + 12582912.0f) - 12582912.0f) /* |a| < 2^22, to nearest even */
#undef UE_FOUR

static UE_INLINE struct ue_four ue_four_splat(float value) {
    return (struct ue_four){{value, value, value, value}};
}

static UE_INLINE struct ue_four ue_four_load(const float *from) {
    return (struct ue_four){{from[0], from[1], from[2], from[3]}};
}

static UE_INLINE void ue_four_store(float *to, struct ue_four a) {
    for (int i = 0; i < 4; i++)
        to[i] = a.v[i];
}

static UE_INLINE struct ue_four ue_four_pow2(struct ue_four a) {
    struct ue_four out;
    for (int i = 0; i < 4; i++) {
        const float n = a.v[i] == a.v[i] ? a.v[i] : 0.0f; /* NaN has no integer */
        const uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
        memcpy(&out.v[i], &bits, sizeof bits);
    }
    return out;
}

#define UE_FOUR_LOAD(name, storage)                                                              \
    static UE_INLINE struct ue_four ue_four_load_##name(const void *from, size_t at) {           \
        return (struct ue_four){{ue_stored(from, at, storage), ue_stored(from, at + 1, storage), \
                                 ue_stored(from, at + 2, storage),                               \
                                 ue_stored(from, at + 3, storage)}};                             \
    }
UE_FOUR_LOAD(f16, UE_STORED_F16)
UE_FOUR_LOAD(bf16, UE_STORED_BF16)
UE_FOUR_LOAD(i8, UE_STORED_I8)
#undef UE_FOUR_LOAD

#define vzero() ue_four_splat(0.0f)
#define vsplat(x) ue_four_splat(x)
#define vload(p) ue_four_load(p)
#define vstore(p, a) ue_four_store(p, a)
#define vadd(a, b) ue_four_add(a, b, a)
#define vsub(a, b) ue_four_sub(a, b, a)
#define vmul(a, b) ue_four_mul(a, b, a)
#define vdiv(a, b) ue_four_div(a, b, a)
#define vmax(a, b) ue_four_max(a, b, a)
#define vmin(a, b) ue_four_min(a, b, a)
#define vfma(a, b, c) ue_four_fma(a, b, c)
#define vround(a) ue_four_round(a, a, a)
#define vpow2(a) ue_four_pow2(a)
#define vsum(a) (((a).v[0] + (a).v[1]) + ((a).v[2] + (a).v[3]))
#define vload_f16(p, i) ue_four_load_f16(p, i)
#define vload_bf16(p, i) ue_four_load_bf16(p, i)
#define vload_i8(p, i) ue_four_load_i8(p, i)

#include "template.h"
