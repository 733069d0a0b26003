"""A folder of fields: positions, spacing, damaged and dishonest files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.support.slides import encode, smear
from unicas_edge.errors import SlideError, SpacingError, TileError
from unicas_edge.slide import open_slide
from unicas_edge.slide.folder import fields
from unicas_edge.slide.jpeg import frame_of
from unicas_edge.tiles.grid import Grid

IMAGE = smear(1200, 1000)


def png(path, image=IMAGE):
    Image.fromarray(image).save(path)


def field(x, y, side=400):
    return IMAGE[y : y + side, x : x + side]


PLACES = {"b.png": (0, 0), "a.png": (400, 0), "c.png": (300, 400)}


@pytest.fixture
def folder(tmp_path):
    for name, place in PLACES.items():
        png(tmp_path / name, field(*place))
    return tmp_path


def listed(folder, rows, header="file,x,y,um_px"):
    (folder / "fields.csv").write_text("\n".join([header, *rows]) + "\n")


def test_positions_from_a_list(folder):
    listed(folder, [f"{name},{x},{y},0.25" for name, (x, y) in PLACES.items()])
    with open_slide(folder) as slide:
        assert (slide.reader, slide.width, slide.height) == ("folder", 800, 800)
        assert (slide.spacing.um_px, slide.spacing.source) == (0.25, "fields.csv")
        assert slide.warnings == ()
        got = slide.read(0, 0, 800, 1.0)
        assert np.array_equal(got[:400, :800], IMAGE[:400, :800])
        assert np.array_equal(got[400:, 300:700], IMAGE[400:800, 300:700])
        assert (got[400:, :300] == 255).all()
        half = slide.read(100, 100, 128, 2.0)
        mean = IMAGE[100:356, 100:356].reshape(128, 2, 128, 2, 3).mean((1, 3))
        assert np.abs(half - mean).max() <= 0.5
    with open_slide(folder, mpp=0.5) as slide:
        assert slide.spacing.source == "--mpp"
        assert "overrides" in slide.warnings[0]


def test_positions_from_names(tmp_path):
    for x, y in PLACES.values():
        png(tmp_path / f"scan_x{x:05d}_y{y:05d}.png", field(x, y))
    with open_slide(tmp_path, mpp=0.5) as slide:
        assert slide.warnings == ()
        assert np.array_equal(slide.read(300, 300, 256, 1.0)[:100], IMAGE[300:400, 300:556])


def test_without_positions_tiles_lie_centred_in_cells(tmp_path):
    names = [f"8_{row}_{col}_{k:02d}" for row, col in ((96, 8), (100, 40)) for k in range(1, 4)]
    images = {}
    for number, name in enumerate(names):
        images[name] = smear(224, 224, number)
        png(tmp_path / f"{name}.png", images[name])
    with open_slide(tmp_path, mpp=0.5) as slide:
        assert slide.warnings == (
            "the positions of the fields are not known; they are laid out in the order of names",
        )
        grid = Grid(slide.width, slide.height, 1.0)
        assert (grid.cols, grid.rows) == (3, 2)
        for number, name in enumerate(sorted(names)):
            row, col = divmod(number, 3)
            tile = slide.read(*grid.origin((row, col)), 256, 1.0)
            assert np.array_equal(tile[16:240, 16:240], images[name])
            assert (tile[:16] == 255).all()
        sizes = [(tmp_path / f"{name}.png").stat().st_size for name in sorted(names)]
        assert slide.content(grid).ravel().tolist() == sizes


def test_content_is_spread_by_area(folder):
    listed(folder, [f"{name},{x},{y},0.5" for name, (x, y) in PLACES.items()])
    with open_slide(folder) as slide:
        for downsample in (1.0, 2.0, 0.7):
            content = slide.content(Grid(slide.width, slide.height, downsample))
            total = sum((folder / name).stat().st_size for name in PLACES)
            assert content.sum() == pytest.approx(total)
        content = slide.content(Grid(slide.width, slide.height, 0.25))
        assert content[10, 2] == 0
        share = (folder / "b.png").stat().st_size * (64 / 400) ** 2
        assert content[0, 0] == pytest.approx(share)


def test_jpeg_fields_are_decoded_strictly(tmp_path):
    stream = encode(field(0, 0))
    (tmp_path / "x0_y0.jpg").write_bytes(stream)
    (tmp_path / "x400_y0.jpg").write_bytes(stream[: len(stream) // 2])
    with open_slide(tmp_path, mpp=0.5) as slide:
        assert np.abs(slide.read(0, 0, 256, 1.0).astype(int) - IMAGE[:256, :256]).mean() < 6
        with pytest.raises(TileError, match=r"tile at \(512, 0\): x400_y0\.jpg"):
            slide.read(512, 0, 256, 1.0)
        assert (slide.overview(400)[10:190, 210:390] == 128).all()


def test_truncated_png_field(tmp_path):
    png(tmp_path / "x0_y0.png")
    data = (tmp_path / "x0_y0.png").read_bytes()
    for part in (0.3, 0.9):
        (tmp_path / "x0_y0.png").write_bytes(data[: int(part * len(data))])
        with open_slide(tmp_path, mpp=0.5) as slide, pytest.raises(TileError, match="x0_y0"):
            slide.read(0, 0, 256, 1.0)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_png_fields_of_other_kinds(tmp_path, mode):
    image = Image.fromarray(field(0, 0))
    if mode == "I;16":
        image = Image.fromarray(field(0, 0)[..., 0].astype(np.uint16) * 257)
        wanted = np.dstack([field(0, 0)[..., 0]] * 3)
    elif mode == "RGBA":
        image.putalpha(Image.fromarray(np.tile(np.repeat([0, 255], 200), (400, 1)).astype("u1")))
        wanted = np.where(np.arange(400)[None, :, None] < 200, 255, field(0, 0))
    else:
        image = image.quantize(32) if mode == "P" else image.convert(mode)
        wanted = np.array(image.convert("RGB"))
    image.save(tmp_path / "x0_y0.png")
    with open_slide(tmp_path, mpp=0.5) as slide:
        assert np.array_equal(slide.read(0, 0, 400, 1.0), wanted)


def test_spacing_must_be_given(folder):
    with pytest.raises(SpacingError, match="--mpp"):
        open_slide(folder)


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (["../secret.png,0,0,"], "outside the folder"),
        (["/etc/passwd,0,0,"], "outside the folder"),
        ([",0,0,"], "outside the folder"),
        (["none.png,0,0,"], "not there"),
        (["a.png,left,0,"], "'left' is not a number"),
        (["a.png,nan,0,"], "is not a number"),
        (["a.png,1e300,0,"], "places 'a.png'"),
        (["a.png,-5,0,"], "before level-0"),
        (["a.png,0,0,", "a.png,9,9,"], "lists a file twice"),
        (["a.png,0,0,0.5", "b.png,9,9,0.25"], "um_px differs"),
        (["a.png,0,0,huge"], "'huge' is not a number"),
        ([], "lists no field"),
    ],
)
def test_lists_that_lie(folder, rows, cause):
    png(folder.parent / "secret.png", field(0, 0))
    listed(folder, rows)
    with pytest.raises(SlideError, match=cause) as caught:
        open_slide(folder)
    assert str(folder) in str(caught.value)


def test_other_faults_of_a_list(folder):
    listed(folder, ["a.png,0"], "file,x")
    with pytest.raises(SlideError, match="lacks the column y"):
        open_slide(folder, mpp=0.5)
    (folder / "fields.csv").write_bytes(b"file,x,y\n\xff\xfe\x00,0,0\n")
    with pytest.raises(SlideError, match="not a CSV file in UTF-8"):
        open_slide(folder, mpp=0.5)
    listed(folder, ["a.png,0,0,0.5"])
    with open_slide(folder) as slide:
        assert slide.warnings == ("2 images of the folder are not in fields.csv",)


def test_a_symbolic_link_out_of_the_folder_is_refused(folder):
    png(folder.parent / "secret.png", field(0, 0))
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    listed(folder, ["link.png,0,0,0.5"])
    with pytest.raises(SlideError, match="outside the folder"):
        open_slide(folder)


def test_files_that_claim_too_much(folder, monkeypatch):
    stream = bytearray(encode(field(0, 0)))
    at = frame_of(bytes(stream)).end - 2 - 17
    stream[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    (folder / "d.jpg").write_bytes(stream)
    with pytest.raises(SlideError, match=r"d\.jpg: claims 65535 x 65535 pixels"):
        open_slide(folder, mpp=0.5)
    (folder / "d.jpg").write_bytes(b"no image")
    with pytest.raises(SlideError, match=r"d\.jpg: not a JPEG or PNG image"):
        open_slide(folder, mpp=0.5)
    (folder / "d.jpg").unlink()
    monkeypatch.setattr(fields, "MAX_FILES", 2)
    with pytest.raises(SlideError, match="3 fields; at most 2"):
        open_slide(folder, mpp=0.5)


def test_real_tiles(data_dir):
    folder = sorted((data_dir / "lbc_tiles").iterdir())[0]
    files = sorted(folder.glob("*.jpg"))
    with open_slide(folder, mpp=0.5) as slide:
        grid = Grid(slide.width, slide.height, 1.0)
        assert grid.cols * grid.rows >= len(files)
        content = slide.content(grid)
        assert content.ravel()[: len(files)].tolist() == [f.stat().st_size for f in files]
        for number in (0, len(files) // 2, len(files) - 1):
            cell = divmod(number, grid.cols)
            centre = slide.read(*grid.origin(cell), 256, 1.0)[16:240, 16:240]
            theirs = np.asarray(Image.open(files[number]).convert("RGB"))
            assert np.array_equal(centre, theirs)
