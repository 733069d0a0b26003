"""Bags that are put together anew: what they hold, and that no background tells a label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unicas_edge.errors import TrainingError
from unicas_edge.train.aggregator.bags import MISSING
from unicas_edge.train.aggregator.remix import KnownSlide, Shares, known, remixed

TASKS = ("cancer", "candidiasis")
WIDTH = 4


def slide(name="a", background=40, each=6):
    """A slide whose token says what a tile is: [number, task, decides, slide]."""
    task = np.repeat([-1, 0, 0, 1, 1], [background, each, each, each, each])
    decides = np.repeat([False, True, False, True, False], [background, each, each, each, each])
    number = np.arange(len(task))
    tokens = np.stack([number, task, decides, np.full(len(task), ord(name[0]))], axis=1)
    return KnownSlide(
        name, name, tokens.astype(np.float32), task, decides, np.zeros(len(task), np.float64)
    )


def test_a_bag_has_deciding_tiles_for_its_positive_tasks_alone():
    made = remixed([slide("a"), slide("b")], TASKS, 64, seed=3)
    assert len(made) == 64
    for bag in made.bags:
        task, decides = bag.tokens[:, 1], bag.tokens[:, 2]
        for k, label in enumerate(bag.labels):
            assert bool(((task == k) & (decides == 1)).any()) == bool(label)
            assert label or ((task == k) & (decides == 0)).any()  # a decoy in its place
        assert len(np.unique(bag.tokens[:, 0])) == len(bag.tokens)
        assert (task < 0).sum() >= 20
        assert len(set(bag.tokens[:, 3])) == 1
        assert bag.group == chr(int(bag.tokens[0, 3]))


def test_every_slide_comes_with_every_combination_of_labels_equally_often():
    made = remixed([slide("a"), slide("b"), slide("c")], TASKS, 48, seed=0)
    seen = {}
    for bag in made.bags:
        seen.setdefault((bag.group, bag.labels), []).append(bag)
    assert {len(some) for some in seen.values()} == {4}
    assert len(seen) == 12


def test_a_seed_gives_the_same_bags_and_another_one_others():
    one, same, other = (remixed([slide()], TASKS, 8, seed=s) for s in (1, 1, 2))
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(one.bags, same.bags, strict=True))
    assert not all(
        np.array_equal(a.tokens, b.tokens) for a, b in zip(one.bags, other.bags, strict=True)
    )


def test_shares_are_of_the_background():
    rng = np.random.default_rng(0)
    shares = Shares(background=(1.0, 1.0), decisive=(0.1, 0.1), decoys=(0.0, 0.0))
    tokens = slide().bag((True, False), shares, rng)
    assert [(tokens[:, 1] == task).sum() for task in (-1, 0, 1)] == [40, 4, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decides": np.zeros(64, bool)}, "no tile that decides task 0, or no decoy"),
        ({"decides": np.ones(64, bool)}, "no tile that decides task 0, or no decoy"),
        ({"task": np.repeat([0, 0, 1, 1], 16)}, "no background"),
    ],
)
def test_a_slide_that_cannot_give_every_label_is_refused(change, said):
    whole = slide()
    if "task" in change:
        change = change | {"decides": np.tile([True, False], 32)}
    with pytest.raises(TrainingError, match=said):
        remixed([replace(whole, **change)], TASKS, 8, seed=0)


def test_tiles_of_known_truth_have_their_labels_and_each_kind_equal_chances():
    found = known([slide("a"), slide("b", background=80)], len(TASKS))
    task, decides = found.tokens[:, 1], found.tokens[:, 2]
    for k in range(len(TASKS)):
        assert np.array_equal(found.labels[:, k] == 1, (task == k) & (decides == 1))
    assert found.chances.sum() == pytest.approx(1)
    kinds = 2 * task + decides
    assert {round(found.chances[kinds == kind].sum(), 9) for kind in np.unique(kinds)} == {0.2}


def test_what_a_background_may_show_by_itself_is_not_known():
    whole = replace(slide("a"), unknown=(1,))
    made = remixed([whole, slide("b")], TASKS, 32, seed=0)
    for bag in made.bags:
        assert (bag.labels[1] == MISSING) == (bag.group == "a")
    found = known([whole], len(TASKS))
    task, decides = found.tokens[:, 1], found.tokens[:, 2]
    told = (task == 1) & (decides == 1)
    assert np.array_equal(found.labels[:, 1], np.where(told, 1, np.nan), equal_nan=True)
    assert not np.isnan(found.labels[:, 0]).any()
