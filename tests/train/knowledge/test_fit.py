"""Knowledge that is fitted reads what was planted in tokens that it has not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unicas_edge import _native
from unicas_edge.adequacy.reading import Reading
from unicas_edge.errors import TrainingError
from unicas_edge.train.knowledge.bundle import knowledge_spec, read_tokens
from unicas_edge.train.knowledge.fit import Lessons, count_error, fit_knowledge

KINDS = ("cell", "ink", "bubble")
WIDTH = 24


def tiles(rng, kind, cells=None, octaves=None):
    """Tokens with a kind along axes 0 to 2, a count along axis 5, and octaves along axis 9."""
    found = rng.normal(size=(len(kind), WIDTH)).astype(np.float32)
    found[np.arange(len(kind)), kind] += 4
    found[:, 5] += 0 if cells is None else cells
    found[:, 9] += 0 if octaves is None else 5 * octaves
    return found


def lessons(seed=0, each=60):
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(len(KINDS)), each)
    tokens = tiles(rng, kind)
    cells, octaves = rng.integers(0, 12, 2000).astype(np.float64), rng.uniform(-0.6, 0.6, 2000)
    none = np.zeros(2000, np.int64)
    return Lessons(
        tokens,
        kind,
        tokens[kind == 0],
        tiles(rng, none, cells=cells),
        cells,
        tuple(f"field {k // 20}" for k in range(2000)),
        tiles(rng, none, octaves=octaves),
        octaves,
    )


@pytest.fixture(scope="module")
def tensors():
    return fit_knowledge(lessons(), KINDS)


def test_kinds_cells_scale_and_distance_of_unseen_tokens(tensors):
    rng = np.random.default_rng(9)
    kind = np.repeat(np.arange(3), 100)
    read = read_tokens(tensors, KINDS, ("cell",), tiles(rng, kind))
    assert (read.kind == kind).mean() > 0.95
    cells = np.repeat([2.0, 8.0], 100)
    none = np.zeros(200, np.int64)
    counted = read_tokens(tensors, KINDS, KINDS, tiles(rng, none, cells=cells)).cells
    assert counted[cells == 8].mean() - counted[cells == 2].mean() == pytest.approx(6, abs=2)
    for octave in (-0.5, 0.5):
        shown = tiles(rng, none, octaves=np.full(200, octave))
        read = read_tokens(tensors, KINDS, ("cell",), shown)
        assert np.median(read.octaves) == pytest.approx(octave, abs=0.15)
    near = read_tokens(tensors, KINDS, ("cell",), tiles(rng, none)).slide_distance
    far = read_tokens(tensors, KINDS, ("cell",), tiles(rng, none) + 3).slide_distance
    assert near == pytest.approx(1, abs=0.2)
    assert far > 2 * near


def test_it_is_float32_and_the_same_each_time(tensors):
    again = fit_knowledge(lessons(), KINDS)
    assert set(tensors) == set(again)
    for key, value in tensors.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, again[key])


def test_a_count_is_judged_on_pictures_that_it_has_not_seen():
    honest = lessons()
    assert count_error(honest) < 0.3
    rng = np.random.default_rng(1)
    shuffled = replace(honest, cells=rng.permutation(honest.cells))
    assert count_error(shuffled) > count_error(honest)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: {"kind": np.where(one.kind == 1, 0, one.kind)}, r"fewer than 8 tiles of ink"),
        (lambda one: {"known": one.known[:3]}, "too few tiles"),
        (lambda one: {"scaled": one.scaled * np.nan}, "not finite"),
    ],
)
def test_lessons_that_teach_nothing_are_refused(change, said):
    one = lessons()
    with pytest.raises(TrainingError, match=said):
        fit_knowledge(replace(one, **change(one)), KINDS)


def test_limits_lie_beyond_the_worst_good_slide(tensors):
    rng = np.random.default_rng(4)
    good = [
        read_tokens(tensors, KINDS, ("cell",), tiles(rng, np.repeat([0, 1], [90, 10])) + far)
        for far in (0.0, 0.5)
    ]
    spec = knowledge_spec("0" * 64, KINDS, ("cell",), good, 0.25)
    assert spec.distance_limit > max(read.slide_distance for read in good)
    assert spec.min_cell_share < min(read.counts["cell"] / 100 for read in good)
    assert spec.cell_error == 0.25
    free = knowledge_spec("0" * 64, KINDS, ("cell",))
    assert (free.min_cell_share, free.distance_limit) == (0.0, 1e9)


def reading_of(octave) -> Reading:
    """What a slide of one cell tile reads as that is so many octaves off in um/px."""
    flat = np.zeros(1)
    native = _native.Knowledge(
        np.ones(1, np.uint8), flat[None], flat, flat, np.eye(1), flat, flat, flat, flat + octave
    )
    return Reading.of(("cell",), native.read(np.ones((1, 1), np.float32)))


@pytest.mark.parametrize(
    ("octaves", "tolerance"),
    [((), 0.15), ((0.02, -0.1), 0.15), ((0.0, -0.4), 0.351), ((-1.1,), None)],
)
def test_a_spacing_is_refused_beyond_what_good_slides_are_read_as(octaves, tolerance):
    good = [reading_of(octave) for octave in octaves]
    assert knowledge_spec("0" * 64, KINDS, ("cell",), good).um_px_tolerance == tolerance
