/*
 * The aggregator's arithmetic: everything that has one version per instruction set. Unlike the
 * pixel kernels these fuse multiply and add, so variants agree to rounding, not to the bit; one
 * variant gives the same bits at every run and with every number of threads.
 *
 * Matrices are row-major. Rows of internal matrices are padded to a multiple of UE_PANEL floats.
 */
#ifndef UE_KERNELS_H
#define UE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "matrix.h"
#include "system/instructions.h"

/* Columns of a packed panel, and of the block of the product that one tile call computes. */
enum { UE_PANEL = 16 };

/* Rows that tile takes at most, in any variant. */
enum { UE_MAX_ROWS = 12 };

/* Channels and outputs of one sweep of the depth-wise kernel over a row of the grid. */
enum { UE_TAPS = 7 };

/*
 * The block of a product that one call computes: of up to `rows` rows (more cost registers, fewer
 * cost time) and of `columns` columns,
 *
 *     c[i][j] = (accumulate ? c[i][j] : 0) + sum over k < depth of a[i * lda + k] * b[k * ldb + j]
 */
struct ue_tile {
    size_t rows, columns;
    void (*multiply)(size_t rows, size_t depth, const float *a, size_t lda, const float *b,
                     size_t ldb, float *const *c, bool accumulate);
};

struct ue_kernels {
    const char *name;
    bool (*supported)(void);
    struct ue_tile tile;   /* of UE_PANEL columns */
    struct ue_tile narrow; /* of fewer, for the rest of a matrix, where registers allow it */

    /* y[v][r] = row r of `matrix` (of `depth` stored numbers) . x[v], from row `first` on */
    void (*dots)(const struct ue_matrix *matrix, size_t first, size_t rows, size_t depth,
                 const float *const *x, size_t vectors, float *const *y);

    /* mean of x and 1 / sqrt(variance + eps) */
    void (*moments)(const float *x, size_t count, float eps, float *mean, float *inverse);

    /* out = (x - mean) * inverse */
    void (*standardise)(const float *x, size_t count, float mean, float inverse, float *out);

    /* out = (x - mean) * inverse * weight + bias; returns the sum of squares of out */
    float (*normalise)(const float *x, size_t count, float mean, float inverse, const float *weight,
                       const float *bias, float *out);

    /* x = exp(x - shift) */
    void (*exponentials)(float *x, size_t count, float shift);

    /* x = GELU(x + bias), the exact one; bias may be NULL */
    void (*gelu)(float *x, const float *bias, size_t count);

    /* out = sum over j of scale[j] * rows[j] */
    void (*weighted_sum)(const float *const *rows, const float *scale, size_t rows_count,
                         size_t count, float *out);

    /*
     * One row of a 7 x 7 depth-wise correlation: in[dy * in_stride + column + dx] points to an
     * input pixel, weights are [49][channels_stride], out[column * channels_stride].
     */
    void (*depthwise)(const float *const *in, size_t in_stride, const float *weights,
                      const float *bias, size_t channels_stride, size_t columns, float *out);

    /* whether all of x are finite */
    bool (*finite)(const float *x, size_t count);
};

/* The variant of that name, or the best for NULL; NULL if this processor cannot run it. */
const struct ue_kernels *ue_find_kernels(const char *name);

#endif
