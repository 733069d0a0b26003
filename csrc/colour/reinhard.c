/*
 * Reinhard's correction of tissue in CIELAB, and the affine map of RGB that comes closest to it.
 *
 * The least squares are those of centred pixels. Their scatter matrix is exact, because pixels are
 * bytes and its sums stay in 64 bits, so that solving it loses no more digits than its condition
 * number takes, a few thousand on real slides.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lab.h"
#include "sample.h"

/* As cellular_below of ue_measure: a pixel with no darker channel is glass. */
enum { TISSUE_BELOW = 217 };
/*
 * Tissue that varies less than coding noise, in CIELAB units, would only have its noise enlarged;
 * on three real ThinPrep slides L*, a*, b* vary by 18 to 21, 13 to 22 and 6.
 */
#define LEAST_STD 0.5

/* Kahan, CACM 8(1), 1965: a hundred thousand terms lose no more digits than one. */
struct sum {
    double total, over;
};

static void add(struct sum *to, double term) {
    const double corrected = term - to->over, total = to->total + corrected;
    to->over = (total - to->total) - corrected;
    to->total = total;
}

struct statistics {
    size_t count;
    double mean[3], std[3];
};

/* The sums are those of distances to the first value, which is not far off. */
static void finish(struct statistics *found, const double first[3], struct sum sums[3][2]) {
    const double count = (double)found->count;
    for (int c = 0; c < 3 && found->count; c++) {
        const double mean = sums[c][0].total / count;
        const double variance = sums[c][1].total / count - mean * mean;
        found->mean[c] = first[c] + mean;
        found->std[c] = variance > 0 ? sqrt(variance) : 0;
    }
}

static struct statistics of_tissue(const ue_colour_sample *sample, const struct ue_lab *lab) {
    struct statistics found;
    struct sum sums[3][2];
    double first[3] = {0}, value[3];
    memset(&found, 0, sizeof found);
    memset(sums, 0, sizeof sums);
    for (size_t i = 0; i < sample->count; i++) {
        if (ue_darkest(sample->pixels[i]) >= TISSUE_BELOW)
            continue;
        ue_lab_of(lab, sample->pixels[i], value);
        if (found.count++ == 0)
            memcpy(first, value, sizeof first);
        for (int c = 0; c < 3; c++) {
            add(&sums[c][0], value[c] - first[c]);
            add(&sums[c][1], (value[c] - first[c]) * (value[c] - first[c]));
        }
    }
    finish(&found, first, sums);
    return found;
}

/* The equations scatter x map = cross, of all pixels, less their mean. */
struct equations {
    double mean[3], scatter[3][3]; /* of pixels */
    struct sum wanted[3];          /* what they shall become */
    struct sum cross[3][3];
};

/* count x count times the covariance, which fits 64 bits for UE_MAX_SAMPLE pixels. */
static void add_pixels(struct equations *to, const ue_colour_sample *sample) {
    int64_t sums[3] = {0}, products[3][3] = {{0}};
    const int64_t count = (int64_t)sample->count;
    for (size_t i = 0; i < sample->count; i++) {
        const uint8_t *pixel = sample->pixels[i];
        for (int c = 0; c < 3; c++) {
            sums[c] += pixel[c];
            for (int d = 0; d < 3; d++)
                products[c][d] += pixel[c] * pixel[d];
        }
    }
    for (int c = 0; c < 3; c++) {
        to->mean[c] = (double)sums[c] / (double)count;
        for (int d = 0; d < 3; d++)
            to->scatter[c][d] =
                (double)(count * products[c][d] - sums[c] * sums[d]) / (double)count;
    }
}

/* What a pixel shall become: glass white, tissue of the target's mean and deviation. */
static void corrected(const struct ue_lab *lab, const struct statistics *tissue,
                      const double mean[3], const double std[3], const uint8_t pixel[3],
                      double wanted[3]) {
    double value[3];
    if (ue_darkest(pixel) >= TISSUE_BELOW) {
        wanted[0] = wanted[1] = wanted[2] = UE_WHITE;
        return;
    }
    ue_lab_of(lab, pixel, value);
    for (int c = 0; c < 3; c++)
        value[c] = (value[c] - tissue->mean[c]) / tissue->std[c] * std[c] + mean[c];
    ue_lab_to_rgb(lab, value, wanted);
}

