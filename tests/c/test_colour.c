/* The colour fit: known answers, layouts, steps, bounds and refusals; tests/tiles has the rest. */
#define _DEFAULT_SOURCE
#include <math.h>

#include "check.h"
#include "unicas_edge_colour.h"

static const double mean[3] = {66, 9, -18}, std[3] = {20, 17, 6};

static ue_colour_sample *opened(size_t most) {
    ue_colour_sample *sample;
    CHECK(ue_colour_open(most, &sample) == UE_OK, "open");
    return sample;
}

static void add(ue_colour_sample *sample, const uint8_t *pixels, size_t count) {
    const ue_pixels layout = {pixels, 3, 3, 1};
    CHECK(ue_colour_add(sample, &layout, count, 1, 1) == UE_OK, "%s", ue_colour_error(sample));
}

static ue_colour fitted(ue_colour_sample *sample, const char *mode, size_t *used) {
    ue_colour colour = {.struct_size = sizeof colour};
    CHECK(ue_colour_fit(sample, mode, mean, std, &colour, used) == UE_OK, "%s",
          ue_colour_error(sample));
    CHECK(strcmp(colour.mode, mode) == 0, "%s", colour.mode);
    for (int k = 0; k < 12; k++)
        CHECK(isfinite(colour.matrix[k]), "%s: %d", mode, k);
    return colour;
}

static void is_identity(const ue_colour *colour) {
    for (int k = 0; k < 12; k++)
        CHECK(colour->matrix[k] == (k % 5 == 0 && k < 11), "%d: %g", k, colour->matrix[k]);
}

/* Half of the glass is clearer than the other half: medians of the clearer half alone. */
static void check_white_balance(void) {
    static uint8_t pixels[600][3];
    ue_colour_sample *sample = opened(0);
    size_t used;
    for (int i = 0; i < 600; i++) {
        const uint8_t level = i < 300 ? 200 : (uint8_t)(230 + i % 2);
        pixels[i][0] = level;
        pixels[i][1] = pixels[i][2] = (uint8_t)(level - 10);
    }
    add(sample, pixels[0], 600);
    const ue_colour colour = fitted(sample, "white-balance", &used);
    CHECK(used == 300 && !colour.warning, "%zu", used);
    CHECK(colour.matrix[0] == 245 / 230.5 && colour.matrix[5] == 245 / 220.5, "medians");
    ue_colour_close(sample);
}

/* Every 4th pixel along and down, of any layout, is what those pixels by themselves are. */
static void check_layouts(void) {
    enum { SIDE = 131, ROWS = (SIDE + 3) / 4 };
    static uint8_t picked[ROWS * ROWS][3];
    struct guarded planes = guarded_alloc(3 * SIDE * SIDE, 1);
    ue_colour_sample *one = opened(2 * ROWS * ROWS), *other = opened(ROWS * ROWS);
    const ue_pixels turned = {planes.bytes + SIDE * SIDE - 1, -SIDE, -1, SIDE * SIDE};
    size_t count = 0, used;
    fill_random(planes.bytes, 3 * SIDE * SIDE);
    for (size_t y = 0; y < SIDE; y += 4)
        for (size_t x = 0; x < SIDE; x += 4, count++)
            for (size_t c = 0; c < 3; c++)
                picked[count][c] = planes.bytes[(c + 1) * SIDE * SIDE - 1 - y * SIDE - x];
    CHECK(ue_colour_add(one, &turned, SIDE, SIDE, 4) == UE_OK, "%s", ue_colour_error(one));
    add(other, picked[0], count);
    const ue_colour a = fitted(one, "reinhard", &used), b = fitted(other, "reinhard", NULL);
    CHECK(used > 256 && memcmp(a.matrix, b.matrix, sizeof a.matrix) == 0, "layouts differ");
    CHECK(ue_colour_add(other, &turned, 1, 1, 1) == UE_BAD_SIZE, "a full sample took one more");
    CHECK(ue_colour_add(one, &turned, SIDE, SIDE, 4) == UE_OK, "%s", ue_colour_error(one));
    CHECK(ue_colour_add(one, &turned, SIDE, SIDE, 4) == UE_BAD_SIZE, "no end");
    ue_colour_close(one);
    ue_colour_close(other);
    guarded_free(planes);
}

