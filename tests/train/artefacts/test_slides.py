"""Slides of artefacts: every design gives a picture, the same from the same seed, as a file too."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.support.compose_case import make_data
from unicas_edge.cli import main
from unicas_edge.errors import OutputError, TrainingError
from unicas_edge.slide.registry import open_slide
from unicas_edge.train.artefacts.designs import DESIGNS, NEEDS
from unicas_edge.train.artefacts.material import load_material
from unicas_edge.train.artefacts.plane import Noise, Window, light_of
from unicas_edge.train.artefacts.scene import Scene, fading, lamp
from unicas_edge.train.artefacts.slides import ArtefactSlide, artefact_slides, write_artefacts
from unicas_edge.train.artefacts.tiles import PICTURES
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import load_sources

SMALL = Recipe(rows=3, columns=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def composer(data):
    return Composer(load_sources(data).split("train"))


@pytest.fixture(scope="module")
def material(composer):
    """Tiles of the test's own slides, and pictures of a kind for what is not part of them."""
    found = load_material(composer.pools.sources, most=40)
    rng = np.random.default_rng(0)
    large = light_of(rng.integers(0, 256, (300, 400, 3), np.uint8))
    pictures = {s: (large * 255).astype(np.uint8) for s in PICTURES}
    return replace(found, pictures=pictures | found.pictures)


@pytest.mark.parametrize("design", DESIGNS)
def test_a_design_gives_every_tile_and_the_same_again(design, composer, material):
    one, again = (ArtefactSlide(design, 3, composer, material, SMALL) for _ in range(2))
    for place in ((0, 0), (2, 3), (1, 1)):
        tile = one.tile(*place)
        assert tile.shape == (256, 256, 3)
        assert tile.dtype == np.uint8
        assert np.array_equal(tile, again.tile(*place))
    assert one.truth() == again.truth()
    assert one.truth()["adequate"] is False
    assert one.sources or design == "empty glass"


def test_forty_slides_are_of_more_than_twenty_designs(composer, material):
    slides = [slide for _, slide in artefact_slides(0, 40, composer, material, SMALL)]
    assert len({slide.design for slide in slides}) == len(DESIGNS) == 40
    held = [slide for slide in slides if slide.truth()["held_out_sources"]]
    assert len(held) >= 12  # made otherwise than what a gate is taught with
    names = [name for name, _ in artefact_slides(0, 5, composer, material, SMALL)]
    assert len(set(names)) == 5
    again = [slide.design for _, slide in artefact_slides(0, 7, composer, material, SMALL)]
    assert again == [slide.design for slide in slides[:7]]
    assert again != [slide.design for _, slide in artefact_slides(1, 7, composer, material, SMALL)]


def test_designs_without_their_picture_are_passed_over(composer, material):
    bare = replace(material, pictures={})
    designs = {s.design for _, s in artefact_slides(0, 60, composer, bare, SMALL)}
    assert designs == set(DESIGNS) - set(NEEDS)
    with pytest.raises(TrainingError, match="no picture histology/cmu"):
        ArtefactSlide("histology", 0, composer, bare, SMALL)
    for count, seed in ((0, 0), (1, -1), (10**9, 0)):
        with pytest.raises(TrainingError, match="give 1 to"):
            next(artefact_slides(seed, count, composer, material))


def test_a_picture_goes_on_over_the_tiles(composer, material):
    scene = Scene(np.random.default_rng(0), 3, 4, material, composer)
    rows = np.linspace(0, 255, 100).astype(np.uint8)[:, None, None]
    material.pictures["ramp"] = np.broadcast_to(rows, (100, 100, 3))
    ground = scene.picture("ramp")
    column = np.concatenate([ground(row, 2)[:, 128, 0] for row in range(3)])
    steps = np.diff(column)
    assert steps.max() < 0.02
    assert (steps[:750] >= -1e-3).all()  # 100 rows over 1024 pixels of the larger side
    del material.pictures["ramp"]


def test_few_cells_are_on_few_tiles(composer, material):
    scene = Scene(np.random.default_rng(0), 30, 30, material, composer)
    ground = scene.few(0.03)
    with_cells = [ground(k // 30, k % 30).min() < 0.7 for k in range(900)]
    assert 9 <= sum(with_cells) <= 60


def test_a_share_of_the_tiles_is_what_it_says(composer, material):
    scene = Scene(np.random.default_rng(0), 20, 20, material, composer)
    one, other = (lambda _r, _c, v=v: np.full((1,), v) for v in (0, 1))
    ground = scene.mostly(0.9, one, other)
    assert np.mean([ground(r, c)[0] for r in range(20) for c in range(20)]) == pytest.approx(0.1)


def test_a_fading_layer_covers_about_its_share():
    glass = np.ones((256, 256, 3), np.float32)
    for share in (0.2, 0.6):
        covered = []
        for seed in range(6):
            rng = np.random.default_rng(seed)
            layer = fading(lamp(rng, 0.1, 0.1001), rng, share)
            places = range(0, 6144, 512)
            covered += [layer(glass, Window(y, x)).mean() < 0.55 for y in places for x in places]
        assert np.mean(covered) == pytest.approx(share, abs=0.2)


def test_a_written_slide_is_read_again_with_its_truth(composer, material, tmp_path):
    told = []
    table = write_artefacts(
        composer,
        material,
        tmp_path / "set",
        3,
        recipe=SMALL,
        tell=lambda path, slide: told.append((path.stem, slide)),
    )
    head, *rows = table.read_text().splitlines()
    assert head == "name,design,sources"
    assert [row.split(",")[0] for row in rows] == [name for name, _ in told]
    for name, slide in told:
        truth = json.loads((table.parent / f"{name}.truth.json").read_text())
        assert truth["design"] == slide.design
        bag = list(slide.bag())
        with open_slide(table.parent / f"{name}.svs") as read:
            assert (read.width, read.height) == (4 * 256, 3 * 256)
            assert np.array_equal(read.read(256, 512, 256, 1.0), bag[2 * 4 + 1])
    with pytest.raises(OutputError, match="force"):
        write_artefacts(composer, material, table.parent, 3, recipe=SMALL)


def test_the_command_line_writes_them(data, tmp_path, monkeypatch, capsys):
    words = ["train", "compose", data, "-o", tmp_path / "out", "--artefacts", "--slides", 2]
    words += ["--rows", 3, "--columns", 3]
    monkeypatch.setattr("sys.argv", ["unicas-edge", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "2 slides of artefacts; each must be refused" in said
    assert len(list((tmp_path / "out").glob("*.svs"))) == 2
    assert (tmp_path / "out" / "artefacts.csv").exists()


def test_noise_of_the_plane_does_not_soon_repeat():
    noise = Noise(np.random.default_rng(0))
    one = noise.over(Window(), 5)
    for step in range(16, 600, 8):
        other = noise.over(Window(step, step), 5)
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3
