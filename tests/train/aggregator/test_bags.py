"""Bags with labels: read, masked, balanced, dealt into folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from tests.support.labelled_bags import TASKS, WIDTH, bag_set, write_bags  # noqa: E402
from unicas_edge.errors import TrainingError  # noqa: E402
from unicas_edge.train.aggregator.bags import MISSING, Balanced, read_table, split_bags  # noqa: E402


def test_the_published_table_masks_all_tasks_but_its_own(data_dir):
    folder = data_dir / "unicas_features"
    place = folder / "Pathology_UniCAS_patch"
    classes = dict.fromkeys(TASKS, 2)
    with pytest.raises(TrainingError, match=r"line .*no bag"):
        read_table(folder / "csvs" / "test.csv", place, 1024, classes)
    bags = read_table(folder / "csvs" / "test.csv", place, 1024, classes, missing=True)
    assert (len(bags), len(bags.left_out)) == (4, 2)
    assert ((bags.labels != MISSING).sum(axis=1) == 1).all()
    assert bags.tokens(0).shape == (800, 1024)
    by_name = dict(zip([b.name for b in bags.bags], bags.labels.tolist(), strict=True))
    assert by_name["20230930/C23093000068C10101_122135_20"] == [MISSING, 0, MISSING]
    assert by_name["20230630/C23063000579C10101_173900_20"] == [1, MISSING, MISSING]
    assert sum(len(b.tokens) for b in bags.loaded().bags) == 3200


def test_a_table_of_our_own_bags_reads_back(tmp_path):
    bags = bag_set(4, masked=True)
    table = write_bags(tmp_path, bags)
    found = read_table(table, tmp_path, WIDTH, dict.fromkeys(TASKS, 2))
    assert (found.labels == bags.labels).all()
    assert [b.group for b in found.bags] == [b.group for b in bags.bags]
    assert all(np.array_equal(found.tokens(i), bags.tokens(i)) for i in range(4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,cancer\n", "lists no bag"),
        ("name,grade\nb0-0,1\n", "no column cancer"),
        ("name,cancer\nb0-0,2\n", "cancer is 2; labels are 0 to 1"),
        ("name,cancer\nb0-0,-2\n", "cancer is -2"),
        ("name,cancer\nb0-0,yes\n", "line 2: cancer: 'yes' is not a whole number"),
        ("name,cancer,task_id\nb0-0,1,1\n", "task_id is 1"),
        ("name,cancer\n../b0-0,1\n", "not a name inside"),
        ("name,cancer\nnowhere,1\n", "line 2: no bag nowhere"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(tmp_path, text, message):
    write_bags(tmp_path, bag_set(1))
    table = tmp_path / "wrong.csv"
    table.write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_table(table, tmp_path, WIDTH, {"cancer": 2})


def test_unreadable_bags_are_named_and_too_many_are_an_error(tmp_path):
    table = write_bags(tmp_path, bag_set(4))
    (tmp_path / "b0-2" / "features.h5").write_bytes(b"no HDF5")
    found = read_table(table, tmp_path, WIDTH, dict.fromkeys(TASKS, 2))
    kept = found.loaded(0.3)
    assert [b.name for b in kept.bags] == ["b0-0", "b0-1", "b0-3"]
    assert len(kept.left_out) == 1
    assert "b0-2" in kept.left_out[0]
    with pytest.raises(TrainingError, match="1 of 4 bags cannot be read"):
        found.loaded()


def test_bags_that_do_not_fit_are_refused():
    bags = bag_set(4)
    with pytest.raises(TrainingError, match="0 bags"):
        bags.chosen([])
    with pytest.raises(TrainingError, match=r"not float32 \[n, 9\]"):
        replace(bags, width=9)
    spoilt = bags.bags[0].tokens.copy()
    spoilt[0, 0] = np.nan
    with pytest.raises(TrainingError, match="finite"):
        replace(bags, bags=(replace(bags.bags[0], tokens=spoilt),))
    with pytest.raises(TrainingError, match="cancer has labels of 1 classes"):
        bags.chosen(np.flatnonzero(bags.labels[:, 0] == 1)).check_classes("training")
    with pytest.raises(TrainingError, match="no task 'grade'"):
        bags.only("grade")


def test_every_task_and_class_comes_equally_often_whatever_their_numbers():
    labels = np.full((40, 2), MISSING)
    labels[:30, 0], labels[30:33, 0] = 0, 1
    labels[33:40, 1] = [0, 0, 0, 0, 0, 1, 1]
    order = Balanced(labels, 0).at(range(400))
    for task in (0, 1):
        for label in (0, 1):
            of = [i for i in order if labels[i, task] == label]
            assert len(of) == 100
            per_bag = [of.count(i) for i in set(of)]
            assert max(per_bag) - min(per_bag) <= 1
    assert Balanced(labels, 0).at(range(100, 110)) == order[100:110]
    assert Balanced(labels, 1).at(range(400)) != order


def test_groups_stay_together_and_every_bag_is_in_one_fold():
    bags = bag_set(40)
    folds = split_bags(bags, 4, 0)
    assert sorted(np.concatenate(folds).tolist()) == list(range(40))
    groups = [{bags.bags[i].group for i in fold} for fold in folds]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 20
    with pytest.raises(TrainingError, match="too few for 2 folds"):
        split_bags(bags.chosen([0, 1]), 2)
