"""A session with knowledge: hardly any tile, many orders, parts of other bundles."""

from __future__ import annotations

import pytest

from tests.support.coloured_slide import (
    HEIGHT,
    WIDTH,
    always,
    decisions,
    run,
    shuffled,
    striped,
)
from tests.support.fake_encoder import FakeEncoder
from unicas_edge.adequacy.knowledge import load_knowledge
from unicas_edge.errors import BundleError
from unicas_edge.screening.session import Session


@pytest.mark.parametrize(("what", "satisfactory"), [("cell", True), ("bubble", False)])
def test_one_tile_only(made, what, satisfactory):
    result = run(made(), always(what), width=200, height=150)
    adequacy = result.adequacy
    assert sum(adequacy.kinds.values()) == 1
    told = [reason for reason in adequacy.reasons if "tiles with cells; needed" not in reason]
    assert (told == []) is satisfactory
    assert all((task.probability is None) is not satisfactory for task in result.tasks)


@pytest.mark.parametrize("content", ["empty", None])
def test_nothing_at_all(made, content):
    bundle = made()
    if content is None:
        session = Session(
            bundle, width=WIDTH, height=HEIGHT, um_px=0.5, encoder=FakeEncoder(), max_tiles="all"
        )
        with session:
            result = session.finish()
    else:
        result = run(bundle, always(content))
    adequacy = result.adequacy
    assert adequacy.basis == "tokens"
    assert (adequacy.distance, adequacy.known, adequacy.um_px_estimate) == (None, None, None)
    assert "no tile holds anything that could be a cell" in adequacy.reasons
    assert decisions(result) == {"unsatisfactory"}


@pytest.mark.parametrize("max_tiles", ["all", 40, 1])
def test_the_order_of_tiles_changes_nothing(made, max_tiles):
    bundle = made(aggregated=["cell", "bubble"])
    first = run(bundle, striped, max_tiles=max_tiles)
    second = run(bundle, striped, max_tiles=max_tiles, order=shuffled)
    assert first.adequacy == second.adequacy
    assert first.tasks == second.tasks
    assert first.tiles.tobytes() == second.tiles.tobytes()


def test_knowledge_of_another_bundle_is_refused(made):
    with pytest.raises(BundleError, match="open the knowledge again"):
        Session(
            made(),
            width=WIDTH,
            height=HEIGHT,
            um_px=0.5,
            encoder=FakeEncoder(),
            knowledge=load_knowledge(made(weights={"cells": 3.0})),
        )
