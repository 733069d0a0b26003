"""Read + decode + normalise to float32 NCHW: one thread, real tiles, against the usual path."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openslide
import pytest
import simplejpeg
import tifffile

from benchmarks.harness import alternate, ratio
from unicas_edge.slide import open_slide
from unicas_edge.tiles.normalise import Normaliser, centre_crop

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
TILE, CROP, BATCH, TILES, ROUNDS = 256, 224, 16, 512, 9
#: scanners store 20x slides at qualities from 30 (Aperio CMU-1) to about 90; the finer, the longer
#: every path spends in the same JPEG decoder
QUALITIES = (30, 70, 90)
EDGE = (TILE - CROP) // 2


class Peers:
    """The same tiles by every path; each call reads all of them once, batch by batch."""

    def __init__(self, path: Path, quality: int) -> None:
        self.quality = quality
        self.openslide = openslide.OpenSlide(path)
        columns = self.openslide.dimensions[0] // TILE
        self.places = [(k % columns * TILE, k // columns * TILE) for k in range(TILES)]
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            stored = list(zip(page.dataoffsets, page.databytecounts, strict=True))[:TILES]
        content = path.read_bytes()
        self.streams = [content[offset : offset + count] for offset, count in stored]
        self.slide = open_slide(path)
        self.normaliser = Normaliser(MEAN, STD)
        self.pixels = np.empty((TILE, TILE, 3), np.uint8)
        self.batch = np.empty((BATCH, 3, CROP, CROP), np.float32)

    def ours(self) -> np.ndarray:
        for k, (x, y) in enumerate(self.places):
            tile = self.slide.read(x, y, TILE, 1.0, out=self.pixels)
            self.normaliser.into(centre_crop(tile, CROP), self.batch[k % BATCH])
        return self.batch

    def decode_alone(self) -> np.ndarray:
        for stream in self.streams:
            simplejpeg.decode_jpeg(stream, "RGB", buffer=self.pixels)
        return self.pixels

    def _pillow(self, place: tuple[int, int]):
        """What a torch Dataset does: region, RGB, torchvision's CenterCrop."""
        tile = self.openslide.read_region(place, 0, (TILE, TILE)).convert("RGB")
        return tile.crop((EDGE, EDGE, EDGE + CROP, EDGE + CROP))

    def openslide_numpy(self) -> np.ndarray:
        """ToTensor, Normalize and the collate function as torchvision and torch compute them."""
        for start in range(0, TILES, BATCH):
            tensors = []
            for place in self.places[start : start + BATCH]:
                hwc = np.array(self._pillow(place))
                chw = np.ascontiguousarray(hwc.transpose(2, 0, 1)).astype(np.float32) / np.float32(
                    255
                )
                tensors.append((chw - MEAN[:, None, None]) / STD[:, None, None])
            batch = np.stack(tensors)
        return batch

    def openslide_torch(self):
        """The same with torch's own operations, in the order torchvision.transforms calls them."""
        torch = import_module("torch")
        torch.set_num_threads(1)
        mean, std = torch.from_numpy(MEAN)[:, None, None], torch.from_numpy(STD)[:, None, None]
        for start in range(0, TILES, BATCH):
            tensors = []
            for place in self.places[start : start + BATCH]:
                hwc = torch.from_numpy(np.array(self._pillow(place), copy=True))
                chw = hwc.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
                tensors.append(chw.clone().sub_(mean).div_(std))
            batch = torch.stack(tensors)
        return batch


@pytest.fixture(scope="module", params=QUALITIES)
def peers(request, real_slide):
    found = Peers(real_slide(request.param), request.param)
    yield found
    found.slide.close()
    found.openslide.close()


def test_same_pixels(peers, benchmark):
    """A path that is fast and wrong would win: the last batches agree within 3 grey levels."""
    ours = benchmark.pedantic(peers.ours).copy()
    assert np.abs(ours - peers.openslide_numpy()).max() <= 3 / 255 / STD.min()


def test_read_decode_normalise(peers, benchmark, figures):
    contestants = {
        "ours": peers.ours,
        "simplejpeg decode alone": peers.decode_alone,
        "OpenSlide + Pillow + ToTensor, Normalize in numpy": peers.openslide_numpy,
    }
    if find_spec("torch"):
        contestants["OpenSlide + Pillow + ToTensor, Normalize in torch"] = peers.openslide_torch
    seconds, at = alternate(contestants, ROUNDS), f"Q{peers.quality}:"
    benchmark.pedantic(peers.ours, rounds=ROUNDS)
    for name, values in seconds.items():
        figures.add(f"{at} {name}, ms a tile", f"{np.median(values.wall) / TILES * 1e3:.3f}")
    for name in list(contestants)[2:]:
        gain = ratio(seconds["ours"].wall, seconds[name].wall)
        figures.add(f"{at} {name} / ours", f"{gain:.2f}", ">= 8", gain >= 8)
    cost = ratio(seconds["simplejpeg decode alone"].wall, seconds["ours"].wall)
    figures.add(f"{at} ours / simplejpeg decode alone", f"{cost:.2f}", "<= 1.4", cost <= 1.4)
