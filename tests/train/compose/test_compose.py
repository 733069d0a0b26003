"""Composed slides: the truth they state, what labels may not depend on, the files they become."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import compose_check as check
from tests.support.compose_case import make_data
from unicas_edge.bundle import Bundle
from unicas_edge.engines import open_encoder
from unicas_edge.errors import OutputError, TrainingError
from unicas_edge.slide.registry import open_slide
from unicas_edge.train.compose import pixels as px
from unicas_edge.train.compose.choice import LARGEST, NILM, TASKS, Chooser
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.set import SUBTYPES, plans, slide_tokens, token_bags, write_set
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import PARTS, TILE, load_sources

SMALL = Recipe(rows=8, columns=8, positive=(0.03, 0.1), decoys=(0, 0.05))
DECIDE = {"candida": "candidiasis", "flora": "cluecell"}
ABNORMAL = {"ascus", "lsil", "asch", "hsil", "scc", "agc"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def sources(data):
    return load_sources(data)


@pytest.fixture(scope="module")
def composer(sources):
    return Composer(sources.split("train"))


def every(labels):
    return dict.fromkeys(TASKS, labels)


def pieces(sources):
    return [*sources.lbc, *sources.cric, *sources.cells, *sources.crops]


def test_no_field_is_in_two_parts(sources):
    groups = [{piece.group for piece in pieces(sources.split(part))} for part in PARTS]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert set.union(*groups) == {piece.group for piece in pieces(sources)}
    other = {piece.group for piece in pieces(sources.split("test", fold=1))}
    assert not other & groups[PARTS.index("test")]


def test_windows_and_normal_cells_show_no_abnormal_nucleus(sources):
    by_field = {}
    for cell in sources.cells:
        by_field.setdefault(cell.group, []).append(cell)
    assert sources.cric
    for piece in [*sources.cric, *(c for c in sources.cells if c.kind == "nilm")]:
        for cell in by_field[piece.group]:
            far = max(
                abs(cell.x - piece.x) - piece.width / 2, abs(cell.y - piece.y) - piece.height / 2
            )
            assert cell.kind == "nilm" or far > 0


@pytest.mark.parametrize("background", ["lbc", "cric"])
def test_what_decides_a_task_is_there_exactly_where_the_label_says_so(composer, background):
    for seed in range(5):
        slide = composer.plan(seed, recipe=replace(SMALL, background=background))
        kinds = {i.kind for i in slide.insertions}
        decided = dict.fromkeys(TASKS, False) | {
            task: kind in kinds for kind, task in DECIDE.items()
        }
        decided["cancer"] = bool(kinds & ABNORMAL)
        assert decided == slide.labels
        counts = slide.truth()["decisive_tiles"]
        for task in TASKS:
            low, high = SMALL.positive if slide.labels[task] else (0, 0)
            assert np.floor(low * 64) <= counts[task] <= np.ceil(high * 64)
        assert (slide.subtype == NILM) == (not slide.labels["cancer"])
        assert all(
            i.decisive == (DECIDE.get(i.kind) == i.task or i.kind in ABNORMAL)
            for i in slide.insertions
        )


def test_the_background_and_the_number_of_insertions_do_not_depend_on_the_labels(composer):
    for seed in range(2):
        one, other = (composer.plan(seed, every(label), SMALL) for label in (False, True))
        assert one.background == other.background
        assert one._tiles == other._tiles
        assert np.array_equal(one._gain, other._gain)
    fixed = replace(SMALL, positive=(0.05, 0.05), decoys=(0.03, 0.03))
    counts = {len(composer.plan(1, every(label), fixed).insertions) for label in (False, True)}
    assert counts == {3 * (3 + 2)}


def test_cancers_normal_cells_come_from_the_fields_of_the_abnormal_ones(composer):
    rng = np.random.default_rng(0)
    for origin in ("lbc", "cric"):
        chooser = Chooser(composer.pools, rng, origin, "lsil")
        drawn = {
            True: [chooser.decisive("cancer") for _ in range(200)],
            False: [chooser.decoy("cancer") for _ in range(200)],
        }
        cric = {
            d: [c for c in chosen if c.piece.kind in {"lsil", "nilm"} and c.piece.origin == "cric"]
            for d, chosen in drawn.items()
        }
        assert {c.piece.group for c in cric[True]} == {c.piece.group for c in cric[False]}
        shares = [np.mean([c.native for c in cric[d]]) for d in (True, False)]
        assert abs(shares[0] - shares[1]) < 0.25
        assert (shares[0] == 1) == (origin == "cric")


def test_the_same_seed_gives_the_same_slide_and_another_another(composer):
    first, again, other = (composer.plan(seed, every(True), SMALL) for seed in (3, 3, 4))
    assert first.truth() == again.truth() != other.truth()
    assert np.array_equal(first.tile(2, 5), again.tile(2, 5))


def test_a_written_slide_is_its_bag_and_its_truth(composer, tmp_path):
    slide = composer.plan(5, every(True), replace(SMALL, background="lbc"))
    path = tmp_path / "one.svs"
    truth = json.loads(slide.write(path).read_text())
    bag = list(slide.bag())
    with open_slide(path) as read:
        assert (read.width, read.height) == (8 * TILE, 8 * TILE)
        assert read.spacing.um_px == pytest.approx(0.5)
        for row, column in ((0, 0), (3, 6), (7, 7)):
            got = read.read(column * TILE, row * TILE, TILE, 1.0)
            assert np.array_equal(got, bag[row * 8 + column])
    assert truth["labels"] == every(True)
    assert truth["part"] == "train"
    for inserted in truth["insertions"]:
        (row, column), (x, y, width, height) = inserted["tile"], inserted["box"]
        assert column * TILE <= x
        assert x + width <= (column + 1) * TILE
        assert row * TILE <= y
        assert y + height <= (row + 1) * TILE
        assert inserted["centre"] == [x + width / 2, y + height / 2]
        assert inserted["native"] or max(width, height) <= LARGEST
        assert inserted["field"] in truth["fields"]


def test_a_pasted_cell_is_seen_where_the_truth_says(composer):
    recipe = replace(SMALL, background="lbc", stain=0, blur=0)
    slide = composer.plan(1, every(True), recipe)
    flora = next(i for i in slide.insertions if i.kind == "flora")
    tile = slide.tile(*flora.tile)
    x, y = (int(c) % TILE for c in flora.centre)
    red, _, blue = tile[y - 3 : y + 4, x - 3 : x + 4].mean(axis=(0, 1))
    assert blue > red + 50  # the mark of the test's flora is blue


def test_density_takes_glass_to_nothing_and_light_takes_it_back():
    stain = px.Stain((240.0, 242.0, 244.0), (0.3, 0.5, 0.2))
    table = px.densities(stain, stain.mean)
    assert np.allclose(table[[240, 242, 244], [0, 1, 2]], 0)
    grey = px.light(table, np.ones(3, np.float32))
    assert (np.diff(grey.astype(int), axis=0) >= 0).all()
    assert (grey[[240, 242, 244], [0, 1, 2]] == px.WHITE).all()


@pytest.mark.parametrize(("size", "round_"), [((40, 200), False), ((96, 96), True)])
def test_a_mask_is_whole_inside_and_nothing_at_the_border(size, round_):
    mask = px.feather(*size, round_=round_)
    assert mask.shape == size
    assert mask.max() > 0.9
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert border.max() < 0.35
    assert mask.min() >= 0


def test_the_label_of_noise_is_not_predicted_and_that_of_a_signal_is():
    half = slice(0, 80), slice(80, 160)
    chances = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels, noise = rng.random(160) < 0.5, rng.normal(size=(160, 6))
        sets = [(noise[h], labels[h]) for h in half]
        chances.append(check.label_auc(*sets, bootstraps=100).chance)
    assert sum(chances) >= 9  # of an interval of 95%
    signal = noise + labels[:, None]
    told = check.label_auc(*[(signal[h], labels[h]) for h in half], bootstraps=100)
    assert told.low > 0.8
    assert not told.chance
    with pytest.raises(TrainingError, match="10 of each"):
        check.label_auc((noise[:30], labels[:30] & False), sets[1])


def test_backgrounds_of_real_slides_tell_no_label(data_dir):
    sources = load_sources(data_dir).split("val")
    recipe = Recipe(rows=6, columns=6)
    sets = []
    for seed in (0, 1):
        made = [slide for _, slide in plans(Composer(sources), 24, seed, recipe)]
        sets.append(([check.background_features(s, 4) for s in made], [s.labels for s in made]))
    for task in TASKS:
        fit, held = (([*f], [label[task] for label in labels]) for f, labels in sets)
        found = check.label_auc(fit, held, bootstraps=200)
        # 24 slides: an interval that leaves out 0.5 by chance is not a failure, a cue is
        assert found.low <= 0.65
        assert found.high >= 0.35


def test_a_set_has_every_combination_of_labels_equally_often(composer):
    names, slides = zip(*plans(composer, 16, 2, SMALL), strict=True)
    made = [tuple(slide.labels.values()) for slide in slides]
    assert {made.count(combination) for combination in set(made)} == {2}
    assert len(set(made)) == 8
    assert len(set(names)) == 16


def test_a_written_set_has_a_table_and_is_not_replaced_unasked(composer, tmp_path):
    recipe = Recipe(rows=3, columns=3)
    table = write_set(composer, tmp_path / "set", 2, recipe=recipe)
    head, *rows = table.read_text().splitlines()
    assert head == "name,cancer,candidiasis,cluecell,subtype"
    for row in rows:
        name, *labels = row.split(",")
        truth = json.loads((table.parent / f"{name}.truth.json").read_text())
        assert [bool(int(n)) for n in labels[:3]] == list(truth["labels"].values())
        assert SUBTYPES[int(labels[3])] == truth["subtype"]
        assert (table.parent / f"{name}.svs").stat().st_size > 1000
    with pytest.raises(OutputError, match="force"):
        write_set(composer, table.parent, 2, recipe=recipe)


def test_tokens_of_a_planned_slide_are_those_of_screening_the_written_one(composer, tmp_path):
    import unicas_edge

    slide = composer.plan(8, every(True), Recipe(rows=4, columns=5))
    path = tmp_path / "slide.svs"
    slide.write(path)
    bundle = Bundle.load()
    result = unicas_edge.screen(path, colour="none")
    with contextlib.closing(open_encoder(bundle)) as encoder:
        tokens = slide_tokens(slide, bundle, encoder)
    assert tokens.shape == result.features.shape
    assert np.allclose(tokens, result.features, atol=1e-5)


def test_bags_that_are_kept_are_not_made_again_and_are_those_of_slides(composer, tmp_path):
    bundle, recipe = Bundle.load(), replace(SMALL, rows=4, columns=4)
    with contextlib.closing(open_encoder(bundle)) as encoder:
        made = token_bags(composer, bundle, encoder, 2, recipe=recipe, folder=tmp_path / "bags")
        plain = token_bags(composer, bundle, encoder, 2, recipe=recipe)
    # an encoder that is closed: nothing is left to encode
    again = token_bags(composer, bundle, encoder, 2, recipe=recipe, folder=tmp_path / "bags")
    for k in range(2):
        assert np.array_equal(made.tokens(k), plain.tokens(k))
        assert np.array_equal(again.tokens(k), plain.tokens(k))
    assert np.array_equal(made.labels, plain.labels)


def test_unreadable_pictures_are_named_and_too_many_are_an_error(data, tmp_path):
    import shutil

    root = tmp_path / "data"
    shutil.copytree(data, root)
    broken = root / "lbc_tiles" / "a" / "8_0_0_00.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    assert [
        broken.name in line for line in load_sources(root, unreadable_share=0.1).unreadable
    ] == [True]
    with pytest.raises(TrainingError, match=r"1 of 40 pictures cannot be read"):
        load_sources(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("f1.jpg,9,LSIL,5000,10,", "outside"),
        ("f1.jpg,9,unheard-of,50,10,", "unheard-of"),
        ("f1.jpg,9,LSIL,nan,10,", "cells.csv"),
    ],
)
def test_a_bad_list_of_cells_is_refused(data, tmp_path, change, message):
    import shutil

    root = tmp_path / "data"
    shutil.copytree(data, root)
    with (root / "cric" / "cells.csv").open("a") as file:
        file.write(change + "\n")
    with pytest.raises(TrainingError, match=message):
        load_sources(root)


def test_empty_folders_and_recipes_that_mean_nothing_are_refused(sources, tmp_path):
    with pytest.raises(TrainingError, match="0 of 0 pictures"):
        load_sources(tmp_path)
    with pytest.raises(TrainingError, match="no part"):
        sources.split("all")
    with pytest.raises(TrainingError, match="nothing to compose"):
        Composer(replace(sources, crops=tuple(c for c in sources.crops if c.kind != "flora")))
    for wrong in ({"positive": (0.2, 0.3)}, {"rows": 0}, {"decoys": (-0.1, 0)}):
        with pytest.raises(TrainingError):
            Recipe(**wrong)


def test_a_crop_of_too_large_a_picture_shows_its_middle(tmp_path):
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[120:180, 120:180] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    piece = load_piece(tmp_path / "p.png")
    assert px.cut(piece, 60).mean() == 255
    assert px.cut(piece, 60, (1, 1)).mean() == 0


def load_piece(path: Path):
    from unicas_edge.train.compose.sources import Piece

    return Piece(path, "comparison", "flora", "g", "s", 150, 150, 300, 300)
