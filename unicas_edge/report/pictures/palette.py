"""Colours that mean the same in every output."""

from __future__ import annotations

RGB = tuple[int, int, int]

INK: RGB = (28, 32, 38)
MUTED: RGB = (104, 112, 122)
RULE: RGB = (214, 218, 224)
PAPER: RGB = (255, 255, 255)
PLATE: RGB = (244, 245, 247)
AMBER: RGB = (255, 236, 179)
AMBER_INK: RGB = (122, 72, 0)

#: Tiles that could not be read, and tiles out of focus.
FAILED: RGB = (200, 30, 30)
BLURRED: RGB = (40, 110, 220)

#: Okabe and Ito's colours, told apart by colour-blind readers; one a task, in the bundle's order.
TASKS: tuple[RGB, ...] = (
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
)

#: Decisions: what a reader should see from across the room.
DECISIONS: dict[str, RGB] = {
    "positive": (178, 24, 43),
    "negative": (20, 120, 70),
    "unsatisfactory": (110, 110, 110),
}

#: Attention, from little to all: ColorBrewer's YlOrRd, which stands out from the blue, green and
#: pink of Papanicolaou's stain.
HEAT: tuple[RGB, ...] = (
    (255, 255, 204),
    (254, 217, 118),
    (253, 141, 60),
    (227, 26, 28),
    (128, 0, 38),
)


def task_colour(number: int) -> RGB:
    """Return the colour of the task with this number."""
    return TASKS[number % len(TASKS)]
