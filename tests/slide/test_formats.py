"""One list of what a slide is by its name, and of the files it is spread over."""

from __future__ import annotations

import pytest

from tests.support.slides import encode, smear
from unicas_edge.slide import is_field_folder
from unicas_edge.slide.find import find_targets
from unicas_edge.slide.formats import FIELD_SUFFIXES, SUFFIXES, slide_files


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(files, folder):
    return [file.relative_to(folder).as_posix() for file in files]


@pytest.mark.parametrize("suffix", sorted(SUFFIXES | {".SVS", ".Btf"}))
def test_a_picture_beside_a_slide_makes_no_slide_of_fields(tmp_path, suffix):
    (tmp_path / "thumb.jpg").write_bytes(encode(smear(64, 64)))
    assert is_field_folder(tmp_path)
    touch(tmp_path, f"a{suffix}")
    assert not is_field_folder(tmp_path)
    assert [target.path.name for target in find_targets([tmp_path]).targets] == [f"a{suffix}"]


def test_no_suffix_is_both_a_slide_and_a_field():
    assert not SUFFIXES & FIELD_SUFFIXES
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in SUFFIXES)


@pytest.mark.parametrize(
    ("slide", "beside", "expected"),
    [
        ("a.svs", ["b.svs", "a/1.dat"], ["a.svs"]),
        ("a.mrxs", ["a/1.dat", "a/0.ini", "b/1.dat"], ["a.mrxs", "a/0.ini", "a/1.dat"]),
        ("a.mrxs", ["b/1.dat"], ["a.mrxs"]),
        ("2.dcm", ["1.dcm", "3.DCM", "note.txt"], ["2.dcm"]),  # no DICOM: no series to belong to
        ("a.tif", ["a.txt"], ["a.tif"]),
    ],
)
def test_the_files_a_slide_is_spread_over(tmp_path, slide, beside, expected):
    touch(tmp_path, slide, *beside)
    assert names(slide_files(tmp_path / slide), tmp_path) == expected


def test_a_folder_is_its_files_by_name(tmp_path):
    touch(tmp_path, "b.jpg", "a.jpg", "fields.csv", "deeper/c.jpg")
    assert names(slide_files(tmp_path), tmp_path) == ["a.jpg", "b.jpg", "fields.csv"]


def test_what_cannot_be_listed_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        slide_files(tmp_path / "gone" / "1.dcm")
