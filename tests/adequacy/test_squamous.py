"""Squamous cells of a whole slide: those of its tiles, and of the tiles that were not encoded."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.coloured_slide import (
    GRID,
    HEIGHT,
    WIDTH,
    always,
    run,
    shuffled,
)
from tests.support.fake_encoder import FakeEncoder
from unicas_edge.adequacy.knowledge import load_knowledge
from unicas_edge.errors import SessionError
from unicas_edge.screening.session import Session
from unicas_edge.tiles.plan import plan


def scores_of(cells):
    """Bytes as of a real slide: empty glass has 100, a sliver at the edge 3, a hole 0."""
    scores = np.full(GRID, 100.0)
    scores[:, -1] = 3.0
    scores[2, 2] = 0.0
    for number, cell in enumerate(cells):
        scores[cell] = 300.0 + 10 * number
    return scores


FULL = [(r, c) for r in range(4, 8) for c in range(11)]


def test_cells_of_tiles_that_were_not_encoded_are_estimated_by_their_scores(made):
    scores = scores_of(FULL)

    def content(cell):
        return "cell" if cell in FULL else "empty"

    bundle = made()
    result = run(bundle, content, given=scores, max_tiles=16)
    planned = result.tiles[["minx", "miny"]].tolist()
    looked_at = np.zeros(GRID, bool)
    for x, y in planned:
        looked_at[y // 256, x // 256] = True
    seen = load_knowledge(bundle).read(result.features).cells.sum()
    above = np.maximum(scores - 100, 0)
    wanted = seen * above.sum() / above[looked_at].sum()
    assert len(planned) == 16
    assert wanted > 2 * seen
    assert result.adequacy.squamous.estimate == round(wanted)
    assert result.adequacy.squamous.method.startswith(
        "counted from the tokens of 16 tiles, and in the 104 others by their content scores; "
    )


@pytest.mark.parametrize("max_tiles", [16, 40])
def test_a_file_that_knows_all_scores_agrees_with_a_scan_bit_for_bit(made, max_tiles):
    scores, bundle = scores_of(FULL), made(min_squamous_cells=100)

    def content(cell):
        return ("cell", "bubble", "cell")[cell[1] % 3] if cell in FULL else "empty"

    scan = run(bundle, content, given=scores, max_tiles=max_tiles, order=shuffled)
    with Session(bundle, width=WIDTH, height=HEIGHT, um_px=0.5, encoder=FakeEncoder()) as session:
        cells = plan(session.grid, scores, max_tiles)
    options = {"pushed": cells, "scores": scores, "expected": cells, "max_tiles": max_tiles}
    shared = {"knowledge": load_knowledge(bundle)}
    file = run(bundle, content, given=scores, order=shuffled, **options, **shared)
    assert file.adequacy == scan.adequacy
    assert file.tasks == scan.tasks
    assert file.tiles.tobytes() == scan.tiles.tobytes()
    assert file.features.tobytes() == scan.features.tobytes()


def test_without_scores_nothing_is_made_up_of_the_rest(made):
    bundle = made(min_squamous_cells=0)
    cells = FULL[:16]
    result = run(bundle, always("cell"), pushed=cells, expected=cells, max_tiles=16)
    squamous = result.adequacy.squamous
    assert squamous.estimate == round(load_knowledge(bundle).read(result.features).cells.sum())
    assert "none in the 104 others, whose content scores are not known" in squamous.method


def test_scores_that_are_all_alike_add_nothing(made):
    scores = np.full(GRID, 7.0)
    bundle = made(min_squamous_cells=0)
    result = run(bundle, always("cell"), given=scores, max_tiles=16)
    seen = load_knowledge(bundle).read(result.features).cells.sum()
    assert result.adequacy.squamous.estimate == round(seen)


@pytest.mark.parametrize(
    "scores",
    [
        np.ones((3, 3)),
        np.ones(GRID, np.int64),
        np.full(GRID, np.nan),
        np.full(GRID, np.inf),
        np.full(GRID, -1.0),
    ],
)
def test_scores_that_are_none_are_refused(made, scores):
    with pytest.raises(SessionError, match="scores must be"):
        Session(made(), width=WIDTH, height=HEIGHT, um_px=0.5, scores=scores, encoder=FakeEncoder())
