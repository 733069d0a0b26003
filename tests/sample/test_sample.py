"""The sample writer: files every reader understands, drawn the same way every time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openslide
import pytest
import pyvips
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.places import ROOT
from tests.support.real_tiles import compose
from unicas_edge.errors import OutputError, SlideError
from unicas_edge.sample import EncodedTile, Mix, encode_tile, write_pyramid, write_sample
from unicas_edge.sample.layout import Layout
from unicas_edge.sample.scene import Scene
from unicas_edge.slide.tiff.pyramid_writer import quarter
from unicas_edge.slide.tiff.writer import Directory, TiffWriter


def picture(width: int, height: int) -> np.ndarray:
    """A smooth, coloured picture that differs everywhere, padded to whole tiles with white."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red = 128 + 100 * np.sin(x / 90)
    green = 128 + 100 * np.cos(y / 70)
    blue = 128 + 100 * np.sin((x + y) / 110)
    padded = np.full((-(-height // 256) * 256, -(-width // 256) * 256, 3), 255, np.uint8)
    padded[:height, :width] = np.stack([red, green, blue], axis=2).astype(np.uint8)
    return padded


def write_picture(path: Path, width: int, height: int) -> np.ndarray:
    pixels = picture(width, height)

    def source(row: int, col: int) -> np.ndarray:
        return pixels[row * 256 : row * 256 + 256, col * 256 : col * 256 + 256]

    write_pyramid(path, width, height, source, um_px=0.5, quality=95)
    return pixels


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A sample slide rich in findings, with its truth."""
    path = tmp_path_factory.mktemp("sample") / "rich.svs"
    return write_sample(path, 2500, 2300, seed=3, mix=Mix(abnormal=0.08, candida=0.02, clue=0.05))


@pytest.mark.parametrize("size", [(2600, 2100), (2049, 517), (1025, 3001)])
def test_every_reader_sees_the_pixels_that_were_written(tmp_path, size):
    path = tmp_path / "picture.svs"
    width, height = size
    expected = write_picture(path, width, height)[:height, :width]
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert float(slide.properties["openslide.mpp-x"]) == 0.5
        assert slide.properties["openslide.objective-power"] == "20"
        assert slide.level_dimensions == (size, (width // 4, height // 4))
        assert "thumbnail" in slide.associated_images
        coarse = np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB"))
        fine = np.asarray(slide.read_region((0, 0), 0, size).convert("RGB"))
    assert mean_difference(fine, expected) < 1.5
    cut = expected[: height // 4 * 4, : width // 4 * 4]
    assert mean_difference(coarse, quarter(cut)) < 2
    # one libjpeg or another: at most a grey level of rounding apart
    vips = pyvips.Image.new_from_file(str(path)).numpy()
    assert np.abs(vips.astype(int) - fine).max() <= 3
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_svs
        assert [level.shape[:2] for level in tiff.series[0].levels] == [
            (height, width),
            (height // 4, width // 4),
        ]
        assert tiff.pages[0].photometric == tifffile.PHOTOMETRIC.YCBCR
        assert tiff.pages[0].get_resolution("MICROMETER") == (2.0, 2.0)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(width=st.integers(1, 900), height=st.integers(1, 900))
def test_odd_sizes(tmp_path, width, height):
    path = tmp_path / f"{width}x{height}.svs"
    expected = write_picture(path, width, height)[:height, :width]
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (width, height)
        got = np.asarray(slide.read_region((0, 0), 0, (width, height)).convert("RGB"))
    if min(width, height) > 32:  # smaller ones are mostly the edge against the white padding
        assert mean_difference(got, expected) < 2
    path.unlink()


def test_a_quarter_is_the_mean_of_sixteen(rng):
    pixels = rng.integers(0, 256, (64, 256, 3), np.uint8)
    mean = pixels.reshape(16, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(quarter(pixels) - mean).max() <= 0.5


def test_many_levels_and_encoded_tiles(tmp_path):
    tile = encode_tile(np.full((256, 256, 3), (200, 60, 30), np.uint8))
    done = []
    path = write_pyramid(
        tmp_path / "flat.svs",
        9000,
        300,
        lambda row, col: tile,
        um_px=0.25,
        progress=lambda *at: done.append(at),
    )
    assert done[-1] == (72, 72)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((9000, 300), (2250, 75), (562, 18))
        assert slide.properties["openslide.objective-power"] == "40"
        for level, size in enumerate(slide.level_dimensions):
            got = np.asarray(slide.read_region((0, 0), level, size).convert("RGB")).astype(int)
            assert np.abs(got[: size[1] // 2] - (200, 60, 30)).max() <= 12


def test_big_offsets_make_a_bigtiff(tmp_path):
    """Tiles past 4 GiB: the hole before them is sparse, so the file takes no room."""
    path = tmp_path / "big.svs"
    white = encode_tile(np.full((256, 256, 3), 255, np.uint8)).jpeg
    with path.open("wb") as stream:
        image = Directory(512, 256, 256, 0.5, (2, 2), "Aperio |MPP = 0.5")
        writer = TiffWriter(stream, [image])
        writer.append(0, white)
        writer._position = 2**32 + 1024
        stream.seek(writer._position)
        writer.append(0, white)
        writer.close()
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert tiff.pages[0].dataoffsets[1] > 2**32
    with openslide.OpenSlide(path) as slide:
        got = np.asarray(slide.read_region((0, 0), 0, (512, 256)))
    assert got.min() >= 254


def test_a_missing_tile_is_noticed(tmp_path):
    with (tmp_path / "short.tiff").open("wb") as stream:
        writer = TiffWriter(stream, [Directory(512, 256, 256, 0.5, (2, 2), "")])
        writer.append(0, b"\xff\xd8")
        with pytest.raises(ValueError, match="1 tiles written of 2"):
            writer.close()


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    one = write_sample(tmp_path / "s.svs", 1500, 1100, seed=5)
    first = sha256(one.path), sha256(one.truth_path)
    again = write_sample(tmp_path / "s.svs", 1500, 1100, seed=5, threads=1)
    assert first == (sha256(again.path), sha256(again.truth_path))
    other = write_sample(tmp_path / "s.svs", 1500, 1100, seed=6)
    assert sha256(other.path) != first[0]


def test_truth_lies_on_the_slide_and_on_the_cells(sample):
    document = json.loads(sample.truth_path.read_text())
    assert document["notice"].startswith("synthetic")
    assert document["labels"] == {"cancer": True, "candidiasis": True, "cluecell": True}
    assert sum(document["counts"].values()) == len(document["findings"]) == len(sample.findings)
    with openslide.OpenSlide(sample.path) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("L"))
    darkest = []
    for found in document["findings"]:
        x, y, width, height = (found[key] for key in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert width > 0
        assert height > 0
        assert x + width <= 2500
        assert y + height <= 2300
        if found["label"] == "HSIL" and found["in_focus"] and min(width, height) > 16:
            darkest.append(int(pixels[y : y + height, x : x + width].min()))
    assert len(darkest) > 5
    assert max(darkest) < 80  # a hyperchromatic nucleus lies in every box


def test_a_slide_without_lesions_is_negative(tmp_path):
    truth = write_sample(tmp_path / "n.svs", 900, 900, mix=Mix(abnormal=0, candida=0, clue=0))
    assert truth.labels == {"cancer": False, "candidiasis": False, "cluecell": False}
    assert truth.findings == ()


def test_strips_meet_without_a_seam():
    """What one strip shows below its edge, the next shows above: the same cells go on."""
    scene = Scene(4096, 4096, 0.5, 1, Mix(density=900))
    upper, lower = scene.render(6, 1)[-1].astype(int), scene.render(7, 1)[0].astype(int)
    inner = scene.render(6, 1).astype(int)
    across = np.abs(upper - lower).mean()
    within = np.abs(inner[100] - inner[101]).mean()
    assert across < 1.6 * within
    left, right = scene.render(6, 1)[:, -1].astype(int), scene.render(6, 2)[:, 0].astype(int)
    assert np.abs(left - right).mean() < 1.6 * within


def test_a_strip_does_not_depend_on_what_was_rendered_before():
    fresh = Scene(5000, 5000, 0.5, 2, Mix()).render(9, 2)
    used = Scene(5000, 5000, 0.5, 2, Mix())
    for row in range(8, 12):
        used.render(row, 1)
    np.testing.assert_array_equal(used.render(9, 2), fresh)


def test_tiles_differ_as_real_ones_do(sample):
    """Ranking by compressed bytes needs them to vary, and empty glass to be cheap."""
    with tifffile.TiffFile(sample.path) as tiff:
        counts = np.array(tiff.pages[0].databytecounts)
    assert len(np.unique(counts)) > 0.8 * len(counts)
    assert counts.max() > 3 * counts.min()


def test_the_blurred_share_is_about_what_was_asked():
    layout = Layout(60000, 60000, 0.5, 0, Mix(blur=0.2), 1024)
    objects = np.concatenate([layout.objects(30, col) for col in range(2, 56)])
    assert 0.1 < (objects["focus"] == 2).mean() < 0.35


def test_composed_tiles_keep_their_centre(tmp_path, data_dir):
    folder = data_dir / "lbc_tiles" / "D22052400103C101_20"
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    files = sorted(folder.glob("*.jpg"))[:7]
    for file in files:
        (tiles / file.name).symlink_to(file)
    path = compose(tiles, tmp_path / "c.svs", columns=3, quality=95)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (768, 768)
        for k, file in enumerate(files):
            place = k % 3 * 256 + 16, k // 3 * 256 + 16
            got = np.asarray(slide.read_region(place, 0, (224, 224)).convert("RGB"))
            assert mean_difference(got, np.asarray(Image.open(file).convert("RGB"))) < 4
        rest = np.asarray(slide.read_region((256, 512), 0, (512, 256)).convert("RGB"))
    assert rest.min() >= 254


def test_compose_refuses_what_is_no_tile(tmp_path):
    with pytest.raises(SlideError, match="holds no JPEG or PNG tile"):
        compose(tmp_path, tmp_path / "c.svs")
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(SlideError, match=r"a\.jpg: is no readable picture"):
        compose(tmp_path, tmp_path / "c.svs")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    with pytest.raises(SlideError, match="64 x 64"):
        compose(tmp_path, tmp_path / "c.svs")
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


def test_failure_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "s.svs"
    path.write_bytes(b"old")

    def fails(row: int, col: int) -> EncodedTile:
        if row == 2:
            raise RuntimeError("the source broke")
        return encode_tile(np.zeros((256, 256, 3), np.uint8))

    with pytest.raises(RuntimeError, match="the source broke"):
        write_pyramid(path, 1000, 1000, fails, um_px=0.5)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_interruption_leaves_nothing(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "s.svs", 2000, 2000, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_output_error(tmp_path):
    """A limit on file size is the disk that fills up after 100,000 bytes."""
    code = (
        "import resource, sys\n"
        "from unicas_edge.errors import OutputError\n"
        "from unicas_edge.sample import write_sample\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    write_sample(sys.argv[1], 2500, 2500)\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    path = tmp_path / "s.svs"
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(path) in run.stdout
    assert "cannot be written" in run.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad", [{"width": 0}, {"height": -1}, {"um_px": 0.0}, {"um_px": float("nan")}, {"seed": -1}]
)
def test_senseless_arguments(tmp_path, bad):
    arguments = {"width": 300, "height": 300, "um_px": 0.5, "seed": 0} | bad
    with pytest.raises(OutputError, match=r"s\.svs"):
        write_sample(tmp_path / "s.svs", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="missing"):
        write_sample(tmp_path / "missing" / "s.svs", 300, 300)


def test_a_source_of_the_wrong_shape(tmp_path):
    with pytest.raises(ValueError, match="the tile source gave"):
        write_pyramid(
            tmp_path / "s.svs", 300, 300, lambda row, col: np.zeros((9, 9, 3), np.uint8), um_px=1
        )
    assert list(tmp_path.iterdir()) == []


def peak_bytes(width: int, height: int, path: Path) -> int:
    """Peak resident bytes of a process that writes a flat slide of the given size.

    Not ru_maxrss: Linux hands a parent's maximum on to the child, which would hide the child's own.
    """
    code = (
        "import sys, numpy as np\n"
        "from unicas_edge.sample import encode_tile, write_pyramid\n"
        "tile = encode_tile(np.full((256, 256, 3), 250, np.uint8))\n"
        "write_pyramid(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]),\n"
        "              lambda row, col: tile, um_px=0.5)\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path), str(width), str(height)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs VmHWM of Linux")
def test_memory_does_not_grow_with_the_slide(tmp_path):
    small = peak_bytes(10_000, 5_000, tmp_path / "small.svs")
    large = peak_bytes(10_000, 80_000, tmp_path / "large.svs")
    # 16 times the pixels, 2.2 GB more of them
    assert large < 1.1 * small + 8e6, (small, large)
