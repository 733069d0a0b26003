"""A slide, a folder or a list becomes targets; a bad line is reported, never passed over."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicas_edge.errors import SlideError
from unicas_edge.slide.find import find_targets


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_a_file_is_itself_whatever_its_name(tmp_path):
    slide = touch(tmp_path / "slide.anything")
    assert [target.path for target in find_targets(slide)] == [slide]


def test_a_missing_file_is_left_to_the_reader_to_name(tmp_path):
    assert find_targets(tmp_path / "none.svs")[0].path == tmp_path / "none.svs"


def test_a_folder_is_searched_in_order_and_deeper_only_when_asked(tmp_path):
    touch(tmp_path / "b.svs")
    touch(tmp_path / "a.tif")
    touch(tmp_path / "notes.txt")
    touch(tmp_path / ".hidden.svs")
    touch(tmp_path / "deep" / "c.NDPI")
    flat = [target.path.name for target in find_targets(tmp_path)]
    deep = [target.path.name for target in find_targets(tmp_path, recursive=True)]
    assert flat == ["a.tif", "b.svs"]
    assert sorted(deep) == ["a.tif", "b.svs", "c.NDPI"]


def test_a_folder_without_slides_is_an_error_that_names_recursive(tmp_path):
    touch(tmp_path / "notes.txt")
    with pytest.raises(SlideError, match=r"no slides in it; .* --recursive"):
        find_targets(tmp_path)


def write_list(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_gives_slides_with_their_mpp_relative_to_itself(tmp_path):
    slide = touch(tmp_path / "a.svs")
    targets = find_targets(write_list(tmp_path, "wsi,mpp\na.svs,0.25\n"))
    assert [(target.path, target.mpp, target.problem) for target in targets] == [
        (slide, 0.25, None)
    ]


def test_missing_and_repeated_slides_and_bad_mpp_are_reported_each(tmp_path):
    touch(tmp_path / "a.svs")
    touch(tmp_path / "b.svs")
    text = "wsi,mpp\na.svs,\nmissing.svs,\n./a.svs,\nb.svs,-1\n"
    problems = [target.problem for target in find_targets(write_list(tmp_path, text))]
    assert problems[0] is None
    assert "no such file (line 3" in problems[1]
    assert "listed twice (line 4" in problems[2]
    assert "um/px" in problems[3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide\na.svs\n", "column 'wsi'"),
        ("", "column 'wsi'"),
        ("wsi\n", "no slides"),
        ("wsi,mpp\n,0.5\n", "line 2"),
    ],
)
def test_a_list_that_is_none_is_an_error(tmp_path, text, message):
    with pytest.raises(SlideError, match=message):
        find_targets(write_list(tmp_path, text))


@given(st.binary(max_size=200))
def test_any_bytes_as_a_list_give_targets_or_our_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("list") / "list.csv"
    path.write_bytes(b"wsi,mpp\n" + content)
    with contextlib.suppress(SlideError):
        find_targets(path)
