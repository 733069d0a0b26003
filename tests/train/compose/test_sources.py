"""Backgrounds: which tiles are none, whole slides left out, and slides of mixed sources."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.support.compose_case import make_data
from unicas_edge.errors import TrainingError
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import load_sources, slide_of

MIXED = Recipe(rows=8, columns=8, background="mixed")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six LBC slides, as the real data has."""
    root = make_data(tmp_path_factory.mktemp("data"))
    for name in "cdef":
        shutil.copytree(root / "lbc_tiles" / "a", root / "lbc_tiles" / name)
    return root


@pytest.fixture(scope="module")
def sources(data):
    return load_sources(data)


def test_six_slides_in_three_folds_are_two_slides_a_fold(sources):
    parts = {part: sources.split(part, 1, by="slide", count=3) for part in ("train", "val", "test")}
    slides = [set(parts[part].slides) for part in parts]
    assert [len(names) for names in slides] == [2, 2, 2]
    assert set.union(*slides) == set("abcdef")
    fields = [{p.group for p in (*s.cric, *s.cells, *s.crops)} for s in parts.values()]
    assert not fields[0] & fields[1] | fields[0] & fields[2] | fields[1] & fields[2]
    tests = [set(sources.split("test", k, by="slide", count=6).slides) for k in range(6)]
    assert sorted(name for names in tests for name in names) == list("abcdef")
    for seed in range(3):
        dealt = sources.folds(seed, by="slide", count=3)
        of = {
            name: {dealt[p.group] for p in sources.lbc if slide_of(p) == name} for name in "abcdef"
        }
        assert all(len(found) == 1 for found in of.values())


def test_by_field_is_as_it_was(sources):
    assert sources.folds(3) == sources.folds(3, by="field", count=5)
    a = {sources.folds(0)[p.group] for p in sources.lbc if slide_of(p) == "a"}
    assert len(a) > 1  # a slide lies in several folds


def test_slides_are_left_out_by_name(sources):
    left = sources.without_slides("b", "e")
    assert left.slides == ("a", "c", "d", "f")
    assert left.cric == sources.cric
    with pytest.raises(TrainingError, match="no background slide z; there are: a, b"):
        sources.without_slides("z")
    with pytest.raises(TrainingError, match="all background slides"):
        sources.without_slides(*"abcdef")


def test_one_background_slide_only_is_an_error_that_says_so(sources):
    one = sources.without_slides(*"bcdef")
    for wrong in (
        lambda: one.folds(by="slide"),
        lambda: one.split("test", by="slide", count=2),
        lambda: one.without_slides("a"),
    ):
        with pytest.raises(TrainingError, match="one background slide only"):
            wrong()
    with pytest.raises(TrainingError, match="2 background slides for 3 folds; give at most 2"):
        sources.without_slides(*"cdef").folds(by="slide", count=3)
    for count in (0, 1, 1000):
        with pytest.raises(TrainingError, match="folds"):
            sources.folds(count=count)
    with pytest.raises(TrainingError, match="train part of 2 folds"):
        sources.split("train", by="slide", count=2)


def scored(data, tmp_path, text):
    root = tmp_path / "data"
    shutil.copytree(data, root)
    (root / "lbc_tiles" / "tile_scores.csv").write_text(text)
    return root


def test_likely_abnormal_tiles_are_no_backgrounds(data, sources, tmp_path):
    names = sorted(p.file.name for p in sources.lbc if slide_of(p) == "a")
    lines = ["slide,tile,source_p", f"a,{names[0]},0.9", f"a,{names[1]},0.5", f"a,{names[2]},0.51"]
    root = scored(data, tmp_path, "\n".join([*lines, "zz,none.jpg,1.0", ""]))
    found = load_sources(root)
    gone = {(slide_of(p), p.file.name) for p in sources.lbc} - {
        (slide_of(p), p.file.name) for p in found.lbc
    }
    assert gone == {("a", names[0]), ("a", names[2])}
    assert found.abnormal == 2
    assert load_sources(root, most_abnormal=1).abnormal == 0
    assert sources.abnormal == 0  # no table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,tile\na,b\n", "no column source_p"),
        ("", "no column"),
        ("slide,tile,source_p\na,b,high\n", "line 2: source_p is 'high'"),
        ("slide,tile,source_p\na,b,nan\n", "it must be 0 to 1"),
        ("slide,tile,source_p\na,b,1.5\n", "it must be 0 to 1"),
        ("slide,tile,source_p\na,b\n", "source_p is None"),
    ],
)
def test_a_table_of_scores_that_says_nothing_is_refused(data, tmp_path, text, message):
    with pytest.raises(TrainingError, match=message):
        load_sources(scored(data, tmp_path, text))


def test_every_tile_abnormal_or_no_limit_is_refused(data, sources, tmp_path):
    rows = [f"{slide_of(p)},{p.file.name},1.0" for p in sources.lbc]
    root = scored(data, tmp_path, "\n".join(["slide,tile,source_p", *rows]))
    with pytest.raises(TrainingError, match=r"all 120 tiles are more likely abnormal than 0\.5"):
        load_sources(root)
    with pytest.raises(TrainingError, match="limit is 2"):
        load_sources(root, most_abnormal=2)


def test_a_mixed_background_has_tiles_of_both_sources(sources):
    composer = Composer(sources)
    shares, slides = [], []
    for seed in range(12):
        slide = composer.plan(seed, recipe=MIXED)
        assert slide.background == "mixed"
        origins = [piece.origin for piece, _ in slide._tiles]
        assert len(origins) == 64
        shares.append(origins.count("lbc") / 64)
        slides.append(len({slide_of(p) for p, _ in slide._tiles if p.origin == "lbc"}))
        assert slide.tile(0, 0).shape == (256, 256, 3)
    assert 0.05 < min(shares) < 0.4 < max(shares) < 0.95
    assert min(slides) < 3 < max(slides)
    first, again = (composer.plan(3, recipe=MIXED) for _ in range(2))
    assert first.truth() == again.truth()
    assert np.array_equal(first.tile(2, 2), again.tile(2, 2))


def test_what_decides_is_on_a_mixed_slide_exactly_where_the_label_says(sources):
    composer = Composer(sources)
    for seed in range(6):
        slide = composer.plan(seed, recipe=replace(MIXED, positive=(0.03, 0.1)))
        counts = slide.truth()["decisive_tiles"]
        assert {task: counts[task] > 0 for task in TASKS} == slide.labels
    native = [i.native for s in range(6) for i in composer.plan(s, recipe=MIXED).insertions]
    assert any(native)
    assert not all(native)


def test_a_mixed_background_needs_both_sources(sources):
    composer = Composer(replace(sources))
    composer.pools.windows = {}
    with pytest.raises(TrainingError, match="both lbc_tiles and fields of cric"):
        composer.plan(0, recipe=MIXED)
