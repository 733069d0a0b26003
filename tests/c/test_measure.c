/* Every variant of ue_measure against a scalar oracle; the largest image that it accepts. */
#define _DEFAULT_SOURCE
#include "check.h"
#include "unicas_edge.h"

static const uint8_t *pixel_at(const ue_image *image, size_t y, size_t x) {
    return image->pixels + (ptrdiff_t)y * image->row_stride + 3 * x;
}

static int64_t laplacian(const ue_image *image, size_t y, size_t x) {
    return (int64_t)pixel_at(image, y - 1, x)[1] + pixel_at(image, y + 1, x)[1] +
           pixel_at(image, y, x - 1)[1] + pixel_at(image, y, x + 1)[1] -
           4 * pixel_at(image, y, x)[1];
}

static ue_measures oracle(const ue_image *image, unsigned cellular, unsigned dark) {
    ue_measures sums;
    memset(&sums, 0, sizeof sums);
    for (size_t y = 0; y < image->height; y++)
        for (size_t x = 0; x < image->width; x++) {
            const uint8_t *p = pixel_at(image, y, x);
            sums.cellular += p[0] < cellular || p[1] < cellular || p[2] < cellular;
            sums.dark += p[0] < dark && p[1] < dark && p[2] < dark;
            for (int c = 0; c < 3; c++)
                sums.channel_sum[c] += p[c];
            if (y == 0 || x == 0 || y + 1 == image->height || x + 1 == image->width)
                continue;
            const int64_t value = laplacian(image, y, x);
            sums.laplacian_sum += value;
            sums.laplacian_squares += (uint64_t)(value * value);
            sums.laplacian_count++;
        }
    return sums;
}

/* Random, all of one value, or the pattern with the largest Laplacian, +-1020. */
static void fill(uint8_t *bytes, size_t height, size_t stride, unsigned pattern) {
    for (size_t y = 0; y < height; y++)
        for (size_t i = 0; i < stride; i++) {
            const unsigned value = pattern == 0   ? random_bits()
                                   : pattern == 1 ? 255
                                                  : 255 * ((y + i / 3) & 1);
            bytes[y * stride + i] = (uint8_t)value;
        }
}

static void check_random(unsigned round) {
    const size_t height = 1 + random_below(24), width = 1 + random_below(round % 4 ? 40 : 1200);
    const size_t stride = 3 * width + random_below(40), size = (height - 1) * stride + 3 * width;
    struct guarded block = guarded_alloc(height * stride, 1);
    fill(block.bytes, height, stride, round % 3);
    /* The last row ends where the block does: shift all by what its padding would take. */
    ue_image image = {block.bytes + height * stride - size, height, width, (ptrdiff_t)stride};
    if (round & 1) {
        image.pixels += (height - 1) * stride;
        image.row_stride = -image.row_stride;
    }
    const uint8_t cellular = (uint8_t)random_bits(), dark = (uint8_t)random_bits();
    const ue_measures expected = oracle(&image, cellular, dark);
    for (size_t v = 0; ue_variant_name(v); v++) {
        ue_measures actual;
        CHECK(ue_measure(&image, cellular, dark, &actual, ue_variant_name(v)) == UE_OK, "failed");
        CHECK(memcmp(&actual, &expected, sizeof actual) == 0, "%s: %zu x %zu, round %u",
              ue_variant_name(v), width, height, round);
    }
    guarded_free(block);
}

/* One row of white and black columns, as 65535 rows: sums far beyond 32 bits, known beforehand. */
static void check_largest(void) {
    static uint8_t row[3 * UE_MAX_SIDE];
    const uint64_t side = UE_MAX_SIDE, inner = side - 2;
    for (size_t i = 0; i < sizeof row; i++)
        row[i] = i / 3 & 1 ? 0 : 255;
    const ue_image image = {row, UE_MAX_SIDE, UE_MAX_SIDE, 0};
    ue_measures m;
    CHECK(ue_measure(&image, 255, 1, &m, NULL) == UE_OK, "failed");
    CHECK(m.cellular == side * (side / 2) && m.dark == m.cellular, "counts");
    for (int c = 0; c < 3; c++)
        CHECK(m.channel_sum[c] == 255 * side * (side / 2 + 1), "channel %d", c);
    CHECK(m.laplacian_count == inner * inner, "interior");
    CHECK(m.laplacian_squares == inner * inner * 510 * 510, "squares");
    CHECK(m.laplacian_sum == (int64_t)(inner * 510), "sum %lld", (long long)m.laplacian_sum);
}

static void check_refusals(void) {
    const uint8_t pixels[12] = {0};
    const ue_image good = {pixels, 2, 2, 6}, empty = {pixels, 0, 2, 6}, none = {NULL, 2, 2, 6};
    ue_measures m;
    CHECK(ue_measure(NULL, 1, 1, &m, NULL) == UE_NULL_POINTER, "no image");
    CHECK(ue_measure(&none, 1, 1, &m, NULL) == UE_NULL_POINTER, "no pixels");
    CHECK(ue_measure(&good, 1, 1, NULL, NULL) == UE_NULL_POINTER, "no output");
    CHECK(ue_measure(&empty, 1, 1, &m, NULL) == UE_BAD_SIZE, "empty");
    CHECK(ue_measure(&good, 1, 1, &m, "none") == UE_NO_SUCH_VARIANT, "variant");
}

int main(void) {
    check_refusals();
    for (unsigned round = 0; round < ROUNDS; round++)
        check_random(round);
#ifdef LARGEST
    check_largest();
#else
    (void)check_largest;
#endif
    return 0;
}
