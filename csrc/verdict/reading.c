#include "reading.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Octaves by which a spacing may be read as wrong: no weights make an infinite um/px of it. */
static const double most_octaves = 10;

/* ---- one token ------------------------------------------------------------------------------- */

/* In four sums, which the compiler may keep in one vector; the order is always this one. */
static double product(const double *a, const double *b, size_t count) {
    double sums[4] = {0, 0, 0, 0};
    size_t k = 0;
    for (; k + 4 <= count; k += 4)
        for (size_t lane = 0; lane < 4; lane++)
            sums[lane] += a[k + lane] * b[k + lane];
    for (; k < count; k++)
        sums[k % 4] += a[k] * b[k];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* The mean square of the whitened token: U^T y = token - mean, solved from the front. */
static double distance(const struct ue_knowledge *knowledge, const double *token,
                       double *restrict rest) {
    const size_t width = knowledge->width;
    double squares = 0;
    for (size_t k = 0; k < width; k++)
        rest[k] = token[k] - knowledge->mean[k];
    for (size_t k = 0; k < width; k++) {
        const double *restrict row = knowledge->factor + k * width;
        const double solved = rest[k] / row[k];
        squares += solved * solved;
        for (size_t j = k + 1; j < width; j++)
            rest[j] -= solved * row[j];
    }
    return sqrt(squares / (double)width);
}

static void read_one(struct ue_reading *reading, const struct ue_knowledge *knowledge, size_t tile,
                     const double *token, double *rest) {
    const size_t width = knowledge->width, kinds = knowledge->kinds;
    size_t best = 0;
    double logit = -INFINITY;
    for (size_t k = 0; k < kinds; k++) {
        const double own = product(token, knowledge->rows + k * width, width) + knowledge->bias[k];
        best = own > logit ? k : best;
        logit = own > logit ? own : logit;
    }
    const double cells = product(token, knowledge->rows + kinds * width, width);
    const double octaves = product(token, knowledge->rows + (kinds + 1) * width, width);
    const bool aggregated = knowledge->aggregated[best];
    reading->kind[tile] = (int32_t)best;
    reading->aggregated[tile] = aggregated;
    reading->counts[best]++;
    reading->aggregated_count += aggregated;
    reading->cells[tile] = aggregated ? fmax(cells + knowledge->bias[kinds], 0) : 0;
    reading->octaves[tile] = octaves + knowledge->bias[kinds + 1];
    reading->distance[tile] = distance(knowledge, token, rest);
}

/* ---- the slide ------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return isnan(x) - isnan(y); /* last, so that the order is one */
    return (x > y) - (x < y);
}

double ue_median(double *numbers, size_t count) {
    if (!count)
        return NAN;
    qsort(numbers, count, sizeof *numbers, by_size);
    return count % 2 ? numbers[count / 2] : (numbers[count / 2 - 1] + numbers[count / 2]) / 2;
}

/* The median of the aggregated tiles' values, or of all. */
static double median_of(const struct ue_reading *reading, const double *values, bool all,
                        double *room) {
    size_t count = 0;
    for (size_t tile = 0; tile < reading->count; tile++)
        if (all || reading->aggregated[tile])
            room[count++] = values[tile];
    return ue_median(room, count);
}

static void read_slide(struct ue_reading *reading, double *room) {
    const bool none = !reading->aggregated_count;
    reading->slide_distance = median_of(reading, reading->distance, none, room);
    const double octaves = median_of(reading, reading->octaves, false, room);
    reading->um_px_factor = none ? NAN : exp2(fmin(fmax(octaves, -most_octaves), most_octaves));
}

/* ---- both ------------------------------------------------------------------------------------ */

static bool allocate(struct ue_reading *reading) {
    const size_t count = reading->count + 1; /* none is not NULL */
    reading->kind = calloc(count, sizeof *reading->kind);
    reading->aggregated = calloc(count, sizeof *reading->aggregated);
    reading->distance = calloc(3 * count, sizeof *reading->distance);
    reading->counts = calloc(reading->kinds, sizeof *reading->counts);
    if (!reading->kind || !reading->aggregated || !reading->distance || !reading->counts)
        return false;
    reading->cells = reading->distance + count;
    reading->octaves = reading->cells + count;
    return true;
}

ue_status ue_read_tokens(struct ue_reading *reading, const struct ue_knowledge *knowledge,
                         const float *tokens, size_t count, struct ue_error *error) {
    const size_t width = knowledge->width, longer = width > count ? width : count;
    *reading = (struct ue_reading){.count = count, .kinds = knowledge->kinds};
    double *token = calloc(width + longer, sizeof *token);
    if (!token || !allocate(reading)) {
        free(token);
        return ue_fail(error, UE_NO_MEMORY, "not enough memory to read %zu tokens", count);
    }
    double *room = token + width;
    for (size_t tile = 0; tile < count; tile++) {
        for (size_t k = 0; k < width; k++)
            token[k] = tokens[tile * width + k];
        read_one(reading, knowledge, tile, token, room);
    }
    read_slide(reading, room);
    free(token);
    return UE_OK;
}

void ue_reading_free(struct ue_reading *reading) {
    free(reading->kind);
    free(reading->aggregated);
    free(reading->distance);
    free(reading->counts);
    *reading = (struct ue_reading){0};
}
