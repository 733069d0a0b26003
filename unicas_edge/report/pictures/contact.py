"""``contact.jpg``: the tiles that carried each decision, at full resolution, by rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unicas_edge.errors import TileError
from unicas_edge.report.pictures.draw import (
    canvas,
    fit,
    save_jpeg,
    scale_bar,
    scale_bar_width,
    write,
)
from unicas_edge.report.pictures.layout import (
    BODY,
    FOOTER,
    HEADING,
    MARGIN,
    SMALL,
    draw_footer,
    draw_header,
    draw_verdict,
    header_height,
    percent,
    set_words,
    spoken,
)
from unicas_edge.report.pictures.palette import MUTED, PLATE, RULE, task_colour
from unicas_edge.result import SlideResult, TaskResult, TopTile

CONTACT = "contact.jpg"

#: Pixels of a tile by its level-0 (x, y): uint8 RGB [tile_px, tile_px, 3].
TilePixels = Callable[[int, int], NDArray[np.uint8]] | Mapping[tuple[int, int], NDArray[np.uint8]]

COLUMNS = 5
GAP = 14
HEAD = 72
CAPTION = 60
BELOW = 8

#: Tiles a task: two rows, or one where there are many tasks.
TILES, TILES_OF_MANY, MANY = 10, 5, 4


def draw_contact(result: SlideResult, pixels: TilePixels) -> Image.Image:
    """Return the contact sheet as an RGB picture about 1,400 pixels wide at 256-pixel tiles."""
    side = result.preprocessing.tile_px
    width = COLUMNS * (side + GAP) - GAP + 2 * MARGIN
    sections = [shown(result, task) for task in result.tasks]
    height = header_height(result, width) + sum(_height(tiles, side) for tiles in sections)
    image, draw = canvas(width, height + FOOTER)
    y = draw_header(draw, result, width, _facts(result))
    for number in range(len(result.tasks)):
        _head(draw, result, number, y, width)
        _section(image, draw, y + HEAD, tiles=sections[number], side=side, pixels=pixels)
        y += _height(sections[number], side)
    um_px = result.preprocessing.um_px
    scale_bar(draw, (width - MARGIN - scale_bar_width(um_px, 120), 69), um_px, 120)
    draw_footer(draw, result, width, height + FOOTER)
    return image


def shown(result: SlideResult, task: TaskResult) -> list[TopTile]:
    """Return the top tiles of `task` that the sheet shows."""
    return task.top_tiles[: TILES_OF_MANY if len(result.tasks) > MANY else TILES]


def top_places(result: SlideResult) -> list[tuple[int, int]]:
    """Return the level-0 (x, y) of every tile the sheet shows, each once, in order."""
    tiles = [tile for task in result.tasks for tile in shown(result, task)]
    return list(dict.fromkeys((tile.x, tile.y) for tile in tiles))


def write_contact(path: Path, result: SlideResult, pixels: TilePixels) -> None:
    """Write the sheet to `path`; `OutputError` where that fails."""
    save_jpeg(path, draw_contact(result, pixels))


def _facts(result: SlideResult) -> str:
    made = result.preprocessing
    return f"Tiles with the most attention · {made.tile_px * made.um_px:.0f} um wide"


def _height(tiles: list[TopTile], side: int) -> int:
    rows = -(-len(tiles) // COLUMNS)
    return HEAD + (rows * (side + CAPTION) if rows else 40) + BELOW


def _head(draw: ImageDraw.ImageDraw, result: SlideResult, number: int, y: int, width: int) -> None:
    """Draw the title of a section."""
    task, room = result.tasks[number], width - 2 * MARGIN
    draw.line((MARGIN, y, MARGIN + room, y), fill=RULE)
    draw.ellipse((MARGIN, y + 15, MARGIN + 13, y + 28), fill=task_colour(number))
    write(draw, (MARGIN + 22, y + 9), spoken(task.name), HEADING, width=room - 22)
    words = set_words(task)
    draw_verdict(draw, (MARGIN, y + 38), task, weights=result.bundle, width=room, words=words)
    if not task.top_tiles:
        write(draw, (MARGIN, y + HEAD + 8), "No tile to show.", BODY, MUTED)


def _section(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    top: int,
    *,
    tiles: list[TopTile],
    side: int,
    pixels: TilePixels,
) -> None:
    """Draw the tiles of one task with rank, share and place."""
    for index, tile in enumerate(tiles):
        row, column = divmod(index, COLUMNS)
        x, y = MARGIN + column * (side + GAP), top + row * (side + CAPTION)
        _tile(image, draw, (x, y), side=side, tile=tile, pixels=pixels)
        taken = write(draw, (x, y + side + 5), f"{index + 1}", BODY)
        write(draw, (x + taken + 10, y + side + 5), percent(tile.attention), BODY)
        place = f"x {tile.x} · y {tile.y}"
        write(draw, (x, y + side + 26), place, SMALL, MUTED, width=side)


def _tile(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    *,
    side: int,
    tile: TopTile,
    pixels: TilePixels,
) -> None:
    """Draw one tile, or why it cannot be shown."""
    x, y = place
    frame = (x - 1, y - 1, x + side, y + side)
    try:
        rgb = pixels(tile.x, tile.y) if callable(pixels) else pixels[tile.x, tile.y]
    except (TileError, KeyError) as error:
        draw.rectangle(frame, fill=PLATE, outline=RULE)
        cause = error.cause if isinstance(error, TileError) else "pixels not kept"
        text = fit(cause, SMALL, side - 20)
        write(draw, (x + side // 2, y + side // 2), text, SMALL, MUTED, anchor="mm")
        return
    picture = Image.fromarray(rgb)
    if picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    image.paste(picture, (x, y))
    draw.rectangle(frame, outline=RULE)
