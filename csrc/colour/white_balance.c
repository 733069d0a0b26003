/* The background becomes neutral: each channel is scaled by the median of the clearest glass. */
#include <stdbool.h>
#include <stdio.h>

#include "sample.h"

/* Glass is bright, and its channels lie no further apart: more is stain. */
enum { BACKGROUND_ABOVE = 160, BACKGROUND_SPREAD = 40, LIGHTS = 3 * 255 + 1 };

static bool is_glass(const uint8_t rgb[3]) {
    const int low = ue_darkest(rgb), high = ue_brightest(rgb);
    return low >= BACKGROUND_ABOVE && high - low <= BACKGROUND_SPREAD;
}

static unsigned light(const uint8_t rgb[3]) {
    return (unsigned)rgb[0] + rgb[1] + rgb[2];
}

/* The value at a place of sorted values, by how often each one occurs. */
static unsigned at(const size_t *counts, size_t place) {
    unsigned value = 0;
    for (; place >= counts[value]; value++)
        place -= counts[value];
    return value;
}

/* Of an even number of values the median lies between the two in the middle. */
static unsigned twice_median(const size_t *counts, size_t total) {
    return at(counts, (total - 1) / 2) + at(counts, total / 2);
}

size_t ue_white_balance(ue_colour_sample *sample, double matrix[12]) {
    size_t lights[LIGHTS] = {0}, levels[3][256] = {{0}}, glass = 0, clearest = 0;
    for (size_t i = 0; i < sample->count; i++)
        if (is_glass(sample->pixels[i])) {
            lights[light(sample->pixels[i])]++;
            glass++;
        }
    if (glass < UE_LEAST_PIXELS) {
        snprintf(sample->warning, sizeof sample->warning,
                 "colour mode white-balance did not change the colours: only %zu background "
                 "pixels in the sample",
                 glass);
        return 0;
    }
    const unsigned least = twice_median(lights, glass); /* the rest may be pale cytoplasm */
    for (size_t i = 0; i < sample->count; i++) {
        const uint8_t *pixel = sample->pixels[i];
        if (!is_glass(pixel) || 2 * light(pixel) < least)
            continue;
        clearest++;
        for (int c = 0; c < 3; c++)
            levels[c][pixel[c]]++;
    }
    for (int c = 0; c < 3; c++)
        matrix[5 * c] = UE_WHITE / (twice_median(levels[c], clearest) / 2.0);
    return clearest;
}
