/* Every variant of ue_normalise against a scalar oracle, with strides, guard pages and bad input.
 */
#define _DEFAULT_SOURCE
#include <math.h>

#include "check.h"
#include "unicas_edge.h"

static const size_t element[3] = {4, 2, 1};

static float mapped(const uint8_t *pixel, const float a[4]) {
    /* volatile: each operation is rounded on its own, whatever the compiler would like to fuse */
    volatile float sum = a[0] * (float)pixel[0];
    volatile float green = a[1] * (float)pixel[1], blue = a[2] * (float)pixel[2];
    sum = sum + green;
    sum = sum + blue;
    return sum + a[3];
}

/* binary16 from its definition: the nearest multiple of its unit in the last place. */
static uint16_t half_bits(float value) {
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    const double size = fabs((double)value);
    int exponent;
    frexp(size, &exponent); /* size = 0.1xxx * 2^exponent */
    if (size == 0 || exponent < -13)
        exponent = -13; /* subnormal: unit 2^-24 */
    const double units = nearbyint(ldexp(size, 11 - exponent));
    const double rounded = ldexp(units, exponent - 11);
    if (rounded >= 65536.0)
        return sign | 0x7c00;
    if (rounded < ldexp(1, -14))
        return sign | (uint16_t)units;
    frexp(rounded, &exponent);
    return sign | (uint16_t)((exponent + 14) << 10) |
           (uint16_t)((unsigned)ldexp(rounded, 11 - exponent) & 0x3ff);
}

static void expect(uint8_t *out, float value, ue_dtype dtype) {
    if (dtype == UE_FLOAT32) {
        memcpy(out, &value, 4);
    } else if (dtype == UE_FLOAT16) {
        const uint16_t half = half_bits(value);
        memcpy(out, &half, 2);
    } else {
        *out = (uint8_t)fmin(fmax(nearbyint(value), 0), 255);
    }
}

static void random_affine(float affine[12], unsigned kind) {
    static const float scales[] = {1e-9f, 1e-6f, 0.02f, 1.0f, 500.0f, 1e28f};
    const float scale = scales[random_below(6)];
    for (unsigned k = 0; k < 12; k++) {
        const int on_diagonal = k % 4 == k / 4;
        affine[k] = random_float(k % 4 == 3 ? 100 * scale : scale);
        if (kind > 0 && !on_diagonal && k % 4 != 3)
            affine[k] = random_bits() & 1 ? 0.0f : -0.0f;
        if (kind == 2)
            affine[k] = on_diagonal ? 1.0f : 0.0f;
        if (kind == 1 && k % 4 == 3 && random_below(4) == 0)
            affine[k] = -0.0f;
    }
}

static ue_image random_image(struct guarded *block) {
    const size_t height = 1 + random_below(20), width = 1 + random_below(300);
    const size_t stride = 3 * width + (random_bits() & 1 ? random_below(70) : 0);
    *block = guarded_alloc((height - 1) * stride + 3 * width, random_bits() & 1);
    fill_random(block->bytes, (height - 1) * stride + 3 * width);
    ue_image image = {block->bytes, height, width, (ptrdiff_t)stride};
    if (random_below(3) == 0) { /* bottom up */
        image.pixels += (height - 1) * stride;
        image.row_stride = -image.row_stride;
    }
    return image;
}

static void check_plane(const ue_image *image, const float *affine, ue_dtype dtype,
                        const uint8_t *plane, size_t channel, const char *variant) {
    for (size_t y = 0; y < image->height; y++)
        for (size_t x = 0; x < image->width; x++) {
            const uint8_t *pixel = image->pixels + (ptrdiff_t)y * image->row_stride + 3 * x;
            const uint8_t *actual = plane + (y * image->width + x) * element[dtype];
            uint8_t expected[4];
            /* Adding +0 makes a coefficient of -0 what the interface says it counts as. */
            float a[4];
            for (size_t k = 0; k < 4; k++)
                a[k] = affine[4 * channel + k] + 0.0f;
            expect(expected, mapped(pixel, a), dtype);
            CHECK(memcmp(actual, expected, element[dtype]) == 0,
                  "%s, dtype %d, channel %zu at (%zu, %zu) of %zu x %zu", variant, (int)dtype,
                  channel, x, y, image->width, image->height);
        }
}

static void check_variant(const ue_image *image, const float *affine, ue_dtype dtype,
                          const char *variant) {
    const size_t plane = image->height * image->width;
    const size_t gap = random_below(9), size = (3 * plane + 2 * gap) * element[dtype];
    struct guarded dst = guarded_alloc(size, 1);
    memset(dst.bytes, 0xa5, size);
    const ue_status status = ue_normalise(image, affine, dtype, dst.bytes, plane + gap, variant);
    CHECK(status == UE_OK, "%s: %s", variant, ue_status_text(status));
    for (size_t c = 0; c < 3; c++) {
        const uint8_t *start = dst.bytes + c * (plane + gap) * element[dtype];
        check_plane(image, affine, dtype, start, c, variant);
        for (size_t k = 0; c < 2 && k < gap * element[dtype]; k++)
            CHECK(start[plane * element[dtype] + k] == 0xa5, "%s wrote between planes", variant);
    }
    guarded_free(dst);
}

