"""Tiles drawn on the slide: attention shares as heat, and the tiles that could not be used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unicas_edge.report.pictures.draw import heat, text_width, write
from unicas_edge.report.pictures.layout import SMALL, percent
from unicas_edge.report.pictures.palette import BLURRED, FAILED, INK, MUTED, PAPER, RGB
from unicas_edge.report.tiles_csv import PROBABILITY
from unicas_edge.result import SlideResult, TaskResult

Frame = tuple[int, int, int, int]

#: A tile is drawn at least this large, however small the slide is drawn.
MIN_SIDE = 3
NUMBERED = 3
BAR_HEIGHT = 11
NOT_ENCODED = "grey: not encoded"


def draw_heat(
    small: Image.Image, result: SlideResult, task: TaskResult
) -> tuple[Image.Image, float]:
    """Return the faded slide under the task's attention shares, and the greatest share.

    Colour goes with the square root of the share over the greatest, as a few tiles hold most of
    the mass; the hottest tiles are drawn last and the first `NUMBERED` carry their rank.
    """
    tiles, shares = attention(result, task)
    top = float(shares.max(initial=0.0))
    overlay = Image.new("RGBA", small.size)
    pen = ImageDraw.Draw(overlay)
    relative = np.sqrt(shares / top) if top > 0 else np.zeros(len(shares))
    frames = scaled(tiles, result, small.size)
    colours = heat(relative)
    for index in np.argsort(relative, kind="stable").tolist():
        alpha = round(60 + 180 * float(relative[index]))
        pen.rectangle(frames[index], fill=(*colours[index].tolist(), alpha))
    picture = Image.alpha_composite(faded(small).convert("RGBA"), overlay).convert("RGB")
    _number(ImageDraw.Draw(picture), result, task, small.size)
    return picture, top


def attention(
    result: SlideResult, task: TaskResult
) -> tuple[NDArray[np.void], NDArray[np.float64]]:
    """Return the encoded tiles and each one's share of the task's attention, float64 [N].

    Without the tile table (a result loaded from disk) the top tiles are all there is.
    """
    name = PROBABILITY + task.name
    if result.tiles is not None and name in (result.tiles.dtype.names or ()):
        tiles = result.tiles[result.tiles["token"] >= 0]
        shares = np.nan_to_num(tiles[name].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        return tiles, np.clip(shares, 0.0, None)
    columns = [("minx", "i8"), ("miny", "i8"), ("width", "i8"), ("height", "i8")]
    rows = [(tile.x, tile.y, tile.width, tile.height) for tile in task.top_tiles]
    shares = np.array([tile.attention for tile in task.top_tiles], np.float64)
    return np.array(rows, columns), np.clip(shares, 0.0, None)


def scaled(tiles: NDArray[np.void], result: SlideResult, size: tuple[int, int]) -> list[Frame]:
    """Return the frames of `tiles` in pixels of a picture of the slide of this `size`."""
    edges: list[Any] = []
    for start, extent, limit, full in (
        ("minx", "width", size[0], result.slide.width),
        ("miny", "height", size[1], result.slide.height),
    ):
        first = np.floor(tiles[start] * (limit / full)).astype(int)
        last = np.ceil((tiles[start] + tiles[extent]) * (limit / full)).astype(int) - 1
        edges.append((first, np.maximum(last, first + MIN_SIDE - 1)))
    (left, right), (top, bottom) = edges
    stacked = np.stack([left, top, right, bottom], axis=1)
    return [(row[0], row[1], row[2], row[3]) for row in stacked.tolist()]


def faded(small: Image.Image) -> Image.Image:
    """Return the slide in pale grey, so that colour means attention and nothing else."""
    return small.convert("L").point([255 - round((255 - grey) * 0.55) for grey in range(256)])


def draw_marks(small: Image.Image, result: SlideResult) -> tuple[Image.Image, int, int]:
    """Return the slide with unusable tiles marked; how many are unreadable and out of focus."""
    picture = small.copy()
    if result.tiles is None:
        return picture, result.coverage.failed, 0
    failed = result.tiles["status"] == "failed"
    blurred = (result.tiles["token"] >= 0) & ~result.tiles["in_focus"]
    pen = ImageDraw.Draw(picture, "RGBA")
    for chosen, colour, crossed in ((blurred, BLURRED, False), (failed, FAILED, True)):
        for frame in scaled(result.tiles[chosen], result, small.size):
            draw_mark(pen, frame, colour, crossed=crossed)
    return picture, int(failed.sum()), int(blurred.sum())


def draw_mark(draw: ImageDraw.ImageDraw, frame: Frame, colour: RGB, *, crossed: bool) -> None:
    """Draw an outlined tile, crossed out if it could not be read."""
    left, top, right, bottom = frame
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=PAPER)
    draw.rectangle(frame, outline=colour)
    if crossed and right - left >= 5:
        draw.line((left, top, right, bottom), fill=colour)
        draw.line((left, bottom, right, top), fill=colour)


def draw_colour_bar(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], room: int, top: float
) -> None:
    """Draw the key to the heat: shares from 0 to `top`, placed as the colours are."""
    x, y = place
    title = "share of attention"
    if top <= 0:
        write(
            draw,
            (x, y + 10),
            "no attention: no tile may carry a decision",
            SMALL,
            MUTED,
            width=room,
            anchor="lm",
        )
        return
    offset = text_width(title, SMALL) + 14 if room >= 420 else 0
    if offset:
        write(draw, (x, y + BAR_HEIGHT // 2), title, SMALL, MUTED, anchor="lm")
    width = min(room - offset, 380) - 1
    colours = heat(np.linspace(0, 1, width))
    for column in range(width):
        ends = (x + offset + column, y, x + offset + column, y + BAR_HEIGHT)
        draw.line(ends, fill=tuple(colours[column].tolist()))
    if room - offset - width > 30 + text_width(NOT_ENCODED, SMALL):
        middle = y + BAR_HEIGHT // 2
        write(draw, (x + room, middle), NOT_ENCODED, SMALL, MUTED, anchor="rm")
    for position, share, anchor in ((0.0, 0.0, "la"), (0.5, top / 4, "ma"), (1.0, top, "ra")):
        tick = x + offset + round(position * width)
        write(draw, (tick, y + BAR_HEIGHT + 4), percent(share), SMALL, anchor=anchor)


def _number(
    draw: ImageDraw.ImageDraw, result: SlideResult, task: TaskResult, size: tuple[int, int]
) -> None:
    """Write the rank beside the first top tiles, each where no other number stands."""
    plates: list[tuple[int, Frame]] = []
    for rank, tile in enumerate(task.top_tiles[:NUMBERED], start=1):
        across, down = size[0] / result.slide.width, size[1] / result.slide.height
        x, y = round(tile.x * across), round(tile.y * down)
        frame = (x, y, round((tile.x + tile.width) * across), round((tile.y + tile.height) * down))
        place = _middle(frame)
        plate = _free_plate(place, size, [other for _, other in plates])
        draw.rectangle(frame, outline=INK)
        if plate is not None:
            plates.append((rank, plate))
            draw.line((*_nearest(frame, _middle(plate)), *_middle(plate)), fill=INK, width=2)
    for rank, plate in plates:  # last, so that no outline crosses a number
        draw.rounded_rectangle(plate, 5, fill=PAPER, outline=INK)
        write(draw, _middle(plate), str(rank), SMALL, anchor="mm")


def _middle(frame: Frame) -> tuple[int, int]:
    return (frame[0] + frame[2]) // 2, (frame[1] + frame[3]) // 2


def _free_plate(place: tuple[int, int], size: tuple[int, int], taken: list[Frame]) -> Frame | None:
    """Return the nearest plate beside `place` that is inside the picture and overlaps none."""
    for distance in (26, 46, 66):
        for right, down in ((1, -1), (-1, -1), (1, 1), (-1, 1), (0, -1), (0, 1), (1, 0), (-1, 0)):
            x, y = place[0] + right * distance, place[1] + down * distance
            plate = (x - 10, y - 10, x + 10, y + 10)
            inside = plate[0] >= 0 and plate[1] >= 0 and plate[2] < size[0] and plate[3] < size[1]
            if inside and not any(_overlap(plate, other) for other in taken):
                return plate
    return None


def _nearest(frame: Frame, place: tuple[int, int]) -> tuple[int, int]:
    """Return the point of `frame` nearest to `place`."""
    left, top, right, bottom = frame
    return min(max(place[0], left), right), min(max(place[1], top), bottom)


def _overlap(one: Frame, other: Frame) -> bool:
    return (
        one[0] <= other[2] + 2
        and other[0] <= one[2] + 2
        and one[1] <= other[3] + 2
        and other[1] <= one[3] + 2
    )
