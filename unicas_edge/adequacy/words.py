"""Figures as the reasons of a result say them."""

from __future__ import annotations


def percent(share: float) -> str:
    """Return a share in percent, in up to three digits."""
    return f"{100 * share:.3g}%"


def apart(one: float, other: float) -> tuple[str, str]:
    """Return two figures with as few digits, two at least, as tell them apart."""
    for digits in range(2, 18):
        shown = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if shown[0] != shown[1]:
            break
    return shown
