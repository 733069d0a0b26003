/* ue_measure: strips of columns, each taken apart row by row into planes on the stack. */
#include <string.h>

#include "variants.h"

enum { PLANE = UE_STRIP + 2 }; /* a strip and its neighbours to the left and right */

struct planes {
    uint8_t red[PLANE], blue[PLANE];
    uint8_t green[3][PLANE]; /* rows y - 1, y and y + 1, at index y % 3 */
};

struct strip {
    const ue_image *image;
    const struct ue_variant *variant;
    size_t left, width;      /* columns taken apart */
    struct ue_strip_row row; /* what all its rows have in common */
};

static struct strip strip_at(const ue_image *image, const struct ue_variant *variant, size_t x) {
    const size_t end = image->width - x < UE_STRIP ? image->width : x + UE_STRIP;
    const size_t left = x > 0 ? x - 1 : 0, right = end < image->width ? end + 1 : end;
    struct strip strip = {image, variant, left, right - left, {0}};
    strip.row.first = x - left;
    strip.row.count = end - x;
    strip.row.inner_count = right - left > 2 ? right - left - 2 : 0;
    return strip;
}

static void take_apart(const struct strip *strip, size_t y, uint8_t *red, uint8_t *green,
                       uint8_t *blue) {
    const uint8_t *pixels =
        strip->image->pixels + (ptrdiff_t)y * strip->image->row_stride + 3 * strip->left;
    strip->variant->rows[UE_UINT8][UE_COPY](pixels, strip->width, NULL, red, green, blue);
}

/*
 * Rows arrive one at a time: row y is counted as it comes, and completes the neighbours of row
 * y - 1, whose Laplacian is then summed.
 */
static void measure_strip(const struct strip *strip, ue_measures *sums) {
    struct planes planes;
    struct ue_strip_row row = strip->row;
    row.red = planes.red;
    row.blue = planes.blue;
    for (size_t y = 0; y < strip->image->height; y++) {
        uint8_t *green = planes.green[y % 3];
        take_apart(strip, y, planes.red, green, planes.blue);
        row.green = green;
        row.above = y >= 2 ? planes.green[(y - 2) % 3] : NULL;
        row.middle = y >= 2 ? planes.green[(y - 1) % 3] : NULL;
        strip->variant->measure(&row, sums);
    }
}

ue_status ue_measure(const ue_image *image, uint8_t cellular_below, uint8_t dark_below,
                     ue_measures *measures, const char *variant) {
    const ue_status status = ue_check_image(image);
    if (status != UE_OK)
        return status;
    if (!measures)
        return UE_NULL_POINTER;
    const struct ue_variant *found = ue_find_variant(variant, UE_MEASURE);
    if (!found)
        return UE_NO_SUCH_VARIANT;
    memset(measures, 0, sizeof *measures);
    for (size_t x = 0; x < image->width; x += UE_STRIP) {
        struct strip strip = strip_at(image, found, x);
        strip.row.cellular_below = cellular_below;
        strip.row.dark_below = dark_below;
        measure_strip(&strip, measures);
    }
    return UE_OK;
}
