#include "knowledge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "system/memory.h"

/* Two numbers of the covariance that should be one may differ by so much of its largest. */
static const double asymmetry = 1e-6;

static ue_status refuse(struct ue_error *error, const char *problem) {
    return ue_fail(error, UE_BAD_WEIGHTS, "tokens.covariance %s", problem);
}

static bool is_symmetric(const double *matrix, size_t width) {
    double largest = 0, uneven = 0;
    for (size_t i = 0; i < width; i++)
        for (size_t j = i; j < width; j++) {
            const double upper = matrix[i * width + j], lower = matrix[j * width + i];
            largest = fmax(largest, fmax(fabs(upper), fabs(lower)));
            uneven = fmax(uneven, fabs(upper - lower));
        }
    return uneven <= asymmetry * largest;
}

/* Row `k` of the factor is done; take its share off a row below it. */
static void take_off(double *restrict row, const double *restrict done, double share,
                     size_t count) {
    for (size_t j = 0; j < count; j++)
        row[j] -= share * done[j];
}

/* The upper triangle becomes U with U^T U = it, row by row; false where it is not definite. */
static bool factorise(double *matrix, size_t width) {
    for (size_t k = 0; k < width; k++) {
        double *row = matrix + k * width;
        const double pivot = sqrt(row[k]);
        if (!(pivot > 0) || !isfinite(pivot))
            return false;
        for (size_t j = k; j < width; j++)
            row[j] /= pivot;
        for (size_t i = k + 1; i < width; i++)
            take_off(matrix + i * width + i, row + i, row[i], width - i);
    }
    return true;
}

static bool is_finite(const double *numbers, size_t count) {
    for (size_t k = 0; k < count; k++)
        if (!isfinite(numbers[k]))
            return false;
    return true;
}

static ue_status allocate(struct ue_knowledge *knowledge, struct ue_error *error) {
    const size_t width = knowledge->width, rows = knowledge->kinds + 2;
    knowledge->numbers = ue_allocate((rows * (width + 1) + width + width * width) * sizeof(double));
    knowledge->aggregated = calloc(knowledge->kinds, 1);
    if (!knowledge->numbers || !knowledge->aggregated)
        return ue_fail(error, UE_NO_MEMORY, "not enough memory for the bundle's knowledge");
    knowledge->rows = knowledge->numbers;
    knowledge->bias = knowledge->rows + rows * width;
    knowledge->mean = knowledge->bias + rows;
    knowledge->factor = knowledge->mean + width;
    return UE_OK;
}

ue_status ue_knowledge_make(struct ue_knowledge *knowledge, size_t kinds, size_t width,
                            const uint8_t *aggregated, const struct ue_knowledge_parts *parts,
                            struct ue_error *error) {
    const size_t vector = width * sizeof(double);
    *knowledge = (struct ue_knowledge){.width = width, .kinds = kinds};
    const ue_status status = allocate(knowledge, error);
    if (status)
        return status;
    memcpy(knowledge->rows, parts->kinds_weight, kinds * vector);
    memcpy(knowledge->rows + kinds * width, parts->cells_weight, vector);
    memcpy(knowledge->rows + (kinds + 1) * width, parts->scale_weight, vector);
    memcpy(knowledge->bias, parts->kinds_bias, kinds * sizeof(double));
    knowledge->bias[kinds] = parts->cells_bias[0];
    knowledge->bias[kinds + 1] = parts->scale_bias[0];
    memcpy(knowledge->mean, parts->mean, vector);
    memcpy(knowledge->factor, parts->covariance, width * vector);
    memcpy(knowledge->aggregated, aggregated, kinds);
    if (!is_symmetric(knowledge->factor, width))
        return refuse(error, "is not symmetric");
    if (!factorise(knowledge->factor, width) || !is_finite(knowledge->factor, width * width))
        return refuse(error, "is not positive definite");
    return UE_OK;
}

void ue_knowledge_free(struct ue_knowledge *knowledge) {
    ue_free(knowledge->numbers);
    free(knowledge->aggregated);
    *knowledge = (struct ue_knowledge){0};
}
