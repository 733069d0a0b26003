"""A realistic result to write, made without the stages that make real ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from unicas_edge import result as model
from unicas_edge.tiles.grid import Grid
from unicas_edge.tiles.plan import plan

FILES = {
    "result.json",
    "tiles.csv",
    "features.h5",
    "annotations.geojson",
    "overview.jpg",
    "contact.jpg",
}


TASKS = ("cancer", "candidiasis", "clue_cell")
SETTINGS = {"max_tiles": 800, "resume_key": "key-1"}
#: What makes a bundle's weights ones to be cautious of, and what every output then says.
CAUTIONS = [
    ({"trained": False, "demonstration": False}, "untrained weights: probabilities mean nothing"),
    ({"trained": True, "demonstration": True}, "demonstration weights: not for diagnosis"),
]


def tile_table(grid: Grid, tasks: Sequence[str], keep: int, rng: np.random.Generator) -> Any:
    """Tiles of a round smear: `keep` encoded, a few failed and out of focus, others unranked."""
    rows, cols = np.mgrid[: grid.rows, : grid.cols]
    centre = np.hypot(rows / grid.rows - 0.5, cols / grid.cols - 0.5)
    scores = np.where(centre < 0.47, rng.gamma(4.0, 2000.0, centre.shape), 900.0)
    order = plan(grid, scores, None)
    tiles = np.zeros(len(order), [*model.TILE_COLUMNS, *((f"prob_{task}", "f4") for task in tasks)])
    for rank, cell in enumerate(order):
        x, y = grid.origin(cell)
        side = round(grid.step)
        tiles[rank]["minx"], tiles[rank]["miny"] = x, y
        tiles[rank]["width"], tiles[rank]["height"] = side, side
        tiles[rank]["field"], tiles[rank]["score"] = grid.field_of(cell), scores[cell]
    tiles["rank"], tiles["token"] = np.arange(len(order)), -1
    tiles["rank"][keep:] = -1
    tiles["status"] = "unranked"
    planned = tiles[:keep]
    planned["status"] = "encoded"
    planned["status"][5::97] = "failed"
    planned["focus"] = rng.gamma(3, 60, keep)
    planned["focus"][planned["status"] == "failed"] = np.nan
    planned["in_focus"] = planned["focus"] > 30
    planned["cellular"] = rng.beta(2, 5, keep)
    encoded = np.flatnonzero(planned["status"] == "encoded")
    planned["token"][encoded] = np.arange(len(encoded))
    for task in tasks:
        mass = rng.gamma(0.25, 1.0, len(encoded)).astype(np.float32)
        planned[f"prob_{task}"][encoded] = mass / mass.sum()
    return tiles


def task_result(tiles: Any, name: str, number: int, top: int = 10) -> model.TaskResult:
    """The decision of one task and the tiles that carried it."""
    shares = tiles[f"prob_{name}"]
    chosen = [i for i in np.argsort(-shares, kind="stable")[:top] if tiles["token"][i] >= 0]
    probability = (0.931, 0.074, 0.482)[number % 3]
    return model.TaskResult(
        name=name,
        probability=probability,
        threshold=0.5,
        decision="positive" if probability >= 0.5 else "negative",
        logits=[-1.25, 1.375],
        top_tiles=[
            model.TopTile(
                x=int(tiles["minx"][i]),
                y=int(tiles["miny"][i]),
                width=int(tiles["width"][i]),
                height=int(tiles["height"][i]),
                attention=float(shares[i]),
            )
            for i in chosen
        ],
    )


def coverage_of(tiles: Any, grid: Grid, keep: int) -> model.Coverage:
    """What became of the planned tiles."""
    failed = tiles[tiles["status"] == "failed"]
    return model.Coverage(
        grid_tiles=grid.rows * grid.cols,
        planned=keep,
        read=keep - len(failed),
        encoded=keep - len(failed),
        background=0,
        sparse=0,
        failed=len(failed),
        coverage=1 - len(failed) / max(1, keep),
        failures=[
            model.Failure(x=int(t["minx"]), y=int(t["miny"]), cause="corrupt JPEG: bad code")
            for t in failed
        ],
    )


def make_result(
    *,
    width: int = 20_000,
    height: int = 16_000,
    downsample: float = 2.0,
    tasks: Sequence[str] = TASKS,
    keep: int = 400,
    dimension: int = 64,
    trained: bool = False,
    demonstration: bool = False,
    seed: int = 7,
    **changes: Any,
) -> model.SlideResult:
    """A whole result; `changes` replaces fields of it."""
    rng = np.random.default_rng(seed)
    grid = Grid(width, height, downsample)
    keep = min(keep, grid.rows * grid.cols)
    tiles = tile_table(grid, tasks, keep, rng)
    count = int(tiles["token"].max()) + 1
    bundle = model.BundleInfo(
        name="default",
        version="0.1",
        trained=trained,
        demonstration=demonstration,
        files={"encoder.onnx": "cd" * 32},
    )
    fields: dict[str, Any] = {
        "unicas_edge_version": "0.1.0",
        "created": "2026-01-02T03:04:05+00:00",
        "slide": model.SlideInfo(
            path="slides/case 17.svs",
            name="case 17.svs",
            reader="tiff",
            width=width,
            height=height,
            um_px=0.5 / downsample,
            um_px_source="Aperio MPP",
            size_bytes=123_456,
            sha256="ab" * 32,
        ),
        "bundle": bundle,
        "preprocessing": model.Preprocessing(
            tile_px=256,
            crop_px=224,
            um_px=0.5,
            downsample=downsample,
            colour_mode="none",
            colour_matrix=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
            mean=[0.5] * 3,
            std=[0.25] * 3,
        ),
        "engine": model.Engine(
            name="onnxruntime",
            version="1.23",
            precision="fp32",
            device="cpu",
            threads=2,
            batch_size=8,
            normalise_variant="avx2",
        ),
        "determinism": "bitwise on one machine",
        "settings": dict(SETTINGS),
        "coverage": coverage_of(tiles, grid, keep),
        "adequacy": model.Adequacy(
            satisfactory=True, reasons=[], cellular_tiles=count, in_focus_tiles=count - 9
        ),
        "tasks": [task_result(tiles, name, number) for number, name in enumerate(tasks)],
        "detections": [
            model.Detection(x=4000, y=5000, width=120, height=90, label="HSIL", score=0.81)
        ],
        "timings_seconds": {"read": 1.5, "encode": 20.25, "total": 24.0},
        "warnings": [],
        "notices": [*filter(None, (model.caution(bundle), model.NOTICE))],
        "features": rng.standard_normal((count, dimension)).astype(np.float32),
        "tiles": tiles,
    }
    return model.SlideResult(**(fields | changes))


def make_overview(width: int = 400, height: int = 320, seed: int = 3) -> np.ndarray:
    """A pale smear, uint8 RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smear = np.hypot(y / height - 0.5, x / width - 0.5) < 0.47
    image = np.full((height, width, 3), 245.0)
    image[smear] = (200, 205, 225)
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def tile_pixels(x: int, y: int) -> np.ndarray:
    """A tile of one colour that says where it lies."""
    return np.full((256, 256, 3), (x % 251, y % 251, (x + y) % 251), np.uint8)


def check_whole(folder: Path) -> None:
    """Read every file that is there to its end."""
    for path in folder.iterdir():
        if path.suffix in {".json", ".geojson"}:
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
            assert len({len(row) for row in rows}) == 1
        elif path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                assert len(file["features"][:]) == len(file["coords"][:])
        else:
            with Image.open(path) as image:
                image.load()
