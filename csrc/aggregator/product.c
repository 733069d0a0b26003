/* Matrix products out of tiles: c (+)= a b, with b in panels of UE_PANEL columns. */
#include <string.h>

#include "state.h"

/* Depth of a panel's part that stays in the first-level cache beside the rows it meets. */
enum { DEPTH = 256 };

static void rows_times_panel(const struct ue_kernels *kernels, size_t rows, size_t depth,
                             const float *a, size_t lda, const float *b, float *c, size_t ldc,
                             bool accumulate) {
    const size_t tiles = ue_divide_up(rows, kernels->rows);
    float *to[UE_MAX_ROWS];
    for (size_t tile = 0, row = 0; tile < tiles; tile++) {
        const size_t end = rows * (tile + 1) / tiles; /* tiles of nearly equal height */
        for (size_t i = row; i < end; i++)
            to[i - row] = c + i * ldc;
        kernels->tile(end - row, depth, a + row * lda, lda, b, UE_PANEL, to, accumulate);
        row = end;
    }
}

void ue_product(const struct ue_kernels *kernels, size_t rows, size_t panels, size_t depth,
                const float *a, size_t lda, const float *b, float *c, size_t ldc, bool accumulate) {
    for (size_t k = 0; k < depth; k += DEPTH)
        for (size_t panel = 0; panel < panels; panel++)
            rows_times_panel(kernels, rows, ue_least(DEPTH, depth - k), a + k, lda,
                             b + (panel * depth + k) * UE_PANEL, c + panel * UE_PANEL, ldc,
                             accumulate || k);
}

void ue_pack_rows(const float *matrix, size_t stride, size_t rows, size_t depth, float *panels) {
    for (size_t first = 0; first < rows; first += UE_PANEL, panels += UE_PANEL * depth) {
        const size_t here = ue_least(UE_PANEL, rows - first);
        const float *from = matrix + first * stride;
        if (here < UE_PANEL)
            memset(panels, 0, UE_PANEL * depth * sizeof *panels);
        for (size_t k = 0; k < depth; k++)
            for (size_t i = 0; i < here; i++)
                panels[k * UE_PANEL + i] = from[i * stride + k];
    }
}
