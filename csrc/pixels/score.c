/* ue_content_score: bands of eight rows, each in pieces that lie on the stack. */
#include <string.h>

#include "variants.h"

/* SOI, APP0, DQT, SOF0, two DHT, SOS and EOI, of one component. */
enum { HEADERS = 2 + 18 + 69 + 13 + 33 + 183 + 10 + 2 };

struct image {
    const ue_pixels *pixels;
    size_t height, width;
    const struct ue_variant *variant;
};

/* `count` pixels of a row as adjacent RGB: their own place, or `packed`. */
static const uint8_t *row_of(const ue_pixels *pixels, size_t y, size_t x, size_t count,
                             uint8_t *packed) {
    const uint8_t *pixel = pixels->red + (ptrdiff_t)y * pixels->row_stride;
    pixel += (ptrdiff_t)x * pixels->pixel_stride;
    if (pixels->pixel_stride == 3 && pixels->channel_stride == 1)
        return pixel;
    for (size_t i = 0; i < count; i++)
        for (int c = 0; c < 3; c++)
            packed[3 * i + (size_t)c] =
                pixel[(ptrdiff_t)i * pixels->pixel_stride + c * pixels->channel_stride];
    return packed;
}

/* Blocks that reach past the image repeat its last column and row, as libjpeg has them. */
static void take_luma(const struct image *image, size_t top, size_t x, size_t count,
                      uint8_t luma[UE_BLOCK_SIDE][UE_BAND]) {
    uint8_t packed[3 * UE_BAND];
    for (size_t y = 0; y < UE_BLOCK_SIDE; y++) {
        if (top + y >= image->height) {
            memcpy(luma[y], luma[y - 1], UE_BAND);
            continue;
        }
        image->variant->luma(row_of(image->pixels, top + y, x, count, packed), count, luma[y]);
        memset(luma[y] + count, luma[y][count - 1], UE_BAND - count);
    }
}

static double score_of(const struct image *image) {
    uint8_t luma[UE_BLOCK_SIDE][UE_BAND];
    struct ue_divisors divisors;
    struct ue_blocks blocks;
    struct ue_coder coder;
    ue_divisors_set(&divisors);
    ue_coder_start(&coder);
    for (size_t y = 0; y < image->height; y += UE_BLOCK_SIDE)
        for (size_t x = 0; x < image->width; x += UE_BAND) {
            const size_t left = image->width - x, count = left < UE_BAND ? left : UE_BAND;
            take_luma(image, y, x, count, luma);
            image->variant->transform(luma[0], &divisors, &blocks);
            ue_coder_add(&coder, &blocks, (count + UE_BLOCK_SIDE - 1) / UE_BLOCK_SIDE);
        }
    return (double)(HEADERS + ue_coder_end(&coder));
}

ue_status ue_content_score(const ue_pixels *pixels, size_t height, size_t width, double *score,
                           const char *variant) {
    if (!pixels || !score)
        return UE_NULL_POINTER;
    const ue_image extent = {pixels->red, height, width, pixels->row_stride};
    const ue_status status = ue_check_image(&extent);
    if (status != UE_OK)
        return status;
    const struct ue_variant *found = ue_find_variant(variant, UE_SCORE);
    if (!found)
        return UE_NO_SUCH_VARIANT;
    *score = score_of(&(struct image){pixels, height, width, found});
    return UE_OK;
}
