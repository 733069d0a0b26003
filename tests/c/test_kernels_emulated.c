/*
 * Every kernel of the aggregator against the portable one, or against double precision: of the
 * variants that this processor runs; with -DEMULATE_AVX512 or -DEMULATE_NEON of that template,
 * whose intrinsics SIMDe then carries out.
 */
#define _DEFAULT_SOURCE
#if defined(EMULATE_AVX512) || defined(EMULATE_NEON)
#define UE_PORTABLE_ONLY 1
#define SIMDE_ENABLE_NATIVE_ALIASES
#endif
#ifdef EMULATE_AVX512
#include <simde/x86/avx512.h>
#elif defined(EMULATE_NEON)
#include <simde/arm/neon.h>
#endif

#include "check.h"

#include "aggregator/kernels/kernels.c"

#ifdef EMULATE_AVX512
/* What SIMDe 0.7 does not have, one number after the other. */
#define ELEMENTWISE(name, to, from_type, from, expression)      \
    static inline to name(from_type wide) {                     \
        from in[sizeof(to) / 4];                                \
        to out;                                                 \
        memcpy(in, &wide, sizeof in);                           \
        for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) { \
            expression;                                         \
        }                                                       \
        return out;                                             \
    }
#define PUT(type, value)      \
    const type one = (value); \
    memcpy((char *)&out + i * sizeof one, &one, sizeof one)
ELEMENTWISE(ph_to_ps, __m512, __m256i, uint16_t, PUT(float, ue_from_half(in[i])))
ELEMENTWISE(u16_to_32, __m512i, __m256i, uint16_t, PUT(int32_t, in[i]))
ELEMENTWISE(i8_to_32, __m512i, __m128i, int8_t, PUT(int32_t, in[i]))
ELEMENTWISE(ps_to_32, __m512i, __m512, float, PUT(int32_t, (int32_t)nearbyintf(in[i])))
ELEMENTWISE(s32_to_ps, __m512, __m512i, int32_t, PUT(float, (float)in[i]))
static inline float sum_ps(__m512 wide) {
    float in[16], sum = 0;
    memcpy(in, &wide, sizeof in);
    for (size_t i = 0; i < 16; i++)
        sum += in[i];
    return sum;
}
#undef _mm512_cvtph_ps
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtps_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_reduce_add_ps
#define _mm512_cvtph_ps ph_to_ps
#define _mm512_cvtepu16_epi32 u16_to_32
#define _mm512_cvtepi8_epi32 i8_to_32
#define _mm512_cvtps_epi32 ps_to_32
#define _mm512_cvtepi32_ps s32_to_ps
#define _mm512_reduce_add_ps sum_ps
#define target(set) unused /* the compiler may not use the instructions that are emulated */
#include "aggregator/kernels/x86/avx512.h"
#undef target
static const struct ue_kernels *const tested[] = {&ue_kernels_avx512};
#elif defined(EMULATE_NEON)
static inline float32x4_t divide(float32x4_t a, float32x4_t b) {
    float x[4], y[4];
    vst1q_f32(x, a);
    vst1q_f32(y, b);
    for (size_t i = 0; i < 4; i++)
        x[i] /= y[i];
    return vld1q_f32(x);
}
static inline int32x4_t to_nearest(float32x4_t a) {
    float x[4];
    int32_t out[4];
    vst1q_f32(x, a);
    for (size_t i = 0; i < 4; i++)
        out[i] = (int32_t)nearbyintf(x[i]);
    return vld1q_s32(out);
}
#undef vdivq_f32
#undef vcvtnq_s32_f32
#define vdivq_f32 divide
#define vcvtnq_s32_f32 to_nearest
#include "aggregator/kernels/arm/neon.h"
static const struct ue_kernels *const tested[] = {&ue_kernels_neon};
#else
#define tested variants
#endif

#ifndef ROUNDS
#define ROUNDS 300
#endif
#define TOLERANCE 1e-5f
enum { MOST = 400 };

static const struct ue_kernels *now;

/* Values up against a page that may not be touched. */
struct values {
    struct guarded memory;
    float *at;
    size_t count;
};

static struct values zeros(size_t count) {
    struct values values = {guarded_alloc(count * sizeof(float), 1), NULL, count};
    values.at = (float *)(void *)values.memory.bytes;
    return values;
}

