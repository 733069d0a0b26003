"""Where tiles come from: folders and slides, with what cannot be read listed and counted."""

from __future__ import annotations

import pickle
import shutil
from contextlib import closing

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from tests.support.train_case import picture  # noqa: E402
from unicas_edge.bundle.manifest import TileSpec  # noqa: E402
from unicas_edge.errors import RegionError, TrainingError  # noqa: E402
from unicas_edge.sample import write_pyramid  # noqa: E402
from unicas_edge.slide import open_slide  # noqa: E402
from unicas_edge.tiles.grid import grid_of  # noqa: E402
from unicas_edge.tiles.plan import plan  # noqa: E402
from unicas_edge.tiles.quality import is_background, measure  # noqa: E402
from unicas_edge.train.encoder import tile_sources  # noqa: E402
from unicas_edge.train.encoder.tile_sources import ImageTiles, Mixed, SlideTiles  # noqa: E402
from unicas_edge.train.loop.feed import seed_all  # noqa: E402

WHITE = np.full((256, 256, 3), 245, np.uint8)
SPEC = TileSpec(size_px=256, crop_px=224, um_px=0.5, field_tiles=4, max_tiles=32)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Three slides of 8 x 8 tiles with cells but for the right half of the upper one."""
    folder = tmp_path_factory.mktemp("slides")

    def tiles(slide):
        def tile(row, col):
            white = slide == 0 and col > 3
            return WHITE if white else picture(100 * slide + 8 * row + col, 256)

        return tile

    for slide in range(3):
        write_pyramid(folder / f"{slide}.svs", 2048, 2048, tiles(slide), um_px=0.5, threads=1)
    return folder


def drawn(source, count, seed=0):
    seed_all(seed)
    with closing(source):
        return source.draw(count)


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_windows_of_images_are_drawn_by_the_seed(images):
    source = ImageTiles([images], 48)
    assert source.tiles == 12
    tiles = drawn(source, 20)
    assert {(tile.shape, tile.dtype) for tile in tiles} == {((48, 48, 3), np.dtype("u1"))}
    assert same(tiles, drawn(source, 20))
    assert not same(tiles, drawn(source, 20, seed=1))
    assert {tile.shape for tile in drawn(ImageTiles([images], 500), 3)} == {(80, 80, 3)}


def test_unreadable_images_are_listed_and_too_many_are_an_error(images, tmp_path):
    folder = shutil.copytree(images, tmp_path / "images")
    (folder / "03.png").write_bytes((folder / "03.png").read_bytes()[:200])
    (folder / "zz.jpg").write_bytes(b"no picture")
    source = ImageTiles([folder], 48, most_unreadable=0.2)
    assert source.tiles == 11
    assert [name in line for name, line in zip(("03.png", "zz.jpg"), source.left_out, strict=True)]
    drawn(source, 60)
    with pytest.raises(TrainingError, match=r"2 of 13 cannot be read, more than 10\.0%"):
        ImageTiles([folder], 48, most_unreadable=0.1)


def test_a_folder_of_nothing_readable_is_an_error_whatever_the_share(tmp_path):
    with pytest.raises(RegionError, match="no images"):
        ImageTiles([tmp_path], 48, 1.0)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(TrainingError, match="1 of 1 cannot be read"):
        ImageTiles([tmp_path], 48, 1.0)
    with pytest.raises(TrainingError, match="no data"):
        Mixed([])


def test_slides_give_the_tiles_of_the_plan_that_show_cells(slides):
    source = SlideTiles([slides], SPEC)
    assert source.tiles == 3 * 32
    tiles = drawn(source, 40)
    assert {(tile.shape, tile.dtype) for tile in tiles} == {((256, 256, 3), np.dtype("u1"))}
    assert not any(is_background(measure(tile[16:-16, 16:-16])) for tile in tiles)
    planned = set()
    for path in sorted(slides.glob("*.svs")):
        with open_slide(path, "auto", None) as slide:
            grid = grid_of(SPEC, slide.width, slide.height, slide.spacing.um_px)
            cells = plan(grid, slide.content(grid), 32)
            assert len(cells) == 32 < grid.rows * grid.cols
            planned |= {slide.read(*grid.origin(c), 256, grid.downsample).tobytes() for c in cells}
    assert {tile.tobytes() for tile in tiles} <= planned
    assert len({tile.tobytes() for tile in tiles}) > 15


def test_few_slides_stay_open_and_which_changes_nothing(slides, monkeypatch):
    wanted = drawn(SlideTiles([slides], SPEC, slides_per_draw=4), 12)
    monkeypatch.setattr(tile_sources, "_OPEN", 1)
    monkeypatch.setattr(tile_sources, "_PLANS", 1)
    with closing(SlideTiles([slides], SPEC, slides_per_draw=4)) as source:
        seed_all(0)
        assert same(source.draw(12), wanted)
        assert len(source._slides) == len(source._plans) == 1
    assert not source._slides


def test_a_draw_opens_no_more_slides_than_asked(slides, monkeypatch):
    source = SlideTiles([slides], SPEC, slides_per_draw=1)
    opened = []
    monkeypatch.setattr(tile_sources, "open_slide", lambda *a: opened.append(a) or open_slide(*a))
    assert len(drawn(source, 7)) == 7
    assert len(opened) == 1


def test_a_slide_that_cannot_be_opened_is_left_out_by_name(slides, tmp_path):
    folder = shutil.copytree(slides, tmp_path / "slides")
    (folder / "broken.svs").write_bytes(b"II*\0" + b"\xff" * 100)
    source = SlideTiles([folder], SPEC, most_unreadable=0.25)
    assert len(source.targets) == 3
    assert "broken.svs" in source.left_out[0]
    with pytest.raises(TrainingError, match=r"1 of 4 cannot be read.*broken\.svs"):
        SlideTiles([folder], SPEC)


def test_a_slide_without_cells_is_an_error_by_name(tmp_path):
    path = tmp_path / "white.svs"
    write_pyramid(path, 512, 512, lambda *_: WHITE, um_px=0.5)
    with pytest.raises(TrainingError, match=r"white\.svs: none of 200 tiles shows a cell"):
        drawn(SlideTiles([path], SPEC), 1)


def test_sources_are_mixed_by_the_tiles_that_they_have(images, slides):
    source = Mixed([ImageTiles([images], 300), SlideTiles([slides], SPEC)])
    assert source.tiles == 12 + 96
    sides = [tile.shape[0] for tile in drawn(source, 300)]
    assert len(sides) == 300
    assert 15 < sides.count(80) < 60  # 33 expected, deviation 5.4
    assert source.identity.keys() == {"images", "slides"}


def test_other_data_have_another_identity(images, tmp_path):
    other = shutil.copytree(images, tmp_path / "moved")
    assert ImageTiles([other], 48).identity == ImageTiles([images], 48).identity
    (other / "00.png").unlink()
    assert ImageTiles([other], 48).identity != ImageTiles([images], 48).identity


def test_another_process_opens_its_own_slides(slides):
    with closing(SlideTiles([slides], SPEC)) as source:
        source.draw(3)
        assert source._slides
        other = pickle.loads(pickle.dumps(source))
    assert not other._slides
    assert same(drawn(other, 5), drawn(source, 5))
