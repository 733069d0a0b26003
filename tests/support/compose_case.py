"""A small folder in the layout of the real data, and slides composed from it."""

from __future__ import annotations

import csv

import numpy as np
from PIL import Image

GROUPS = ("candida", "flora", "herps", "actinomyces", "trichomonas", "ascus", "lsil", "agc")
NORMAL = "Negative for intraepithelial lesion"
#: grey levels of what decides a task, and of nuclei that do not
MARKS = {"candida": (20, 160, 30), "flora": (30, 40, 220), "ascus": (200, 20, 20)}


def field(rng, width, height, nuclei=(), colour=(110, 90, 150)):
    """Pale cells on glass, and nuclei at (x, y)."""
    y, x = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 248.0)
    for _ in range(max(3, width * height // 9000)):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(12, 26)
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = (200, 180, 205)
    for cx, cy in nuclei:
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < 15 * 15] = colour
    return (pixels + rng.integers(-3, 4, pixels.shape)).clip(0, 255).astype(np.uint8)


def save(folder, name, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name, quality=92)


def make_sipakmed(root, fields=6, cells=2):
    """Five classes of single cells, which differ in colour."""
    rng = np.random.default_rng(1)
    kinds = ("dyskeratotic", "koilocytotic", "metaplastic", "parabasal", "superficial_intermediate")
    for number, kind in enumerate(kinds):
        for k in range(fields * cells):
            pixels = field(rng, 90, 80, [(45, 40)], (30 + 40 * number, 60, 200 - 40 * number))
            save(root / "sipakmed" / kind, f"{k // cells:03}_{k % cells:02}.jpg", pixels)
    return root


def make_data(root, seed=0, crops=8, fields=15):
    rng = np.random.default_rng(seed)
    for slide in ("a", "b"):
        for k in range(20):
            save(root / "lbc_tiles" / slide, f"8_{k // 2}_{k % 5}_{k:02}.jpg", field(rng, 224, 224))
    for number, kind in enumerate(GROUPS):
        for k in range(crops):
            width, height = (160, 60) if kind == "candida" else (70, 64)
            pixels = field(
                rng, width, height, [(width / 2, height / 2)], MARKS.get(kind, (90,) * 3)
            )
            save(root / "comparison_detector_refs" / f"{number:02}_{kind}", f"{k}.jpg", pixels)
    rows = [["image", "cell_id", "bethesda", "nucleus_x_px", "nucleus_y_px", "image_doi"]]
    for k in range(fields):
        normal, sick = [(150, 150), (280, 330), (200, 420)], [(850, 200 + 20 * (k % 4))]
        save(root / "cric" / "images", f"f{k}.jpg", field(rng, 960, 500, [*normal, *sick]))
        rows += [[f"f{k}.jpg", 0, NORMAL, *xy, ""] for xy in normal]
        rows += [[f"f{k}.jpg", 1, ("ASC-US", "LSIL")[k % 2], *xy, ""] for xy in sick]
    with (root / "cric" / "cells.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def make_nuclei(root, fields=10):
    """Fields with masks of their nuclei, under names as of pictures that were turned."""
    rng = np.random.default_rng(2)
    for k in range(fields):
        nuclei = [tuple(rng.uniform(20, 220, 2)) for _ in range(2 + k)]
        save(root / "lbc_nucleus" / "images", f"rotated_30_{k}.jpg", field(rng, 240, 240, nuclei))
        y, x = np.mgrid[:240, :240]
        mask = np.zeros((240, 240, 3), np.uint8)
        for cx, cy in nuclei:
            mask[(x - cx) ** 2 + (y - cy) ** 2 < 36] = 255
        save(root / "lbc_nucleus" / "masks", f"rotated_30_{k}.jpg", mask)
    return root


def make_demo_data(root):
    """Everything that `train demo` asks for, three background slides among it."""
    make_nuclei(make_sipakmed(make_data(root, crops=9, fields=18)))
    rng = np.random.default_rng(3)
    for k in range(20):
        save(root / "lbc_tiles" / "c", f"8_{k // 2}_{k % 5}_{k:02}.jpg", field(rng, 224, 224))
    return root