static struct values random_values(size_t count, float scale) {
    struct values values = zeros(count);
    for (size_t i = 0; i < count; i++)
        values.at[i] = random_float(scale);
    return values;
}

static struct values copy_of(struct values from) {
    struct values values = zeros(from.count);
    memcpy(values.at, from.at, from.count * sizeof(float));
    return values;
}

static void drop(struct values values) {
    guarded_free(values.memory);
}

/* `size` is the sum of the magnitudes that were added up: what rounding is relative to. */
static void close_to(float found, float wanted, float size, const char *kernel, size_t i) {
    CHECK(fabsf(found - wanted) <= TOLERANCE * (size + fabsf(wanted)), "%s %s[%zu]: %a, not %a",
          now->name, kernel, i, (double)found, (double)wanted);
}

static void all_close(struct values found, struct values wanted, float size, const char *kernel) {
    for (size_t i = 0; i < wanted.count; i++)
        close_to(found.at[i], wanted.at[i], size, kernel, i);
}

/* A tile against its definition: the portable one has tiles of other heights. */
static void check_tile(const struct ue_tile *tile, bool accumulate) {
    const size_t rows = 1 + random_below(tile->rows), depth = 1 + random_below(100);
    const size_t lda = depth + random_below(3), ldb = tile->columns + random_below(3);
    CHECK(tile->rows <= UE_MAX_ROWS && tile->columns <= UE_PANEL, "a tile too large");
    struct values a = random_values((rows - 1) * lda + depth, 1);
    struct values b = random_values((depth - 1) * ldb + tile->columns, 1);
    struct values c = random_values(rows * tile->columns, 1), before = copy_of(c);
    float *to[UE_MAX_ROWS];
    for (size_t i = 0; i < rows; i++)
        to[i] = c.at + i * tile->columns;
    tile->multiply(rows, depth, a.at, lda, b.at, ldb, to, accumulate);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < tile->columns; j++) {
            double sum = accumulate ? (double)before.at[i * tile->columns + j] : 0;
            for (size_t k = 0; k < depth; k++)
                sum += (double)a.at[i * lda + k] * (double)b.at[k * ldb + j];
            close_to(to[i][j], (float)sum, 1, "tile", j);
        }
    drop(a);
    drop(b);
    drop(c);
    drop(before);
}

/* A stored number that is finite, of any size that a weight has, denormals included. */
static void fill_stored(uint8_t *bytes, size_t count, enum ue_storage storage) {
    static const uint16_t infinities[UE_STORAGES] = {0, 0x7c00, 0x7f80, 0};
    for (size_t i = 0; i < count; i++) {
        const float value = random_float(2);
        uint16_t half = (uint16_t)random_bits();
        if (storage == UE_STORED_F32)
            memcpy(bytes + 4 * i, &value, 4);
        else if (storage == UE_STORED_I8)
            bytes[i] = (uint8_t)random_bits();
        else if ((half & infinities[storage]) == infinities[storage])
            memcpy(bytes + 2 * i, "\0\0", 2);
        else {
            if (storage == UE_STORED_BF16) /* magnitudes near 1, so that sums do not overflow */
                half = (uint16_t)((half & 0x83ff) | 0x3c00);
            memcpy(bytes + 2 * i, &half, 2);
        }
    }
}

static double stored_sum(const struct ue_matrix *matrix, size_t row, size_t depth, const float *x,
                         double *size) {
    static const size_t bytes[UE_STORAGES] = {4, 2, 2, 1};
    const char *from = (const char *)matrix->data + row * depth * bytes[matrix->storage];
    double sum = 0;
    *size = 0;
    for (size_t k = 0; k < depth; k++) {
        const double term = (double)ue_stored(from, k, matrix->storage) * (double)x[k];
        sum += term;
        *size += fabs(term);
    }
    const double scale = matrix->scale ? (double)matrix->scale[row] : 1;
    *size *= scale;
    return sum * scale;
}

