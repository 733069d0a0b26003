"""The grid, and the canonical order of tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicas_edge.errors import SessionError
from unicas_edge.tiles.grid import Grid
from unicas_edge.tiles.plan import field_scores, plan

grids = st.builds(
    Grid,
    width=st.integers(1, 9_000),
    height=st.integers(1, 9_000),
    downsample=st.sampled_from([0.5, 1.0, 1.37, 2.0]),
)


@given(grids)
def test_every_pixel_lies_in_a_tile_and_origins_are_found_again(grid: Grid):
    assert grid.cols * grid.step >= grid.width - 1e-6
    assert (grid.cols - 1) * grid.step < grid.width
    cells = [(r, c) for r in range(grid.rows) for c in range(grid.cols)]
    assert [grid.cell_at(*grid.origin(cell)) for cell in cells] == cells
    by_field = [c for f in range(grid.field_rows * grid.field_cols) for c in grid.field_cells(f)]
    assert sorted(by_field) == cells
    assert all(grid.field_of(cell) < grid.field_rows * grid.field_cols for cell in cells)


def test_a_place_off_the_grid_is_refused():
    grid = Grid(1000, 1000, 1.0)
    for place in [(1, 0), (0, 255), (-256, 0), (1024, 0), (256, 2**40)]:
        with pytest.raises(SessionError, match="no tile begins"):
            grid.cell_at(*place)


def test_fields_are_ranked_by_bytes_then_row_major_inside():
    grid = Grid(2048, 1024, 1.0)
    scores = np.ones((4, 8))
    scores[2, 5] = 9.0
    cells = plan(grid, scores, 17)
    assert cells[:5] == [(0, 4), (0, 5), (0, 6), (0, 7), (1, 4)]
    assert cells[16] == (0, 0)


@given(grids, st.integers(0, 99))
def test_a_field_scores_the_sum_of_its_tiles(grid: Grid, seed: int):
    scores = np.random.default_rng(seed).random((grid.rows, grid.cols))
    for number, total in enumerate(field_scores(grid, scores)):
        expected = 0.0
        for cell in grid.field_cells(number):
            expected += scores[cell]
        assert total == expected, "a session adds in this order, to these bits"