static void add_wanted(struct equations *to, const uint8_t pixel[3], const double wanted[3]) {
    for (int c = 0; c < 3; c++) {
        add(&to->wanted[c], wanted[c]);
        for (int d = 0; d < 3; d++)
            add(&to->cross[d][c], (pixel[d] - to->mean[d]) * wanted[c]);
    }
}

/* Gauss elimination, which needs no pivoting where it is positive definite; `cross` becomes x. */
static bool solve(double scatter[3][3], double cross[3][3]) {
    const double trace = scatter[0][0] + scatter[1][1] + scatter[2][2];
    for (int k = 0; k < 3; k++) {
        if (!(scatter[k][k] > 1e-14 * trace))
            return false;
        for (int i = k + 1; i < 3; i++) {
            const double factor = scatter[i][k] / scatter[k][k];
            for (int j = 0; j < 3; j++) {
                scatter[i][j] -= factor * scatter[k][j];
                cross[i][j] -= factor * cross[k][j];
            }
        }
    }
    for (int k = 2; k >= 0; k--)
        for (int j = 0; j < 3; j++) {
            for (int i = k + 1; i < 3; i++)
                cross[k][j] -= scatter[k][i] * cross[i][j];
            cross[k][j] /= scatter[k][k];
        }
    return true;
}

/* False where all pixels lie in one plane. */
static bool fill(struct equations *equations, size_t count, double matrix[12]) {
    double map[3][3];
    for (int d = 0; d < 3; d++)
        for (int c = 0; c < 3; c++)
            map[d][c] = equations->cross[d][c].total;
    if (!solve(equations->scatter, map))
        return false;
    for (int c = 0; c < 3; c++) {
        matrix[4 * c + 3] = equations->wanted[c].total / (double)count;
        for (int d = 0; d < 3; d++) {
            matrix[4 * c + d] = map[d][c];
            matrix[4 * c + 3] -= map[d][c] * equations->mean[d];
        }
    }
    return true;
}

static size_t unfitted(ue_colour_sample *sample, const char *why) {
    snprintf(sample->warning, sizeof sample->warning,
             "colour mode reinhard did not change the colours: %s", why);
    return 0;
}

static bool all_alike(const struct statistics *tissue) {
    return tissue->std[0] < LEAST_STD || tissue->std[1] < LEAST_STD || tissue->std[2] < LEAST_STD;
}

static bool fit(const ue_colour_sample *sample, const struct ue_lab *lab,
                const struct statistics *tissue, const double mean[3], const double std[3],
                double matrix[12]) {
    struct equations equations;
    memset(&equations, 0, sizeof equations);
    add_pixels(&equations, sample);
    for (size_t i = 0; i < sample->count; i++) {
        double wanted[3];
        corrected(lab, tissue, mean, std, sample->pixels[i], wanted);
        add_wanted(&equations, sample->pixels[i], wanted);
    }
    return fill(&equations, sample->count, matrix);
}

size_t ue_reinhard(ue_colour_sample *sample, const double mean[3], const double std[3],
                   double matrix[12]) {
    struct ue_lab lab;
    char few[64];
    ue_lab_set(&lab);
    const struct statistics tissue = of_tissue(sample, &lab);
    snprintf(few, sizeof few, "only %zu tissue pixels in the sample", tissue.count);
    if (tissue.count < UE_LEAST_PIXELS)
        return unfitted(sample, few);
    if (all_alike(&tissue))
        return unfitted(sample, "the tissue pixels of the sample are all alike");
    if (!fit(sample, &lab, &tissue, mean, std, matrix))
        return unfitted(sample, "the pixels of the sample lie in one plane");
    return tissue.count;
}