static void check_random(void) {
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct guarded block;
        const ue_image image = random_image(&block);
        float affine[12];
        random_affine(affine, round % 3);
        for (size_t v = 0; ue_variant_name(v); v++)
            for (int dtype = 0; dtype < 3; dtype++)
                check_variant(&image, affine, (ue_dtype)dtype, ue_variant_name(v));
        guarded_free(block);
    }
}

/* Every finite half value, its neighbours and the ties between: a grid that random input misses. */
static void check_half_grid(const char *variant) {
    static const float offsets[] = {0.0f, 0.5f, 0.49999f, 0.50001f, -0.25f};
    const uint8_t white[3] = {1, 0, 0};
    const ue_image image = {white, 1, 1, 3};
    for (unsigned bits = 0; bits < 0x7c02; bits += 3)
        for (size_t k = 0; k < sizeof offsets / sizeof offsets[0]; k++) {
            const int exponent = bits >> 10 ? (int)(bits >> 10) : 1;
            const unsigned digits = (bits >> 10 ? 0x400u : 0u) | (bits & 0x3ffu);
            const float value = ldexpf((float)digits + offsets[k], exponent - 25);
            const float affine[12] = {value, 0, 0, 0, 0, 0, 0, -value, 0, 0, 0, value};
            uint16_t out[3];
            CHECK(ue_normalise(&image, affine, UE_FLOAT16, out, 1, variant) == UE_OK, "failed");
            CHECK(out[0] == half_bits(value) && out[1] == half_bits(0.0f - value),
                  "%s: %g gives %04x %04x", variant, (double)value, out[0], out[1]);
        }
}

static void check_refusals(void) {
    const uint8_t pixels[12] = {0};
    const ue_image good = {pixels, 2, 2, 6};
    ue_image image = good;
    float affine[12] = {0}, out[13];
    const void *name = "no such variant";
    memset(out, 0x5a, sizeof out);
#define REFUSED(expected, ...) CHECK(ue_normalise(__VA_ARGS__) == (expected), "%s", #__VA_ARGS__)
    REFUSED(UE_NULL_POINTER, NULL, affine, UE_FLOAT32, out, 4, NULL);
    REFUSED(UE_NULL_POINTER, &good, NULL, UE_FLOAT32, out, 4, NULL);
    REFUSED(UE_NULL_POINTER, &good, affine, UE_FLOAT32, NULL, 4, NULL);
    REFUSED(UE_BAD_STRIDE, &good, affine, UE_FLOAT32, out, 3, NULL);
    REFUSED(UE_BAD_STRIDE, &good, affine, UE_FLOAT32, out, SIZE_MAX, NULL);
    REFUSED(UE_BAD_DTYPE, &good, affine, (ue_dtype)3, out, 4, NULL);
    REFUSED(UE_MISALIGNED, &good, affine, UE_FLOAT32, (char *)out + 2, 4, NULL);
    REFUSED(UE_NO_SUCH_VARIANT, &good, affine, UE_FLOAT32, out, 4, name);
    image.pixels = NULL;
    REFUSED(UE_NULL_POINTER, &image, affine, UE_FLOAT32, out, 4, NULL);
    static const size_t sides[] = {0, UE_MAX_SIDE + 1u, SIZE_MAX};
    for (size_t k = 0; k < 3; k++) {
        image = (ue_image){pixels, sides[k], 2, 6};
        REFUSED(UE_BAD_SIZE, &image, affine, UE_FLOAT32, out, 4, NULL);
        image = (ue_image){pixels, 2, sides[k], 6};
        REFUSED(UE_BAD_SIZE, &image, affine, UE_FLOAT32, out, 4, NULL);
    }
    static const float bad[] = {NAN, INFINITY, -INFINITY, 2e30f};
    for (size_t k = 0; k < 4; k++) {
        affine[11 - k] = bad[k];
        REFUSED(UE_BAD_AFFINE, &good, affine, UE_FLOAT32, out, 4, NULL);
        affine[11 - k] = 0;
    }
    for (size_t k = 0; k < sizeof out; k++)
        CHECK(((uint8_t *)out)[k] == 0x5a, "a refused call wrote to its output");
    for (int status = -1; status < 10; status++)
        CHECK(ue_status_text((ue_status)status)[0], "status %d has no text", status);
}

int main(void) {
    check_refusals();
    check_random();
    for (size_t v = 0; ue_variant_name(v); v++) {
        check_half_grid(ue_variant_name(v));
        printf("%s ", ue_variant_name(v));
    }
    return 0;
}
