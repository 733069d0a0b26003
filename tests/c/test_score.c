/* ue_content_score: every variant, layout and edge gives one score; luma of every colour. */
#define _DEFAULT_SOURCE
#include "check.h"
#include "pixels/variants.h"

/* Every how many pairs of red and green are shown with every blue. */
#ifndef LUMA_STEP
#define LUMA_STEP 61
#endif

enum { HEADERS = 330 };

static double score_of(const ue_pixels *pixels, size_t height, size_t width, const char *variant) {
    double score = -1;
    CHECK(ue_content_score(pixels, height, width, &score, variant) == UE_OK, "failed");
    return score;
}

/* The same image anew, with other strides, up against the end of its block or its beginning. */
static void check_layout(const ue_pixels *image, size_t height, size_t width, double expected) {
    const ptrdiff_t pixel = 3 + (ptrdiff_t)random_below(3), row = pixel * (ptrdiff_t)width;
    const ptrdiff_t turned = random_bits() & 1 ? -1 : 1, planar = random_bits() & 1;
    ue_pixels copy = {NULL, row, pixel, 1};
    if (planar)
        copy = (ue_pixels){NULL, (ptrdiff_t)width, 1, (ptrdiff_t)(width * height)};
    const size_t size = planar ? 3 * width * height : (size_t)row * height;
    struct guarded block = guarded_alloc(size, random_bits() & 1);
    copy.red = block.bytes;
    if (turned < 0) {
        copy.red += (ptrdiff_t)(height - 1) * copy.row_stride;
        copy.row_stride = -copy.row_stride;
    }
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            for (ptrdiff_t c = 0; c < 3; c++)
                block.bytes[copy.red - block.bytes + (ptrdiff_t)y * copy.row_stride +
                            (ptrdiff_t)x * copy.pixel_stride + c * copy.channel_stride] =
                    image->red[(ptrdiff_t)y * image->row_stride + 3 * (ptrdiff_t)x + c];
    for (size_t v = 0; ue_variant_name(v); v++)
        CHECK(score_of(&copy, height, width, ue_variant_name(v)) == expected, "%s, %zu x %zu",
              ue_variant_name(v), width, height);
    guarded_free(block);
}

/* Noise of some contrast, or of black and white alone, which is all that a wrap can take. */
static void check_random(unsigned round) {
    const size_t height = 1 + random_below(40), width = 1 + random_below(round % 4 ? 40 : 1000);
    struct guarded block = guarded_alloc(3 * height * width, 1);
    const uint8_t contrast = (uint8_t)random_bits();
    for (size_t i = 0; i < 3 * height * width; i++)
        block.bytes[i] = round % 3 ? (uint8_t)(random_bits() & contrast)
                                   : (uint8_t)(random_bits() & 1 ? 255 : 0);
    const ue_pixels image = {block.bytes, 3 * (ptrdiff_t)width, 3, 1};
    const double expected = score_of(&image, height, width, "portable");
    CHECK(expected > HEADERS, "%g", expected);
    for (size_t v = 0; ue_variant_name(v); v++)
        CHECK(score_of(&image, height, width, ue_variant_name(v)) == expected, "%s, %zu x %zu",
              ue_variant_name(v), width, height);
    check_layout(&image, height, width, expected);
    guarded_free(block);
}

/* What libjpeg-turbo 3.1.2 makes of these: simplejpeg's lengths, as tests/tiles compares them. */
static void check_known(void) {
    static uint8_t pixels[3 * 224 * 224];
    const ue_pixels image = {pixels, 3 * 224, 3, 1};
    memset(pixels, 240, sizeof pixels);
    CHECK(score_of(&image, 1, 1, NULL) == 332, "one pixel");
    CHECK(score_of(&image, 224, 224, NULL) == 920, "glass");
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i / 3 * i / 3 / 224);
    CHECK(score_of(&image, 224, 224, NULL) == 23542, "a pattern");
}

/* Black, as long as may be: 18 bits of the first block, which is 128 steps from grey, then 6. */
static void check_longest(void) {
    static const uint8_t black[3];
    const ue_pixels image = {black, 0, 0, 1};
    const double expected = HEADERS + (18 + 6 * ((UE_MAX_SIDE + 7) / 8 - 1) + 7) / 8;
    CHECK(score_of(&image, 1, UE_MAX_SIDE, NULL) == expected, "wide");
    CHECK(score_of(&image, UE_MAX_SIDE, 1, NULL) == expected, "tall");
}

static void check_luma(const struct ue_variant *variant, unsigned step) {
    static uint8_t pixels[3 * 256], luma[256];
    for (unsigned rg = 0; rg < 65536; rg += step) {
        for (unsigned b = 0; b < 256; b++) {
            pixels[3 * b] = (uint8_t)(rg >> 8);
            pixels[3 * b + 1] = (uint8_t)rg;
            pixels[3 * b + 2] = (uint8_t)b;
        }
        variant->luma(pixels, 256, luma);
        for (unsigned b = 0; b < 256; b++)
            CHECK(luma[b] == (299 * (rg >> 8) + 587 * (rg & 255) + 114 * b + 500) / 1000,
                  "%s: %u %u %u is %u", variant->name, rg >> 8, rg & 255, b, luma[b]);
    }
}

static void check_refusals(void) {
    const uint8_t pixels[12] = {0};
    const ue_pixels good = {pixels, 6, 3, 1}, none = {NULL, 6, 3, 1};
    double score = -1;
    CHECK(ue_content_score(NULL, 2, 2, &score, NULL) == UE_NULL_POINTER, "no image");
    CHECK(ue_content_score(&none, 2, 2, &score, NULL) == UE_NULL_POINTER, "no pixels");
    CHECK(ue_content_score(&good, 2, 2, NULL, NULL) == UE_NULL_POINTER, "no output");
    CHECK(ue_content_score(&good, 0, 2, &score, NULL) == UE_BAD_SIZE, "empty");
    CHECK(ue_content_score(&good, 2, UE_MAX_SIDE + 1, &score, NULL) == UE_BAD_SIZE, "too wide");
    CHECK(ue_content_score(&good, 2, 2, &score, "none") == UE_NO_SUCH_VARIANT, "variant");
    CHECK(score == -1, "a refusal changed the score");
}

int main(void) {
    check_refusals();
    check_known();
    check_longest();
    for (size_t v = 0; ue_variant_name(v); v++)
        check_luma(ue_find_variant(ue_variant_name(v), UE_SCORE), LUMA_STEP);
    for (unsigned round = 0; round < ROUNDS; round++)
        check_random(round);
    return 0;
}
