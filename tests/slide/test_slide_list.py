"""A list of slides as spreadsheets write it: read, or refused with its line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.slide.test_find import touch
from unicas_edge.errors import SlideError
from unicas_edge.slide.find import find_targets


def read(tmp_path: Path, content: str | bytes, name="list.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return find_targets([path]).targets


@pytest.mark.parametrize(
    "text",
    [
        "wsi,mpp\na.svs,0.25\n",
        "wsi,mpp,,\na.svs,0.25,,\n,,,\n\n",
        "wsi,mpp\na.svs,0.25,,\n",
        "\ufeffwsi;mpp\r\na.svs;0,25\r\n",
        "sep=;\nWSI;mpp;note\na.svs;0.25;best, of all\n",
        "wsi\tmpp\na.svs\t0.25\n",
        ' WSI ,MPP\n"a.svs","0,25"\n',
        "case,wsi,mpp\n7, a.svs ,0.25",
        "wsi|mpp\na.svs|0.25\n",
        "\n,,\nwsi,mpp\na.svs,0.25\n",
        "wsi,mpp\ra.svs,0.25\r",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_habits_of_spreadsheets(tmp_path, text, encoding):
    slide = touch(tmp_path / "a.svs")
    (target,) = read(tmp_path, text.encode(encoding))
    assert (target.path, target.mpp, target.problem) == (slide, 0.25, None)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [("Müller 1.svs", "cp1252"), ("张三.svs", "gb18030"), ("张三.svs", "utf-16")],
)
def test_older_encodings_are_told_by_the_files_they_name(tmp_path, name, encoding):
    slide = touch(tmp_path / name)
    (target,) = read(tmp_path, f"wsi\n{name}\n".encode(encoding))
    assert (target.path, target.problem) == (slide, None)


def test_missing_and_repeated_slides_and_bad_mpp_are_reported_each(tmp_path):
    touch(tmp_path / "a.svs")
    touch(tmp_path / "b.svs")
    text = "wsi,mpp\na.svs,\n\nmissing.svs,\n./a.svs,\nb.svs,-1\n"
    problems = [target.problem for target in read(tmp_path, text)]
    assert problems[0] is None
    assert "no such file (line 4" in problems[1]
    assert "listed twice (line 5" in problems[2]
    assert "um/px" in problems[3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide\na.svs\n", "column 'wsi'"),
        ("", "column 'wsi'"),
        ("wsi\n", "no slides"),
        ("wsi,mpp\n,0.5\n", "line 2"),
        ("wsi,mpp\na.svs,0,25\n", "line 2: more columns .* 0.25 for 0,25"),
        ("sep=;\nwsi;mpp\na.svs;1;b\n", "line 3: more columns"),
        ("wsi,mpp,WSI\na.svs,1,b.svs\n", "'wsi' twice"),
    ],
)
def test_a_list_that_is_none_is_an_error(tmp_path, text, message):
    touch(tmp_path / "a.svs")
    with pytest.raises(SlideError, match=message):
        read(tmp_path, text)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_list_give_targets_or_our_error(tmp_path_factory, content):
    with contextlib.suppress(SlideError):
        read(tmp_path_factory.mktemp("list"), b"wsi,mpp\n" + content)
    with contextlib.suppress(SlideError):
        read(tmp_path_factory.mktemp("list"), content)
