/* The grid of tiles and fields; unicas_edge/tiles/grid.py is the same, and tests compare them. */
#include "grid.h"

#include <math.h>

#include "intake.h"

static size_t count(int64_t length, double step) {
    const double tiles = ceil((double)length / step - 1e-9);
    return tiles < 1 ? 1 : tiles > UE_MAX_GRID_TILES ? UE_MAX_GRID_TILES + 1 : (size_t)tiles;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

bool ue_grid_of(int64_t width, int64_t height, double step, size_t field, struct ue_grid *grid) {
    if (width < 1 || height < 1 || !isfinite(step) || step <= 0 || !field)
        return false;
    const size_t rows = count(height, step), cols = count(width, step);
    if (rows > UE_MAX_GRID_TILES || cols > UE_MAX_GRID_TILES / rows || field > UE_MAX_GRID_TILES)
        return false;
    const struct ue_grid found = {
        step, rows, cols, field, (rows + field - 1) / field, (cols + field - 1) / field,
    };
    *grid = found;
    return true;
}

/* rint: ties to even, as Python's round. */
void ue_grid_origin(const struct ue_grid *grid, size_t cell, int64_t *x, int64_t *y) {
    *x = (int64_t)rint((double)(cell % grid->cols) * grid->step);
    *y = (int64_t)rint((double)(cell / grid->cols) * grid->step);
}

bool ue_grid_cell(const struct ue_grid *grid, int64_t x, int64_t y, size_t *cell) {
    const double row = rint((double)y / grid->step), col = rint((double)x / grid->step);
    if (!(row >= 0 && row < (double)grid->rows && col >= 0 && col < (double)grid->cols))
        return false;
    *cell = (size_t)row * grid->cols + (size_t)col;
    int64_t left, top;
    ue_grid_origin(grid, *cell, &left, &top);
    return left == x && top == y;
}

size_t ue_grid_field(const struct ue_grid *grid, size_t cell) {
    const size_t row = cell / grid->cols, col = cell % grid->cols;
    return row / grid->field * grid->field_cols + col / grid->field;
}

struct ue_field ue_grid_tiles(const struct ue_grid *grid, size_t field) {
    const size_t top = field / grid->field_cols * grid->field;
    const size_t left = field % grid->field_cols * grid->field;
    const struct ue_field tiles = {
        top,
        least(top + grid->field, grid->rows),
        left,
        least(left + grid->field, grid->cols),
    };
    return tiles;
}