static void check_dots(enum ue_storage storage) {
    enum { VECTORS = 5 };
    static const size_t bytes[UE_STORAGES] = {4, 2, 2, 1};
    const size_t first = random_below(3), rows = 1 + random_below(6);
    const size_t depth = 1 + random_below(150), vectors = 1 + random_below(VECTORS);
    const size_t numbers = (first + rows) * depth;
    struct guarded stored = guarded_alloc(numbers * bytes[storage], 1);
    struct values scale = random_values(first + rows, 0.5f), x[VECTORS], y[VECTORS];
    const float *from[VECTORS];
    float *to[VECTORS];
    fill_stored(stored.bytes, numbers, storage);
    for (size_t r = 0; r < first + rows; r++)
        scale.at[r] = fabsf(scale.at[r]) + 0.01f;
    for (size_t v = 0; v < vectors; v++) {
        x[v] = random_values(depth, 1);
        y[v] = zeros(rows);
        from[v] = x[v].at;
        to[v] = y[v].at;
    }
    const struct ue_matrix matrix = {stored.bytes, storage == UE_STORED_I8 ? scale.at : NULL,
                                     storage};
    now->dots(&matrix, first, rows, depth, from, vectors, to);
    for (size_t v = 0; v < vectors; v++) {
        for (size_t r = 0; r < rows; r++) {
            double size;
            const double sum = stored_sum(&matrix, first + r, depth, from[v], &size);
            close_to(to[v][r], (float)sum, (float)size, "dots", r);
        }
        drop(x[v]);
        drop(y[v]);
    }
    drop(scale);
    guarded_free(stored);
}

static void check_norms(size_t count) {
    struct values x = random_values(count, 3), weight = random_values(count, 1);
    struct values bias = random_values(count, 1), out[4];
    float mean[2], inverse[2];
    for (size_t i = 0; i < 4; i++)
        out[i] = zeros(count);
    for (size_t i = 0; i < count; i++)
        x.at[i] += 1.5f;
    now->moments(x.at, count, 1e-5f, &mean[0], &inverse[0]);
    ue_kernels_portable.moments(x.at, count, 1e-5f, &mean[1], &inverse[1]);
    close_to(mean[0], mean[1], 3, "mean", 0);
    close_to(inverse[0], inverse[1], 0, "inverse", 0);
    now->standardise(x.at, count, mean[1], inverse[1], out[0].at);
    ue_kernels_portable.standardise(x.at, count, mean[1], inverse[1], out[1].at);
    all_close(out[0], out[1], 1, "standardise");
    const float found =
        now->normalise(x.at, count, mean[1], inverse[1], weight.at, bias.at, out[2].at);
    const float wanted = ue_kernels_portable.normalise(x.at, count, mean[1], inverse[1], weight.at,
                                                       bias.at, out[3].at);
    all_close(out[2], out[3], 1, "normalise");
    close_to(found, wanted, 0, "sum of squares", 0);
    drop(x);
    drop(weight);
    drop(bias);
    for (size_t i = 0; i < 4; i++)
        drop(out[i]);
}

static void check_functions(size_t count) {
    struct values x = random_values(count, 40), y = copy_of(x), bias = random_values(count, 3);
    now->exponentials(x.at, count, 2.5f);
    ue_kernels_portable.exponentials(y.at, count, 2.5f);
    all_close(x, y, 0, "exponentials");
    for (size_t i = 0; i < count; i++)
        x.at[i] = y.at[i] = random_float(6);
    now->gelu(x.at, count % 3 ? bias.at : NULL, count);
    ue_kernels_portable.gelu(y.at, count % 3 ? bias.at : NULL, count);
    all_close(x, y, 1, "gelu");
    drop(x);
    drop(y);
    drop(bias);
}

static void check_weighted_sum(size_t count) {
    enum { ROWS = 9 };
    const size_t rows_count = random_below(ROWS + 1);
    struct values rows[ROWS], scale = random_values(ROWS, 1), out[2] = {zeros(count), zeros(count)};
    const float *at[ROWS];
    for (size_t j = 0; j < ROWS; j++) {
        rows[j] = random_values(count, 1);
        at[j] = rows[j].at;
    }
    now->weighted_sum(at, scale.at, rows_count, count, out[0].at);
    ue_kernels_portable.weighted_sum(at, scale.at, rows_count, count, out[1].at);
    all_close(out[0], out[1], 1, "weighted_sum");
    for (size_t j = 0; j < ROWS; j++)
        drop(rows[j]);
    drop(scale);
    drop(out[0]);
    drop(out[1]);
}

