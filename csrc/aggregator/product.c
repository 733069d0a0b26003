/* Matrix products out of tiles: c (+)= a b, with b in panels of UE_PANEL columns. */
#include <string.h>

#include "state.h"

/* Depth of a panel's part that stays in the first-level cache beside the rows it meets. */
enum { DEPTH = 192 };

static void rows_times_panel(const struct ue_tile *tile, size_t rows, size_t depth, const float *a,
                             size_t lda, const float *b, float *c, size_t ldc, bool accumulate) {
    const size_t tiles = ue_divide_up(rows, tile->rows);
    float *to[UE_MAX_ROWS];
    for (size_t number = 0, row = 0; number < tiles; number++) {
        const size_t end = rows * (number + 1) / tiles; /* tiles of nearly equal height */
        for (size_t i = row; i < end; i++)
            to[i - row] = c + i * ldc;
        tile->multiply(end - row, depth, a + row * lda, lda, b, tile->columns, to, accumulate);
        row = end;
    }
}

/* The last panel is narrow where that is enough. */
static const struct ue_tile *tile_for(const struct ue_kernels *kernels, size_t columns) {
    return columns <= kernels->narrow.columns ? &kernels->narrow : &kernels->tile;
}

void ue_product(const struct ue_kernels *kernels, size_t rows, size_t columns, size_t depth,
                const float *a, size_t lda, const float *b, float *c, size_t ldc, bool accumulate) {
    for (size_t k = 0; k < depth; k += DEPTH)
        for (size_t column = 0; column < columns; column += UE_PANEL) {
            const struct ue_tile *tile = tile_for(kernels, columns - column);
            const float *panel = b + column * depth + k * tile->columns;
            rows_times_panel(tile, rows, ue_least(DEPTH, depth - k), a + k, lda, panel, c + column,
                             ldc, accumulate || k);
        }
}

float *ue_panel_column(const struct ue_kernels *kernels, float *panels, size_t columns,
                       size_t depth, size_t column, size_t *stride) {
    const size_t first = column / UE_PANEL * UE_PANEL;
    *stride = tile_for(kernels, columns - first)->columns;
    return panels + first * depth + (column - first);
}

/* Panels of the transpose of `rows` rows; four rows at a time, so that whole vectors are written.
 */
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
