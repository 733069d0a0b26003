"""Labelled region data sets: layouts, groups, crops, splits, and everything wrong with them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.region_case import cell, write_image
from unicas_edge.errors import RegionError, TrainingError

pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("sklearn", reason="the extra `train` (scikit-learn) is not installed")

from unicas_edge.train.cells import dataset as rd
from unicas_edge.train.cells.splits import few_shots, grouped_folds


@pytest.fixture
def small(rng):
    return cell(rng, (12, 16))


def make(root, pixels, *names):
    for name in names:
        write_image(root / name, pixels)
    return root


# ---- layouts ------------------------------------------------------------------------------------


def test_a_folder_a_class_with_images_or_folders_of_one_field(tmp_path, small):
    root = make(tmp_path, small, "b/1.png", "a/2.png", "a/f/3.png", "a/f/4.png", ".x/5.png")
    (tmp_path / "readme.txt").write_text("not an image")
    (tmp_path / "empty").mkdir()
    found = rd.load("folder", root)
    assert found.classes == ("a", "b")
    assert found.labels.tolist() == [0, 0, 0, 1]
    assert found.groups == ("a/2", "a/f", "a/f", "b/1")
    assert found.counts == {"a": 3, "b": 1}
    assert found.positive is None
    assert [image.shape for image in found.images()] == [small.shape] * 4


def test_sipakmed_is_grouped_by_class_and_field(tmp_path, small):
    root = make(tmp_path, small, "para/001_01.png", "para/001_12.png", "meta/001_01.png")
    found = rd.load("sipakmed", root)
    assert found.groups == ("meta/001", "para/001", "para/001")
    make(root, small, "para/nofield.png")
    with pytest.raises(TrainingError, match=r"nofield\.png: its field is not known"):
        rd.sipakmed(root)


def test_comparison_detector_loses_the_numbers_of_its_folders(tmp_path, small):
    root = make(tmp_path, small, "08_candida/10.png", "09_flora/11.png", "01_ascus/10.png")
    found = rd.load("comparison-detector", root)
    assert found.classes == ("ascus", "candida", "flora")
    assert len(set(found.groups)) == 3


def cric_folder(root, rng, rows):
    write_image(root / "images" / "one.png", rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    write_image(root / "images" / "two.png", rng.integers(0, 256, (50, 50, 3), dtype=np.uint8))
    with (root / "cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "cell_id", "bethesda", "nucleus_x_px", "nucleus_y_px"])
        writer.writerows(rows)
    return root


NILM = "Negative for intraepithelial lesion"
CELLS = [
    ("two.png", 1, "HSIL", 25, 25),
    ("one.png", 2, NILM, 40.4, 30),
    ("one.png", 3, "LSIL", 2, 58),
    ("two.png", 4, NILM, 10, 12),
]


def test_cric_cells_are_squares_around_their_nuclei_grouped_by_field(tmp_path, rng):
    root = cric_folder(tmp_path, rng, CELLS)
    found = rd.load("cric", root, side=20)
    assert found.classes == ("NILM", "abnormal")
    assert found.labels.tolist() == [0, 1, 1, 0]
    assert found.groups == ("one", "one", "two", "two")
    assert found.positive == 1
    field = rd.read_image(root / "images" / "one.png")
    first, edge, *_ = found.images()
    assert np.array_equal(first, field[20:40, 30:50])
    padded = np.pad(field, [(20, 20), (20, 20), (0, 0)], mode="symmetric")
    assert np.array_equal(edge, padded[68:88, 12:32])


def test_cric_grades_are_those_that_have_cells(tmp_path, rng):
    found = rd.load("cric-grades", cric_folder(tmp_path, rng, CELLS))
    assert found.classes == ("NILM", "LSIL", "HSIL")
    assert found.labels.tolist() == [0, 1, 2, 0]
    assert found.positive is None


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        (("one.png", 9, "CIN", 5, 5), "line 6: unknown class 'CIN'"),
        (("one.png", 9, "SCC", "x", 5), "line 6: the nucleus at"),
        (("one.png", 9, "SCC", "nan", 5), "line 6: the nucleus at"),
        (("one.png", 9, "SCC", -1, 5), "line 6: the nucleus at"),
        (("../one.png", 9, "SCC", 5, 5), "is not a file name"),
        (("", 9, "SCC", 5, 5), "is not a file name"),
        (("one.png",), "line 6: unknown class ''"),
    ],
)
def test_a_line_of_the_cell_list_that_means_nothing_is_named(tmp_path, rng, row, cause):
    with pytest.raises(TrainingError, match=cause):
        rd.cric(cric_folder(tmp_path, rng, [*CELLS, row]))


def test_a_cell_list_without_columns_cells_or_negatives_is_refused(tmp_path, rng):
    with pytest.raises(TrainingError, match=r"cells\.csv: cannot be read"):
        rd.cric(tmp_path)
    for rows, cause in (([], "lists no cell"), (CELLS[:1], "lists no negative cell")):
        with pytest.raises(TrainingError, match=cause):
            rd.cric(cric_folder(tmp_path, rng, rows))
    (tmp_path / "cells.csv").write_text("image,bethesda\n")
    with pytest.raises(TrainingError, match="lacks the column nucleus_x_px, nucleus_y_px"):
        rd.cric(tmp_path)
    (tmp_path / "cells.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match="not a CSV file"):
        rd.cric(tmp_path)
    with pytest.raises(TrainingError, match="the side is 4 pixels"):
        rd.cric(tmp_path, side=4)


def test_a_centre_outside_its_field_is_an_unreadable_image(tmp_path, rng):
    root = cric_folder(tmp_path, rng, [*CELLS, ("two.png", 9, "SCC", 51, 5)])
    with pytest.raises(TrainingError, match=r"1 of 5 images .* lies outside the image"):
        rd.readable(rd.cric(root))


@given(st.integers(1, 30), st.integers(-100, 100), st.integers(1, 150))
@settings(max_examples=60, deadline=None)
def test_mirrored_indices_are_those_of_a_symmetric_pad(length, begin, count):
    wide = np.pad(np.arange(length), 300, mode="symmetric")
    wanted = wide[300 + begin : 300 + begin + count]
    found = rd._mirrored(np.arange(begin, begin + count), length)
    assert np.array_equal(found, wanted)


# ---- what is wrong with a set -------------------------------------------------------------------


def test_an_empty_or_single_class_set_is_refused(tmp_path, small):
    with pytest.raises(TrainingError, match="0 folders with images"):
        rd.folder(tmp_path)
    with pytest.raises(TrainingError, match="cannot be listed"):
        rd.folder(tmp_path / "nowhere")
    make(tmp_path, small, "only/1.png", "only/2.png")
    with pytest.raises(TrainingError, match="every image is of the class 'only'"):
        rd.folder(tmp_path)
    with pytest.raises(TrainingError, match="no labelled image"):
        rd.Regions("x", "y", ("a", "b"), (), np.array([], np.int64), ())


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, -1, 1]])
def test_labels_out_of_range_are_named(small, tmp_path, labels):
    with pytest.raises(TrainingError, match=r"the label of image \d is (2|-1), but there are 2"):
        rd.Regions("set", "y", ("a", "b"), (rd.Region(tmp_path),) * 3, np.array(labels), ("g",) * 3)
    with pytest.raises(TrainingError, match="whole numbers"):
        rd.check_labels(np.array([0.5]), 2, "set")


def test_unreadable_images_are_listed_and_counted_up_to_a_share(tmp_path, small):
    root = make(tmp_path, small, *(f"{c}/{i}.png" for c in "ab" for i in range(5)))
    (root / "a" / "9.png").write_bytes(b"no")
    found = rd.folder(root)
    with pytest.raises(TrainingError, match=r"1 of 11 images cannot be read, more than 5%.*9\.png"):
        rd.readable(found)
    kept = rd.readable(found, 0.1)
    assert len(kept) == 10
    assert len(kept.unreadable) == 1
    assert str(root / "a" / "9.png") in kept.unreadable[0]
    with pytest.raises(RegionError):
        list(found.images())


def test_a_set_whose_only_readable_images_are_of_one_class_is_refused(tmp_path, small):
    root = make(tmp_path, small, "a/1.png", "a/2.png")
    (root / "b").mkdir()
    (root / "b" / "1.png").write_bytes(b"no")
    with pytest.raises(TrainingError, match="every image is of the class 'a'"):
        rd.readable(rd.folder(root), 1.0)


def test_classes_against_the_rest(tmp_path, small):
    found = rd.folder(make(tmp_path, small, "a/1.png", "b/1.png", "c/1.png"))
    two = found.against_rest(["c", "a"])
    assert two.classes == ("rest", "c+a")
    assert two.labels.tolist() == [1, 0, 1]
    assert two.positive == 1
    with pytest.raises(TrainingError, match="no class 'd'; there are: a, b, c"):
        found.against_rest(["d"])
    with pytest.raises(TrainingError, match="every image is of the class 'all'"):
        found.against_rest(["a", "b", "c"], "all")


# ---- splits -------------------------------------------------------------------------------------


@given(st.integers(2, 6), st.integers(0, 1000), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_no_group_lies_in_two_folds_and_every_fold_has_every_class(k, seed, extra):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(3 * (k + 4 + extra)), 4)
    labels = groups % 3
    order = rng.permutation(len(groups))
    names = [f"g{g}" for g in groups[order]]
    folds = grouped_folds(labels[order], names, k, seed)
    assert set(folds) == set(range(k))
    for name in set(names):
        assert len({f for f, g in zip(folds, names, strict=True) if g == name}) == 1
    for fold in range(k):
        assert set(labels[order][folds == fold]) == {0, 1, 2}
    assert np.array_equal(folds, grouped_folds(labels[order], names, k, seed))


def test_folds_that_cannot_be_made_are_refused():
    with pytest.raises(TrainingError, match="class 1 lies in 2 groups, fewer than 3 folds"):
        grouped_folds([0, 0, 0, 1, 1, 1], ["a", "b", "c", "d", "d", "e"], 3)
    with pytest.raises(TrainingError, match="1 folds"):
        grouped_folds([0, 1], ["a", "b"], 1)


def test_shots_are_balanced_and_of_different_groups():
    labels = np.repeat([0, 1, 2], [100, 40, 50])
    groups = [f"g{i // 5}" for i in range(190)]
    for seed in range(5):
        chosen = few_shots(labels, groups, 16, seed)
        assert len(set(chosen.tolist())) == 16
        assert sorted(np.bincount(labels[chosen])) == [5, 5, 6]
        assert len({groups[i] for i in chosen}) == 16
    assert not np.array_equal(few_shots(labels, groups, 16, 1), few_shots(labels, groups, 16, 2))


@pytest.mark.parametrize(
    ("labels", "groups", "shots", "cause"),
    [
        ([0, 1], ["a", "b"], 1, "1 shots for 2 classes"),
        ([0] * 20 + [1] * 3, list(range(23)), 8, "class 1 has 3 cases"),
        ([0] * 20 + [1] * 8, [*range(20), *("x" * 8)], 8, "class 1 has 8 cases in 1 groups"),
    ],
)
def test_shots_that_leave_nothing_to_test_on_are_refused(labels, groups, shots, cause):
    with pytest.raises(TrainingError, match=cause):
        few_shots(labels, groups, shots)


# ---- real data ----------------------------------------------------------------------------------


def test_the_real_sets_are_what_they_are_said_to_be(data_dir):
    assert rd.sipakmed(data_dir / "sipakmed").counts == {
        "dyskeratotic": 590,
        "koilocytotic": 616,
        "metaplastic": 607,
        "parabasal": 463,
        "superficial_intermediate": 533,
    }
    grades = rd.cric(data_dir / "cric", grades=True)
    assert grades.counts == {
        "NILM": 2014,
        "ASC-US": 224,
        "LSIL": 260,
        "ASC-H": 49,
        "HSIL": 176,
        "SCC": 49,
    }
    assert len(set(grades.groups)) == 120
    crops = rd.comparison_detector(data_dir / "comparison_detector_refs")
    assert (len(crops), len(crops.classes)) == (755, 11)
    assert {"candida", "flora"} <= set(crops.classes)


def test_a_nucleus_lies_at_the_centre_of_its_crop(data_dir):
    """Nuclei are dark: the middle of a crop is darker than its rim, in most crops by far."""
    cells = rd.cric(data_dir / "cric")
    found = list(cells.take(range(0, 400, 8)).images())
    middle = [image[40:60, 40:60].mean() for image in found]
    rim = [np.concatenate([image[:10], image[-10:]]).mean() for image in found]
    assert np.mean(np.less(middle, rim)) > 0.9
