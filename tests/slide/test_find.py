"""Slides, folders and lists become targets; what is none is told, never skipped in silence."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unicas_edge.errors import SlideError
from unicas_edge.slide import find, search
from unicas_edge.slide.find import every_target, find_targets
from unicas_edge.slide.folder.evidence import FEWEST_TILES, is_folder_of_fields


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def picture(path: Path, width=64, height=64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return path


def names(found) -> list[str]:
    return [target.path.name for target in found.targets]


def reasons(found) -> dict[str, str]:
    return {entry.path.name: entry.reason for entry in found.passed_over}


def test_a_file_is_itself_whatever_its_name(tmp_path):
    slide = touch(tmp_path / "slide.anything")
    assert [target.path for target in find_targets([slide]).targets] == [slide]


def test_a_missing_file_is_left_to_the_reader_to_name(tmp_path):
    assert find_targets([tmp_path / "none.svs"]).targets[0].path == tmp_path / "none.svs"


def test_a_folder_is_searched_in_order_and_deeper_only_when_asked(tmp_path):
    touch(tmp_path / "b.svs")
    touch(tmp_path / "a.tif")
    touch(tmp_path / "deep" / "c.NDPI")
    flat, deep = find_targets([tmp_path]), find_targets([tmp_path], recursive=True)
    assert names(flat) == ["a.tif", "b.svs"]
    assert sorted(names(deep)) == ["a.tif", "b.svs", "c.NDPI"]
    assert "add --recursive" in reasons(flat)["deep"]
    assert (flat.files, flat.folders, deep.passed_over) == (0, 1, [])


def test_everything_passed_over_is_named_and_counted(tmp_path):
    slide = touch(tmp_path / "a.tif")
    touch(tmp_path / "@eaDir" / "a.tif" / "SYNOPHOTO_THUMB_XL.jpg")
    touch(tmp_path / "real" / "inside.tif")
    for name in ("thumb.jpg", "Thumbs.db", ".hidden.svs", "notes.txt", "x.unknown"):
        touch(tmp_path / name)
    (tmp_path / "noext").write_bytes(b"II*\0")
    (tmp_path / "again.tif").symlink_to(slide)
    (tmp_path / "other").symlink_to(tmp_path / "real")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = find_targets([tmp_path], recursive=True)
    assert names(found) == ["a.tif", "inside.tif"]
    told = reasons(found)
    for name, word in {
        "@eaDir": "network store",
        "thumb.jpg": "picture",
        "Thumbs.db": "system",
        ".hidden.svs": "hidden",
        "notes.txt": "by its name",
        "x.unknown": "by its name",
        "noext": "TIFF by its content",
        "again.tif": "the same slide",
        "other": "link to a folder",
        "gone": "broken link",
        "pipe": "neither",
    }.items():
        assert word in told.pop(name), name
    assert told == {}
    assert (found.files, found.folders, found.problems) == (9, 2, [])


def test_a_link_to_a_slide_is_a_slide_and_a_broken_one_is_a_failure(tmp_path):
    slide = touch(tmp_path / "store" / "1.svs")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.svs").symlink_to(slide)
    (tmp_path / "in" / "lost.svs").symlink_to(tmp_path / "nowhere")
    link, lost = find_targets([tmp_path / "in"]).targets
    assert (link.path.name, link.problem) == ("link.svs", None)
    assert lost.problem == "a broken link"


def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_goes_on(tmp_path, monkeypatch):
    """Root reads every folder: what `iterdir` raises for others is raised here."""
    touch(tmp_path / "a" / "1.svs")
    touch(tmp_path / "b" / "2.svs")
    listing = Path.iterdir

    def denied(self):
        if self.name == "a":
            raise PermissionError(13, "Permission denied")
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", denied)
    found = find_targets([tmp_path], recursive=True)
    assert names(found) == ["2.svs"]
    assert [p.path.name for p in found.problems] == ["a"]
    assert "Permission denied" in reasons(found)["a"]
    with pytest.raises(SlideError, match="Permission denied"):
        find_targets([tmp_path / "a"])
    with pytest.raises(SlideError, match="Permission denied"):
        every_target([tmp_path])
    assert len(every_target([tmp_path / "b"] * 2)) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_forbidden_folder_is_a_problem(tmp_path):
    touch(tmp_path / "b.svs")
    (tmp_path / "a").mkdir(mode=0)
    assert [p.path.name for p in find_targets([tmp_path], recursive=True).problems] == ["a"]


def test_depth_and_number_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "MAX_DEPTH", 2)
    monkeypatch.setattr(find, "MAX_PASSED", 1)
    for name in ("1.svs", "d/2.svs", "d/d/3.svs", "d/d/d/4.svs", "a.txt", "b.txt"):
        touch(tmp_path / name)
    found = find_targets([tmp_path], recursive=True)
    assert names(found) == ["1.svs", "2.svs", "3.svs"]
    assert "folders deep" in found.problems[0].reason
    assert (len(found.passed_over), found.files, found.folders) == (1, 2, 1)
    monkeypatch.setattr(find, "MAX_TARGETS", 2)
    with pytest.raises(SlideError, match="more than 2 slides"):
        find_targets([tmp_path], recursive=True)


def test_the_data_of_a_slide_beside_it_is_part_of_it(tmp_path):
    touch(tmp_path / "a.mrxs")
    touch(tmp_path / "a" / "Data0000.dat")
    picture(tmp_path / "a" / "x0_y0.jpg")
    touch(tmp_path / "b.vsi")
    touch(tmp_path / "_b_" / "stack1" / "frame.tif")
    found = find_targets([tmp_path], recursive=True)
    assert names(found) == ["a.mrxs", "b.vsi"]
    assert found.passed_over == []


def test_our_own_results_are_not_screened(tmp_path):
    touch(tmp_path / "a.svs")
    for name in ("result.json", "tiles.csv", "overview.jpg"):
        touch(tmp_path / "made" / name)
    touch(tmp_path / "out" / "summary.csv")
    touch(tmp_path / "out" / "runs" / "1.json")
    found = find_targets([tmp_path], recursive=True)
    assert names(found) == ["a.svs"]
    assert reasons(found) == dict.fromkeys(("made", "out"), "results of unicas-edge")


def test_several_sources_are_one_list_without_repeats(tmp_path):
    a, b = touch(tmp_path / "s" / "a.svs"), touch(tmp_path / "s" / "b.svs")
    (tmp_path / "list.csv").write_text("wsi\ns/b.svs\n")
    found = find_targets([b, tmp_path / "s", tmp_path / "list.csv"])
    assert [target.path for target in found.targets] == [b, a]
    assert [p.path for p in found.passed_over] == [b, b]
    assert not found.problems


def test_of_several_sources_an_empty_one_is_a_problem(tmp_path):
    slide = touch(tmp_path / "a.svs")
    (tmp_path / "empty").mkdir()
    found = find_targets([slide, tmp_path / "empty"])
    assert names(found) == ["a.svs"]
    assert "no slides" in found.problems[0].reason


def test_a_folder_without_slides_is_an_error_that_names_recursive(tmp_path):
    touch(tmp_path / "notes.txt")
    with pytest.raises(SlideError, match=r"no slides in it; .* --recursive"):
        find_targets([tmp_path])
    picture(tmp_path / "logo.png")
    with pytest.raises(SlideError, match="--reader folder"):
        find_targets([tmp_path], recursive=True)
    assert find_targets([tmp_path], as_fields=True).targets[0].path == tmp_path


def tiles(folder: Path, count=FEWEST_TILES, **size) -> Path:
    for number in range(count):
        picture(folder / f"8_{number}.jpg", **size)
    return folder


@pytest.mark.parametrize("beside", ["", "Thumbs.db", ".DS_Store", "scores.csv", "@eaDir/1.jpg"])
def test_evidence_of_fields(tmp_path, beside):
    touch(picture(tmp_path / "a" / "one.png").with_name("fields.csv"))
    picture(tmp_path / "b" / "slide_x0_y0.jpg")
    tiles(tmp_path / "c")
    picture(tmp_path / "c" / "edge.jpg", width=30)
    for name in "abc":
        if beside:
            touch(tmp_path / name / beside)
        assert is_folder_of_fields(tmp_path / name)
    assert names(find_targets([tmp_path], recursive=True)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: touch(folder / "slide.svs"),
        lambda folder: touch(folder / "sub" / "slide.svs"),
        lambda folder: touch(folder / "result.json"),
        lambda folder: touch(folder / "holiday.mp4"),
        lambda folder: (folder / "8_0.jpg").unlink(),
        lambda folder: picture(folder / "photo.jpg", width=1025),
        lambda folder: [picture(folder / f"{k}.png", width=20 + k) for k in range(2)],
    ],
)
def test_a_folder_of_pictures_that_is_no_slide(tmp_path, change):
    assert is_folder_of_fields(tiles(tmp_path))
    change(tmp_path)
    assert not is_folder_of_fields(tmp_path)
