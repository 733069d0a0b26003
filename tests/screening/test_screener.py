"""From a file to a result, and the same result pushed tile by tile: real engine, real bundle."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unicas_edge
from unicas_edge.bundle import Bundle
from unicas_edge.engines import open_encoder
from unicas_edge.result import caution
from unicas_edge.sample import write_sample
from unicas_edge.screening.feed import sampled
from unicas_edge.screening.options import Options
from unicas_edge.screening.screener import Screener
from unicas_edge.screening.session import Session
from unicas_edge.slide import open_slide
from unicas_edge.tiles.grid import grid_for
from unicas_edge.tiles.plan import plan


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "sample.svs"
    write_sample(path, 3300, 2700, seed=5)
    return path


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def encoder(bundle):
    encoder = open_encoder(bundle)
    yield encoder
    encoder.close()


def push_all(path, bundle, encoder, *, max_tiles, scored, colour=None):
    """Feed every tile of a slide to a session in a shuffled order, as no scanner would."""
    with open_slide(path) as slide:
        size = {"width": slide.width, "height": slide.height, "um_px": slide.spacing.um_px}
        with Session(
            bundle,
            **size,
            max_tiles=max_tiles,
            encoder=encoder,
            colour=colour,
        ) as session:
            grid = session.grid
            scores = slide.content(grid) if scored else None
            cells = [(r, c) for r in range(grid.rows) for c in range(grid.cols)]
            random.Random(1).shuffle(cells)
            for cell in cells:
                x, y = grid.origin(cell)
                if scores is not None and scores[cell] == 0:
                    session.skip(x, y)
                    continue
                tile = slide.read(x, y, grid.tile, grid.downsample)
                session.push(tile, x, y, None if scores is None else float(scores[cell]))
            return session.finish()


def assert_same(file_result, session_result) -> None:
    assert file_result.features.tobytes() == session_result.features.tobytes()
    assert file_result.tiles.tobytes() == session_result.tiles.tobytes()
    for field in ("tasks", "coverage", "adequacy", "bundle", "preprocessing", "engine"):
        assert getattr(file_result, field) == getattr(session_result, field), field


@pytest.mark.parametrize("max_tiles", [20, 40])
def test_pushing_gives_the_bits_the_file_gave(sample, bundle, encoder, max_tiles):
    from_file = unicas_edge.screen(sample, bundle, max_tiles=max_tiles, colour="none")
    assert from_file.coverage.encoded > 10
    assert_same(from_file, push_all(sample, bundle, encoder, max_tiles=max_tiles, scored=True))


def test_the_same_holds_for_scores_from_luma(tmp_path, sample, bundle, encoder):
    with open_slide(sample) as slide:
        pixels = slide.overview(1300)
    path = tmp_path / "plain.png"
    Image.fromarray(pixels).save(path)
    from_file = unicas_edge.screen(path, bundle, max_tiles=18, mpp=0.5, colour="none")
    with open_slide(path, mpp=0.5) as slide:
        assert slide.content(grid_for(bundle, slide.width, slide.height, 0.5)) is None
        grid = grid_for(bundle, slide.width, slide.height, 0.5)
        with Session(
            bundle, width=slide.width, height=slide.height, um_px=0.5, max_tiles=18, encoder=encoder
        ) as session:
            for col in range(grid.cols):
                for row in range(grid.rows):
                    x, y = grid.origin((row, col))
                    session.push(slide.read(x, y, 256, 1.0), x, y)
            assert_same(from_file, session.finish())


@pytest.mark.parametrize("mode", ["white-balance", "reinhard"])
def test_and_with_a_fitted_colour_matrix(sample, bundle, encoder, mode):
    if mode == "reinhard" and bundle.manifest.colour.target is None:
        pytest.skip("the bundle has no colour target")
    from_file = unicas_edge.screen(sample, bundle, max_tiles=20, colour=mode)
    with open_slide(sample) as slide:
        grid = grid_for(bundle, slide.width, slide.height, slide.spacing.um_px)
        cells = plan(grid, slide.content(grid), 20)
        fit = unicas_edge.fit_colour(bundle, sampled(slide, grid, cells), mode)
    pushed = push_all(sample, bundle, encoder, max_tiles=20, scored=True, colour=fit)
    assert_same(from_file, pushed)
    plain = unicas_edge.screen(sample, bundle, max_tiles=20, colour="none")
    assert not np.array_equal(plain.features, from_file.features)


def test_the_result_says_how_it_was_made(sample, bundle):
    with Screener(bundle, Options(max_tiles=20)) as screener:
        stages: set[str] = set()
        screened = screener.screen(sample, progress=lambda stage, *_: stages.add(stage))
    result = screened.result
    assert result.slide.sha256 == hashlib.sha256(sample.read_bytes()).hexdigest()
    assert result.slide.size_bytes == sample.stat().st_size
    assert result.bundle.files["bundle.json"] == bundle.digest
    assert {"plan", "tiles", "encode", "aggregate", "total"} <= set(result.timings_seconds)
    assert result.notices[0] == caution(bundle.manifest) == caution(result.bundle)
    assert result.notices[0]
    assert stages == {"tiles"}
    assert max(screened.overview.shape) <= 1600
    for task in result.tasks:
        assert [tile.attention for tile in task.top_tiles] == sorted(
            (tile.attention for tile in task.top_tiles), reverse=True
        )
        assert {(tile.x, tile.y) for tile in task.top_tiles} <= set(screened.top_tiles)
        column = result.tiles[f"prob_{task.name}"]
        assert column.sum() == pytest.approx(1, abs=1e-4)


def test_a_slide_in_twos_resolution_is_read_at_the_bundles(tmp_path, bundle):
    path = tmp_path / "fine.svs"
    write_sample(path, 2100, 2100, seed=5, um_px=0.25)
    result = unicas_edge.screen(path, bundle, max_tiles=16)
    assert result.preprocessing.downsample == 2
    assert result.preprocessing.um_px == pytest.approx(0.5)
    assert result.coverage.grid_tiles == 25
    assert set(result.tiles["width"]) == {512}


def test_many_broken_tiles_make_it_unsatisfactory(tmp_path, bundle):
    path = tmp_path / "broken.svs"
    write_sample(path, 1600, 1300, seed=5)
    data = bytearray(path.read_bytes())
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        for offset, count in list(zip(page.dataoffsets, page.databytecounts, strict=True))[::2]:
            data[offset + count // 2 : offset + count - 2] = bytes(count - count // 2 - 2)
    path.write_bytes(data)
    result = unicas_edge.screen(path, bundle, max_tiles="all")
    assert result.coverage.failed > result.coverage.planned / 4
    assert all(failure.cause for failure in result.coverage.failures)
    assert {task.decision for task in result.tasks} == {"unsatisfactory"}
