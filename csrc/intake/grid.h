/* Where the tiles of a slide lie; lengths in level-0 pixels. A cell is row * cols + col. */
#ifndef UE_GRID_H
#define UE_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ue_grid {
    double step; /* from one tile to the next */
    size_t rows, cols;
    size_t field, field_rows, field_cols; /* tiles of a field's side; fields */
};

/* The tiles of a field: rows and columns [top, bottom) x [left, right), fewer at the edges. */
struct ue_field {
    size_t top, bottom, left, right;
};

/* False where the frame is not possible, or has more than UE_MAX_GRID_TILES tiles. */
bool ue_grid_of(int64_t width, int64_t height, double step, size_t field, struct ue_grid *grid);

void ue_grid_origin(const struct ue_grid *grid, size_t cell, int64_t *x, int64_t *y);
/* False where no tile begins there. */
bool ue_grid_cell(const struct ue_grid *grid, int64_t x, int64_t y, size_t *cell);

size_t ue_grid_field(const struct ue_grid *grid, size_t cell);
struct ue_field ue_grid_tiles(const struct ue_grid *grid, size_t field);

static inline size_t ue_field_size(struct ue_field field) {
    return (field.bottom - field.top) * (field.right - field.left);
}

#endif
