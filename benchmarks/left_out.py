"""A former bundle beside the folds of `train demo`, on backgrounds that neither has seen.

    python -m benchmarks.left_out FORMER WORK ../shared/data SLIDE [SLIDE ...]

WORK is the folder of `train demo`; FORMER has not seen the background slides that are named. What
is put on them both have seen. Each is judged with its own colours, temperature and thresholds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from unicas_edge.adequacy.knowledge import load_knowledge
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.core.arrays import Float32, UInt8Image
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.engines.queue import EncodeQueue
from unicas_edge.screening.decide import probability
from unicas_edge.tiles.normalise import Normaliser, centre_crop
from unicas_edge.train.aggregator.bags import MISSING
from unicas_edge.train.aggregator.remix import KnownSlide, remixed
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.demo.data import FOLDS, DemoData, load_demo_data
from unicas_edge.train.demo.job import Job
from unicas_edge.train.demo.known import Background, backgrounds, known_slides
from unicas_edge.train.demo.make import DemoSettings
from unicas_edge.train.encoder.tokens import TileEncoder
from unicas_edge.train.evaluate.figures import evaluate_predictions
from unicas_edge.train.evaluate.predictions import predictions

SHOWN = ("AUC", "sensitivity", "specificity")


@dataclass(frozen=True)
class Cases:
    """Shares float64 [n, tasks], labels int64 [n, tasks] or `MISSING`, and their slides.

    A share is the probability, moved so that its bundle's threshold is at 0.5.
    """

    shares: NDArray[np.float64]
    labels: NDArray[np.int64]
    slides: tuple[str, ...]


class BundleEncoder:
    """A bundle's encoder, called with tiles; returns their tokens float32 [n, width]."""

    def __init__(self, bundle: Bundle) -> None:
        self._encoder = open_encoder(
            bundle, EngineOptions("onnxruntime", "fp32", allow_unverified=True)
        )
        spec = bundle.manifest.input
        self._normaliser = Normaliser(spec.mean, spec.std, None, spec.dtype)
        self._crop = bundle.manifest.tile.crop_px

    def __call__(self, tiles: Iterable[UInt8Image]) -> Float32:
        """Return the tokens of the middles of tiles."""
        tokens: dict[int, Float32] = {}
        queue = EncodeQueue[int](self._encoder, self._normaliser, self._crop, tokens.__setitem__)
        for number, tile in enumerate(tiles):
            queue.put(number, centre_crop(tile, self._crop))
        queue.flush()
        queue.close()
        return np.stack([tokens[number] for number in range(len(tokens))])


def cases(bundle: Bundle, places: list[Background], seed: int) -> Cases:
    """Return what a bundle says of bags of its backgrounds, as `train demo` deals them."""
    settings = DemoSettings().slides
    scans = replace(settings.test, modes=(bundle.manifest.colour.default,))
    encoder = cast("TileEncoder", BundleEncoder(bundle))
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), seed)
        slides = known_slides(places, scans, encoder, job.work / "tokens", job)
    kept = [aggregated(bundle, slide) for slide in slides]
    bags = remixed(kept, TASKS, settings.test_bags * len(kept), seed + 1)
    aggregator, tasks = Aggregator.load(bundle), bundle.manifest.tasks
    logits = [aggregator.logits(np.asarray(bag.tokens)) for bag in bags.bags]
    shares = [
        [moved(probability(row[k], t), t.threshold) for k, t in enumerate(tasks)] for row in logits
    ]
    return Cases(np.array(shares), bags.labels, tuple(bag.group for bag in bags.bags))


def moved(share: float, threshold: float) -> float:
    """Return a probability whose odds are as many times 1 as those given are the threshold's."""
    odds = share / max(1 - share, 1e-12) * (1 - threshold) / threshold
    return odds / (1 + odds)


def aggregated(bundle: Bundle, slide: KnownSlide) -> KnownSlide:
    """Return a slide with the tiles that may carry a decision alone."""
    knowledge = load_knowledge(bundle)
    if knowledge is None:
        return slide
    kept = knowledge.read(slide.tokens).aggregated
    return replace(
        slide, **{key: getattr(slide, key)[kept] for key in ("tokens", "task", "decides", "blur")}
    )


def lines(name: str, found: Cases) -> Iterator[str]:
    """Yield a line of a table for each task."""
    for k, task in enumerate(TASKS):
        known = np.flatnonzero(found.labels[:, k] != MISSING)
        shares = found.shares[known, k]
        given = predictions(
            found.labels[known, k],
            np.stack([1 - shares, shares], axis=1),
            classes=("negative", "positive"),
            positive=1,
            groups=[found.slides[n] for n in known],
        )
        report = evaluate_predictions(given, threshold=0.5, task=task, protocol="")
        figures = {figure.name: figure for figure in report.figures}
        told = (
            f"{figures[one].value:.3f} ({figures[one].ci_low:.3f} to {figures[one].ci_high:.3f})"
            for one in SHOWN
        )
        yield f"| {name} | {task} | {len(known)} | {' | '.join(told)} |"


def joined(parts: list[Cases]) -> Cases:
    """Return the cases of several bundles together."""
    return Cases(
        np.concatenate([part.shares for part in parts]),
        np.concatenate([part.labels for part in parts]),
        tuple(slide for part in parts for slide in part.slides),
    )


def places_of(data: DemoData, fold: int, slides: list[str]) -> list[Background]:
    """Return the backgrounds that a fold has not seen, of those named."""
    rows = DemoSettings().slides.rows
    return [p for p in backgrounds(data.left_out(f"fold-{fold}"), rows) if p.name in slides]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("former", "work", "data"):
        parser.add_argument(name, type=Path)
    parser.add_argument("slides", nargs="+")
    given = parser.parse_args()
    data = load_demo_data(given.data)
    former = Bundle.load(given.former)
    olds, news = [], []
    for fold in range(FOLDS):
        if places := places_of(data, fold, given.slides):
            olds.append(cases(former, places, data.seed))
            judged = Bundle.load(given.work / "bundles" / f"judged-fold-{fold}")
            news.append(cases(judged, places, data.seed))
    print(
        f"| bundle | task | bags | {' | '.join(SHOWN)} (95 % interval) |\n|---|---|---|---|---|---|"
    )
    print(*lines("former", joined(olds)), *lines("folds", joined(news)), sep="\n")


if __name__ == "__main__":
    main()
