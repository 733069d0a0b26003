"""How much coarser a stored pyramid level is than level 0."""

from __future__ import annotations


def downsample_of(base: tuple[int, int], level: tuple[int, int]) -> float:
    """Return level-0 pixels per pixel of a level, both sizes as (width, height).

    A whole factor where the sizes differ from it by rounding only (2967 -> 741 is 4, not 4.004:
    writers drop or add the last row); else the mean of both axes.
    """
    across, down = base[0] / level[0], base[1] / level[1]
    factor = max(1, round((across + down) / 2))
    rounded = all(abs(b - n * factor) <= factor for b, n in zip(base, level, strict=True))
    return float(factor) if rounded else (across + down) / 2
