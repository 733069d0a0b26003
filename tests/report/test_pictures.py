"""The pictures: bounded, nothing clipped, nothing on top of something else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tests.support.report_case import CAUTIONS, make_overview, make_result, tile_pixels
from unicas_edge.errors import TileError
from unicas_edge.report.pictures import draw as drawing
from unicas_edge.report.pictures.contact import draw_contact
from unicas_edge.report.pictures.heatmap import attention, draw_heat
from unicas_edge.report.pictures.overview import MAX_SIDE, draw_overview
from unicas_edge.report.pictures.palette import DECISIONS
from unicas_edge.result import NOTICE, OUTSIDE, Adequacy, Confidence

LONG = "trichomonas vaginalis with an exceedingly long name that nobody ever wanted to read"
CASES = {
    "square": {},
    "trained": {"trained": True},
    "demonstration": {"trained": True, "demonstration": True},
    "tall": {"width": 9000, "height": 36_000},
    "wide": {"width": 60_000, "height": 9000},
    "one tile": {"width": 300, "height": 200},
    "strip": {"width": 200_000, "height": 300, "keep": 50},
    "many tasks": {"tasks": ("a", "b", LONG, "d", "e", "f", "g")},
    "no task": {"tasks": ()},
}


@pytest.fixture
def written(monkeypatch):
    """Every text drawn, as (text, box), through the real drawing."""
    found = []
    real = ImageDraw.ImageDraw.text

    def record(self, xy, text, *args, **kwargs):
        box = self.textbbox(xy, text, font=kwargs["font"], anchor=kwargs.get("anchor"))
        found.append((text, box, self.im.size))
        return real(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    return found


def check_texts(found) -> None:
    for text, box, (width, height) in found:
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
        assert inside, f"{text!r} is clipped: {box} in {width} x {height}"
    for index, (text, box, size) in enumerate(found):
        for other, rival, rival_size in found[index + 1 :]:
            apart = (
                box[2] <= rival[0] or rival[2] <= box[0] or box[3] <= rival[1] or rival[3] <= box[1]
            )
            assert apart or size != rival_size, f"{text!r} {box} overlaps {other!r} {rival}"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["case 17.svs", "µ宫颈\n" + "very long name " * 12])
def test_no_text_is_clipped_or_overlaps(case, name, written):
    result = make_result(**CASES[case])
    slide = result.slide.model_copy(update={"name": name})
    poor = Adequacy(
        satisfactory=False,
        reasons=["only 12 of 900 tiles could be read"] * 9,
        cellular_tiles=1,
        in_focus_tiles=1,
    )
    for changes in ({"slide": slide}, {"slide": slide, "adequacy": poor}):
        changed = result.model_copy(update=changes)
        for draw in (
            lambda it: draw_overview(it, make_overview()),
            lambda it: draw_contact(it, tile_pixels),
        ):
            written.clear()
            draw(changed)
            # the numbers on a heat map are drawn on a picture of their own
            check_texts([item for item in written if not item[0].isdecimal()])


SETS = [["positive"], ["negative", "positive"], []]


def with_sets(result):
    """The same result, with a set beside each probability."""
    tasks = [
        task.model_copy(
            update={"confidence": Confidence(coverage=0.9, slides=200, classes=SETS[number % 3])}
        )
        for number, task in enumerate(result.tasks)
    ]
    return result.model_copy(update={"tasks": tasks})


@pytest.mark.parametrize("case", CASES)
def test_sets_are_shown_beside_each_probability(case, written):
    result = with_sets(make_result(**CASES[case]))
    for draw in DRAWN:
        written.clear()
        draw(result)
        check_texts([item for item in written if not item[0].isdecimal()])
        texts = [text for text, _, _ in written]
        for task in result.tasks:
            assert any(task.confidence.words[:20] in text for text in texts)


def test_a_slide_outside_what_the_bundle_knows_is_marked(written):
    result = make_result(trained=True)
    outside = result.adequacy.model_copy(
        update={"satisfactory": False, "reasons": [f"{OUTSIDE}: x"] * 9, "known": False}
    )
    for draw in DRAWN:
        for adequacy, shown in ((outside, True), (result.adequacy, False)):
            written.clear()
            draw(result.model_copy(update={"adequacy": adequacy}))
            check_texts([item for item in written if not item[0].isdecimal()])
            assert ("Outside what this bundle knows" in [t for t, _, _ in written]) is shown


@pytest.mark.parametrize("case", CASES)
def test_the_overview_is_bounded(case):
    image = draw_overview(make_result(**CASES[case]), make_overview())
    assert image.width <= MAX_SIDE
    assert image.height <= MAX_SIDE * 1.25


DRAWN = [
    lambda it: draw_overview(it, make_overview()),
    lambda it: draw_contact(it, tile_pixels),
]


def coloured(picture) -> bool:
    """Whether anything on the page has the colour of a positive decision."""
    return bool((np.asarray(picture) == DECISIONS["positive"]).all(axis=-1).any())


@pytest.mark.parametrize("draw", DRAWN)
@pytest.mark.parametrize(("weights", "caution"), CAUTIONS)
def test_cautions_and_research_use_are_said_and_decisions_are_not(written, draw, weights, caution):
    for changes in ({}, {"notices": []}):  # a result that lost its notices is no reason for trust
        written.clear()
        picture = draw(make_result(**weights, **changes))
        texts = [text for text, _, _ in written]
        assert caution.capitalize() in texts
        assert NOTICE.capitalize() in texts
        assert f"{caution.split()[0]}: positive" in texts
        assert "POSITIVE" not in texts
        assert not coloured(picture)


@pytest.mark.parametrize("draw", DRAWN)
def test_decisions_of_trained_weights_are_said_without_caution(written, draw):
    picture = draw(make_result(trained=True))
    texts = [text for text, _, _ in written]
    assert not {caution.capitalize() for _, caution in CAUTIONS} & set(texts)
    assert "POSITIVE" in texts
    assert coloured(picture)


def test_the_hottest_tile_is_where_the_attention_is():
    result = make_result(width=4096, height=4096, downsample=1.0, keep=256)
    task = result.tasks[0].model_copy(update={"top_tiles": []})
    white = Image.new("RGB", (512, 512), (255, 255, 255))
    picture, top = draw_heat(white, result, task)
    tiles, shares = attention(result, task)
    assert top == shares.max()
    hottest = tiles[int(shares.argmax())]
    x, y = (hottest["minx"] + 128) // 8, (hottest["miny"] + 128) // 8
    red, green, _ = np.asarray(picture)[y, x].astype(int)
    rest = np.asarray(picture)[..., 1]
    assert green == rest.min()
    assert red > green + 80


def test_no_outline_crosses_a_number(monkeypatch):
    calls = []
    for name in ("rectangle", "line", "rounded_rectangle"):
        real = getattr(ImageDraw.ImageDraw, name)

        def record(self, *args, _real=real, _name=name, **kwargs):
            calls.append(_name)
            return _real(self, *args, **kwargs)

        monkeypatch.setattr(ImageDraw.ImageDraw, name, record)
    result = make_result(width=2000, height=1500, keep=40)
    draw_heat(Image.new("RGB", (800, 600)), result, result.tasks[0])
    plates = [index for index, name in enumerate(calls) if name == "rounded_rectangle"]
    assert len(plates) == 3
    assert "line" not in calls[plates[0] :]
    assert set(calls[: plates[0]]) == {"rectangle", "line"}


def test_a_tile_that_cannot_be_read_says_why(written):
    def broken(x, y):
        raise TileError("slide.svs", x, y, "corrupt JPEG")

    draw_contact(make_result(), broken)
    assert [text for text, _, _ in written].count("corrupt JPEG") == 30
    draw_contact(make_result(), {})
    assert "pixels not kept" in [text for text, _, _ in written]


def test_the_contact_sheet_shows_the_tiles_themselves():
    result = make_result(tasks=("cancer",), trained=True)
    sheet = np.asarray(draw_contact(result, tile_pixels))
    for tile in result.tasks[0].top_tiles:
        colour = tile_pixels(tile.x, tile.y)[0, 0]
        assert (sheet == colour).all(axis=-1).sum() >= 256 * 256 - 4 * 256


@given(st.text(max_size=200), st.integers(10, 40), st.integers(40, 600))
def test_text_always_fits(text, size, width):
    fitted = drawing.fit(text, size, width)
    assert drawing.text_width(fitted, size) <= width
    assert len(drawing.wrap(text, size, width, 3)) <= 3


@given(st.floats(0.01, 1e6))
def test_scale_bars_have_round_lengths_within_their_limit(limit):
    length, label = drawing.nice_length(limit)
    assert 0.39 * limit <= length <= limit * 1.000001
    assert label.split()[1] in {"um", "mm"}


def test_heat_runs_from_pale_to_dark():
    colours = drawing.heat(np.linspace(0, 1, 50)).astype(int).sum(axis=1)
    assert (np.diff(colours) <= 0).all()
