"""What tokens show decides whether a slide may have a decision: from the session to the result."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.support.coloured_slide import (
    CONFORMAL,
    GRID,
    HEIGHT,
    WIDTH,
    always,
    decisions,
    run,
    striped,
    tile_of,
)
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.errors import SpacingError
from unicas_edge.result import Adequacy

PIXELS_ONLY = "adequacy was judged by pixels alone: this bundle does not know what its tiles show"

# ---- good slides --------------------------------------------------------------------------------


def test_a_slide_of_cells_has_a_decision_and_says_what_it_rests_on(made):
    result = run(made(cell_error=0.2), always("cell"))
    adequacy = result.adequacy
    assert (adequacy.satisfactory, adequacy.reasons, adequacy.basis) == (True, [], "tokens")
    assert adequacy.kinds == {"cell": 120, "ink": 0, "bubble": 0, "out_of_focus": 0}
    blue = [tile_of("cell", (r, c))[16:240, 16:240, 2].mean() / 255 for r, c in np.ndindex(GRID)]
    assert adequacy.squamous.estimate == pytest.approx(30 * sum(blue), abs=1)
    assert adequacy.squamous.needed == math.ceil(5000 * WIDTH * HEIGHT * 0.25e-6 / 314.2)
    assert adequacy.squamous.method == (
        "counted from the tokens of 120 tiles (error as measured: 20%); "
        "needed: 5,000 on a preparation of 314.2 mm2, 0.597% of which was scanned"
    )
    assert adequacy.known is True
    assert adequacy.distance_limit == 1e9
    assert adequacy.distance > 0
    assert adequacy.um_px_estimate == 0.5
    assert set(result.tiles["kind"]) == {"cell"}
    assert PIXELS_ONLY not in result.warnings


def test_only_aggregated_tiles_reach_the_aggregator(made):
    bundle = made(aggregated=["cell", "ink"])
    result = run(bundle, striped)
    tiles = result.tiles
    assert result.adequacy.satisfactory
    assert set(tiles["kind"]) == {"cell", "ink", "bubble", ""}
    assert (tiles["kind"] == "").sum() == (tiles["status"] == "background").sum() > 0
    encoded = tiles[tiles["token"] >= 0]
    may = np.isin(encoded["kind"], ["cell", "ink"])
    assert len(result.features) == len(encoded)
    wanted = Aggregator.load(bundle).explain(result.features[may])
    places = {(int(x), int(y)) for x, y in encoded[["minx", "miny"]][may].tolist()}
    for number, task in enumerate(result.tasks):
        shares = encoded[f"prob_{task.name}"]
        assert task.logits == wanted.logits[number][:2].astype(float).tolist()
        assert np.array_equal(shares[may], wanted.attention[number])
        assert not shares[~may].any()
        assert {(t.x, t.y) for t in task.top_tiles} <= places
        assert task.decision != "unsatisfactory"


def test_top_tiles_are_no_more_than_there_are_aggregated_tiles(made):
    bundle = made(min_cell_share=0.0, min_squamous_cells=0)
    result = run(bundle, lambda cell: "cell" if cell in ((0, 0), (3, 4)) else "bubble")
    assert result.adequacy.satisfactory
    assert [len(task.top_tiles) for task in result.tasks] == [2, 2, 2]


def test_without_knowledge_pixels_judge_and_the_result_says_so_once(untrained_bundle):
    result = run(untrained_bundle, striped)
    assert result.warnings == [PIXELS_ONLY]
    adequacy = result.adequacy
    assert adequacy == Adequacy(
        satisfactory=True, reasons=[], cellular_tiles=100, in_focus_tiles=100, basis="pixels"
    )
    assert set(result.tiles["kind"]) == {""}
    wanted = Aggregator.load(untrained_bundle).explain(result.features)
    encoded = result.tiles[result.tiles["token"] >= 0]
    for number, task in enumerate(result.tasks):
        assert task.logits == wanted.logits[number][:2].astype(float).tolist()
        assert np.array_equal(encoded[f"prob_{task.name}"], wanted.attention[number])
        assert task.confidence is None


# ---- reasons ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "instead"),
    [("bubble", "show bubbles"), ("ink", "show ink"), ("grey", "are out of focus")],
)
def test_a_slide_of_artefacts_has_no_decision_and_no_probability(made, what, instead):
    result = run(made(tasks={"conformal": CONFORMAL}), always(what))
    assert result.adequacy.reasons[0] == (
        f"0 of 120 tiles show cells (0%), 100% {instead}; needed 30%"
    )
    assert result.adequacy.reasons[1].startswith(
        "about 0 squamous cells, counted from the tokens of 120 tiles; needed 30 (5,000 on a "
    )
    assert decisions(result) == {"unsatisfactory"}
    for task in result.tasks:
        assert (task.probability, task.logits, task.confidence, task.top_tiles) == (
            None,
            None,
            None,
            [],
        )
    assert not any(result.tiles[f"prob_{task.name}"].any() for task in result.tasks)
    assert len(result.features) == 120
    assert result.adequacy.um_px_estimate is None
    assert result.adequacy.known is True  # far or near is another question


def test_limits_of_nothing_still_ask_for_one_tile_of_cells(made):
    result = run(made(min_cell_share=0.0, min_squamous_cells=0), always("bubble"))
    assert result.adequacy.reasons == [
        "0 of 120 tiles show cells (0%), 100% show bubbles; needed one tile"
    ]
    assert decisions(result) == {"unsatisfactory"}


def test_the_share_of_cells_is_judged_and_the_most_frequent_other_kind_is_named(made):
    def content(cell):
        return "cell" if cell == (0, 0) else ("ink", "bubble", "bubble")[cell[1] % 3]

    result = run(made(min_squamous_cells=0), content)
    (reason,) = result.adequacy.reasons
    assert reason == "1 of 120 tiles show cells (0.833%), 66.7% show bubbles; needed 30%"
    assert all(task.probability is not None for task in result.tasks)
    assert decisions(result) == {"unsatisfactory"}


def test_too_few_squamous_cells_are_counted_and_told(made):
    result = run(made(weights={"cells": 0.2}), always("cell"))
    (reason,) = result.adequacy.reasons
    count = result.adequacy.squamous.estimate
    assert 10 < count < 30
    assert reason == (
        f"about {count} squamous cells, counted from the tokens of 120 tiles; needed 30 (5,000 on "
        "a preparation of 314.2 mm2, 0.597% of which was scanned)"
    )
    assert decisions(result) == {"unsatisfactory"}


def test_a_whole_preparation_needs_all_and_no_more(made):
    bundle = made(preparation_mm2=1.0)
    result = run(bundle, always("cell"))
    assert result.adequacy.squamous.needed == 5000
    assert result.adequacy.reasons[0].endswith("needed 5,000 (5,000 on a preparation of 1 mm2)")


def test_cells_count_on_aggregated_tiles_alone(made):
    """Ink is blue enough here to read as cells, and is none."""
    result = run(made(min_cell_share=0.0), lambda c: "cell" if c[1] == 0 else "ink")
    blue = [tile_of("cell", (r, 0))[16:240, 16:240, 2].mean() / 255 for r in range(10)]
    assert result.adequacy.squamous.estimate == pytest.approx(30 * sum(blue), abs=1)


def test_tiles_unlike_those_it_was_made_of_are_outside_what_it_knows(made):
    near = run(made(), always("cell")).adequacy.distance
    result = run(made(distance_limit=near / 1.004), always("cell"))
    (reason,) = result.adequacy.reasons
    assert reason.startswith("outside what this bundle knows: its tiles lie ")
    far, most = reason.split(" lie ")[1].split(" from what it was trained on, at most ")
    assert float(far) > float(most.removesuffix(" is allowed"))  # told apart as written, too
    assert result.adequacy.known is False
    assert decisions(result) == {"unsatisfactory"}
    assert all(task.probability is not None for task in result.tasks)


def test_reasons_of_pixels_come_first_and_all_are_told(made):
    bundle = made(weights={"cells": 0.0}, distance_limit=1e-6)
    result = run(bundle, lambda c: "cell" if c == (0, 0) else "bubble", pushed=[(0, 0), (0, 1)])
    told = [reason.split(";")[0] for reason in result.adequacy.reasons]
    assert "could be read" in told[0]
    assert "squamous cells" in told[-2]
    assert "outside what this bundle knows" in told[-1]


# ---- um/px --------------------------------------------------------------------------------------


@pytest.mark.parametrize("um_px", [0.5, 0.25])
@pytest.mark.parametrize("octaves", [0.25, -0.25])
def test_a_spacing_that_the_pixels_contradict_is_an_error_with_both_values(made, octaves, um_px):
    options = {"um_px": um_px, "width": 4000, "height": 3600}
    bundle = made(weights={"octaves": octaves}, min_squamous_cells=0)
    with pytest.raises(SpacingError) as error:
        run(bundle, always("cell"), **options)
    stated, shown = f"{um_px:.2g}", f"{um_px * 2**octaves:.2g}"
    assert error.value.cause == (
        f"states {stated} um/px (session), but its pixels show {shown}; correct the scanner's "
        "setting, or give the right value with --mpp"
    )
    assert str(error.value).startswith("session: ")


@pytest.mark.parametrize("octaves", [0.19, -0.19])
def test_a_spacing_within_the_tolerance_is_taken(made, octaves):
    result = run(made(weights={"octaves": octaves}), always("cell"))
    assert result.adequacy.satisfactory
    assert result.adequacy.um_px_estimate == pytest.approx(0.5 * 2**octaves)


def test_a_slide_refused_for_another_reason_is_not_judged_by_its_spacing(made):
    result = run(made(weights={"octaves": 1.0, "cells": 0.0}), always("cell"))
    assert decisions(result) == {"unsatisfactory"}
    assert result.adequacy.um_px_estimate == pytest.approx(1.0)


def test_a_bundle_that_cannot_tell_a_spacing_refuses_none(made):
    result = run(made(weights={"octaves": 1.0}, um_px_tolerance=None), always("cell"))
    assert result.adequacy.satisfactory
    assert result.adequacy.um_px_estimate == pytest.approx(1.0)