/* Whatever the pixels, the matrix is finite, and a warning comes with the identity. */
static void check_random(unsigned round) {
    const size_t count = 1 + random_below(2000);
    struct guarded pixels = guarded_alloc(3 * count, 1);
    ue_colour_sample *sample = opened(0);
    const uint8_t contrast = (uint8_t)random_bits(), shade = (uint8_t)random_bits();
    for (size_t i = 0; i < 3 * count; i++)
        pixels.bytes[i] = (uint8_t)((random_bits() & contrast) | (round % 2 ? shade : 0));
    add(sample, pixels.bytes, count);
    for (int k = 0; k < 2; k++) {
        size_t used;
        const ue_colour found = fitted(sample, k ? "reinhard" : "white-balance", &used);
        CHECK((used == 0) == (found.warning != NULL), "%zu", used);
        if (found.warning)
            is_identity(&found);
    }
    ue_colour_close(sample);
    guarded_free(pixels);
}

/* As many pixels as may be, all white but some: no sum leaves 64 bits. */
static void check_most(void) {
    static const uint8_t white[3] = {255, 255, 255};
    static uint8_t stained[4096][3];
    const ue_pixels same = {white, 0, 0, 1};
    ue_colour_sample *sample = opened(0);
    size_t used;
    fill_random(stained[0], sizeof stained);
    add(sample, stained[0], 4096);
    CHECK(ue_colour_add(sample, &same, UE_MAX_SAMPLE - 4096, 1, 1) == UE_OK, "%s",
          ue_colour_error(sample));
    const ue_colour found = fitted(sample, "reinhard", &used);
    const double *m = found.matrix;
    CHECK(used > 3000 && used <= 4096 && !found.warning, "%zu", used);
    CHECK(fabs(255 * (m[0] + m[1] + m[2]) + m[3] - 245) < 1, "white does not become white");
    CHECK(ue_colour_add(sample, &same, 1, 1, 1) == UE_BAD_SIZE, "one more than all");
    ue_colour_close(sample);
}

static void check_refusals(void) {
    static const uint8_t pixel[3];
    const double nothing[3] = {0}, endless[3] = {1, 1, HUGE_VAL};
    const ue_pixels good = {pixel, 3, 3, 1}, none = {NULL, 3, 3, 1};
    ue_colour colour = {.struct_size = sizeof colour};
    ue_colour_sample *sample;
    CHECK(ue_colour_open(0, NULL) == UE_NULL_POINTER, "no place for it");
    CHECK(ue_colour_open(UE_MAX_SAMPLE + 1, &sample) == UE_BAD_SIZE && !sample, "too many");
    CHECK(strcmp(ue_colour_error(NULL), "") == 0, "no sample");
    ue_colour_close(NULL);
    sample = opened(9);
    CHECK(ue_colour_add(NULL, &good, 1, 1, 1) == UE_NULL_POINTER, "no sample");
    CHECK(ue_colour_add(sample, &none, 1, 1, 1) == UE_NULL_POINTER, "no pixels");
    CHECK(ue_colour_add(sample, &good, 0, 1, 1) == UE_BAD_SIZE, "empty");
    CHECK(ue_colour_add(sample, &good, 1, 1, 0) == UE_BAD_SIZE, "no step");
    CHECK(ue_colour_add(sample, &good, SIZE_MAX, SIZE_MAX, 1) == UE_BAD_SIZE, "endless");
    CHECK(ue_colour_fit(sample, NULL, mean, std, &colour, NULL) == UE_NULL_POINTER, "no mode");
    CHECK(ue_colour_fit(sample, "macenko", mean, std, &colour, NULL) == UE_BAD_OPTIONS, "mode");
    CHECK(strstr(ue_colour_error(sample), "macenko"), "%s", ue_colour_error(sample));
    CHECK(ue_colour_fit(sample, "reinhard", NULL, std, &colour, NULL) == UE_BAD_OPTIONS, "NULL");
    CHECK(ue_colour_fit(sample, "reinhard", nothing, nothing, &colour, NULL) == UE_BAD_OPTIONS,
          "zeros");
    CHECK(ue_colour_fit(sample, "reinhard", mean, endless, &colour, NULL) == UE_BAD_OPTIONS,
          "not finite");
    CHECK(strstr(ue_colour_error(sample), "needs a target"), "%s", ue_colour_error(sample));
    colour.struct_size = 0;
    CHECK(ue_colour_fit(sample, "none", NULL, NULL, &colour, NULL) == UE_BAD_OPTIONS, "size");
    ue_colour_close(sample);
}

int main(void) {
    ue_colour_sample *empty = opened(0);
    const char *const modes[] = {"none", "icc", "white-balance", "reinhard"};
    for (int k = 0; k < 4; k++) {
        const ue_colour colour = fitted(empty, modes[k], NULL);
        is_identity(&colour);
        CHECK((colour.warning != NULL) == (k >= 2), "%s", modes[k]);
    }
    ue_colour_close(empty);
    check_refusals();
    check_white_balance();
    check_layouts();
    for (unsigned round = 0; round < ROUNDS; round++)
        check_random(round);
    check_most();
    return 0;
}
