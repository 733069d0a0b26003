"""A DICOM series is one slide, whichever of its files, or which folder, is named."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.dicom_header import BIG_ENDIAN, EXPLICIT, IMPLICIT, LABEL, VOLUME, dicom
from tests.support.dicom_header import write_dicom as write
from unicas_edge.errors import SlideError
from unicas_edge.slide import open_slide
from unicas_edge.slide.dicom import read_dicom
from unicas_edge.slide.find import find_targets
from unicas_edge.slide.formats import main_file, slide_files


def names(paths):
    return [path.name for path in paths]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_the_series_is_read_past_sequences_in_every_way_of_writing(tmp_path, syntax):
    file = read_dicom(write(tmp_path / "a", "1.2.3", VOLUME, syntax))
    assert (file.series, file.reason) == ("1.2.3", "")
    label = read_dicom(write(tmp_path / "b", "1.2.3", LABEL, syntax))
    assert label.reason == "the label of a DICOM slide"


def test_what_is_no_dicom_is_none_and_a_pipe_is_not_opened(tmp_path):
    (tmp_path / "a").write_bytes(b"DICM")
    os.mkfifo(tmp_path / "pipe")
    assert read_dicom(tmp_path / "a") is None
    assert read_dicom(tmp_path / "pipe") is None


@given(st.integers(0, 400), st.binary(min_size=1, max_size=40))
def test_damaged_headers_give_an_answer(tmp_path_factory, at, junk):
    data = dicom("1.2.3")
    path = tmp_path_factory.mktemp("d") / "a.dcm"
    path.write_bytes(data[: 132 + at] + junk + data[132 + at + len(junk) :])
    assert read_dicom(path) is not None


def test_one_slide_whether_the_folder_or_any_file_is_named(tmp_path):
    for name, kind in (("I_0", LABEL), ("I_1", VOLUME), ("I_2", VOLUME)):
        write(tmp_path / "s" / name, "1.2", kind)
    for named in (tmp_path / "s", *(tmp_path / "s").iterdir()):
        assert [t.path for t in find_targets([named]).targets] == [tmp_path / "s" / "I_1"]
        assert main_file(named) == tmp_path / "s" / "I_1"
    assert names(slide_files(tmp_path / "s" / "I_1")) == ["I_0", "I_1", "I_2"]


def test_another_series_in_the_folder_changes_nothing_of_the_first(tmp_path):
    first = write(tmp_path / "b.dcm", "1.2")
    write(tmp_path / "c.dcm", "1.2")
    before = slide_files(first)
    for name in ("a.dcm", "d", "e.dcm"):
        write(tmp_path / name, "1.3")
    assert slide_files(first) == before
    found = find_targets([tmp_path])
    assert names(t.path for t in found.targets) == ["a.dcm", "b.dcm"]
    assert not found.passed_over
    with pytest.raises(SlideError, match=r"2 DICOM slides; name one of them: a\.dcm, b\.dcm"):
        open_slide(tmp_path)


def test_a_label_alone_and_other_objects_are_no_slides(tmp_path):
    label = write(tmp_path / "l.dcm", "1.2", LABEL)
    write(tmp_path / "DICOMDIR", "", VOLUME, EXPLICIT, "1.2.840.10008.1.3.10")
    write(tmp_path / "s.dcm", "1.4")
    found = find_targets([tmp_path])
    assert names(t.path for t in found.targets) == ["s.dcm"]
    reasons = {p.path.name: p.reason for p in found.passed_over}
    assert reasons["l.dcm"] == "the label of a DICOM slide"
    assert "no whole slide image" in reasons["DICOMDIR"]
    (target,) = find_targets([label]).targets
    assert "its slide is not in the folder" in target.problem
    with pytest.raises(SlideError, match="label"):
        open_slide(label)


def test_a_damaged_file_of_that_name_is_reported_not_lost(tmp_path):
    write(tmp_path / "a.dcm", "1.2")
    (tmp_path / "b.dcm").write_bytes(b"no DICOM")
    (tmp_path / "c.dcm").write_bytes(dicom("1.2")[:150])
    assert names(t.path for t in find_targets([tmp_path]).targets) == ["a.dcm", "b.dcm", "c.dcm"]


@pytest.mark.data
def test_a_folder_of_one_series_opens_whatever_its_files_are_called(tmp_path, data_dir):
    pytest.importorskip("openslide")
    shutil.copy(data_dir / "wsi" / "dicom_google_test_jpeg.dcm", tmp_path / "I_1")
    with open_slide(tmp_path, mpp=0.5) as slide:
        assert (slide.reader, slide.path) == ("openslide", tmp_path / "I_1")