static void check_depthwise(void) {
    enum { COLUMNS = 11, WIDE = COLUMNS + UE_TAPS - 1 };
    const size_t stride = UE_PANEL * (1 + random_below(10)), columns = 1 + random_below(COLUMNS);
    const size_t in_stride = columns + UE_TAPS - 1;
    struct values weights = random_values(49 * stride, 1), bias = random_values(stride, 1);
    struct values pixels = random_values(WIDE * stride, 1);
    struct values out[2] = {zeros(columns * stride), zeros(columns * stride)};
    const float *in[UE_TAPS * WIDE];
    for (size_t i = 0; i < UE_TAPS * in_stride; i++)
        in[i] = pixels.at + random_below(WIDE) * stride;
    now->depthwise(in, in_stride, weights.at, bias.at, stride, columns, out[0].at);
    ue_kernels_portable.depthwise(in, in_stride, weights.at, bias.at, stride, columns, out[1].at);
    all_close(out[0], out[1], 7, "depthwise");
    drop(weights);
    drop(bias);
    drop(pixels);
    drop(out[0]);
    drop(out[1]);
}

static void check_finite(size_t count) {
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    struct values x = random_values(count, 3e38f);
    CHECK(now->finite(x.at, count), "%s: %zu finite numbers", now->name, count);
    const size_t place = random_below(count);
    x.at[place] = bad[random_below(3)];
    CHECK(!now->finite(x.at, count), "%s: %zu of %zu", now->name, place, count);
    drop(x);
}

static double ulps(float found, double wanted) {
    int exponent;
    frexp(wanted, &exponent);
    return fabs((double)found - wanted) / ldexp(1, exponent - 24);
}

/* Against double precision, over the whole range in steps that meet no pattern. */
static void report_accuracy(void) {
    enum { STEPS = 200000, BLOCK = 1000 };
    double worst_exp = 0, worst_gelu = 0;
    for (size_t from = 0; from < STEPS; from += BLOCK) {
        float powers[BLOCK], gelus[BLOCK], x[BLOCK], z[BLOCK];
        for (size_t i = 0; i < BLOCK; i++) {
            const double part = (double)(from + i) / (STEPS - 1);
            powers[i] = x[i] = (float)(-87 + 175 * part);
            gelus[i] = z[i] = (float)(-12 + 24 * part);
        }
        now->exponentials(powers, BLOCK, 0);
        now->gelu(gelus, NULL, BLOCK);
        for (size_t i = 0; i < BLOCK; i++) {
            const double gelu = 0.5 * (double)z[i] * erfc(-(double)z[i] / sqrt(2));
            worst_exp = fmax(worst_exp, ulps(powers[i], exp((double)x[i])));
            worst_gelu =
                fmax(worst_gelu, fabs((double)gelus[i] - gelu) / fmax(1, fabs((double)z[i])));
        }
    }
    printf("%s: exp %.2f ulp, gelu %.2g max(1, |x|)\n", now->name, worst_exp, worst_gelu);
    CHECK(worst_exp <= 2, "exp");
    CHECK(worst_gelu <= 3e-7, "gelu");
}

/* Softmax leans on these: exp(0) is 1, and far below the maximum nearly nothing is left. */
static void check_edges(void) {
    float x[3] = {0.0f, -1e30f, -INFINITY};
    now->exponentials(x, 3, 0);
    CHECK(x[0] == 1.0f, "exp(0) is %a", (double)x[0]);
    CHECK(x[1] >= 0 && x[1] < 2e-38f && x[2] >= 0 && x[2] < 2e-38f, "exp of -inf");
    float nan[1] = {NAN};
    now->exponentials(nan, 1, 0);
    CHECK(isnan(nan[0]), "exp(NaN) is %a", (double)nan[0]);
}

int main(void) {
    for (size_t v = 0; v < sizeof tested / sizeof tested[0]; v++) {
        now = tested[v];
#if !defined(EMULATE_AVX512) && !defined(EMULATE_NEON)
        if (!now->supported())
            continue;
#endif
        for (size_t round = 0; round < ROUNDS; round++) {
            const size_t count = 1 + random_below(MOST);
            check_tile(round & 1 ? &now->tile : &now->narrow, round & 2);
            check_dots((enum ue_storage)(round % UE_STORAGES));
            check_norms(count);
            check_functions(count);
            check_weighted_sum(count);
            check_finite(count);
            if (round % 4 == 0)
                check_depthwise();
        }
        check_edges();
        report_accuracy();
    }
    return 0;
}
