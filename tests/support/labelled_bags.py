"""Small bags with labels that can be learned, for the tests of aggregators."""

from __future__ import annotations

import h5py
import numpy as np

from unicas_edge.train.aggregator.bags import MISSING, Bag, BagSet
from unicas_edge.train.aggregator.fit import FitSettings

WIDTH = 8
TASKS = ("cancer", "candidiasis", "cluecell")
TINY = {"embed_dim": 12, "depth": 1, "num_heads": 2, "num_experts": 2, "top_m": 4}
QUICK = FitSettings(batch=8, lr=2e-3, epochs=9, seed=1)


def bag_of(rng, labels, n=None):
    """Noise; tile k of a positive task points along axis k."""
    tokens = rng.normal(0, 0.3, (n or int(rng.integers(6, 14)), WIDTH)).astype(np.float32)
    for task, label in enumerate(labels):
        if label > 0:
            tokens[task, task + (3 if label > 1 else 0)] += 4 * label
    return tokens


def bag_set(count, seed=0, classes=(2, 2, 2), masked=False):
    rng = np.random.default_rng(seed)
    bags = []
    for k in range(count):
        labels = tuple(int(rng.integers(c)) for c in classes)
        tokens = bag_of(rng, labels)
        if masked:
            labels = tuple(v if i == k % len(classes) else MISSING for i, v in enumerate(labels))
        bags.append(Bag(f"b{seed}-{k}", tokens, labels, f"g{seed}-{k // 2}"))
    return BagSet(tuple(bags), TASKS[: len(classes)], classes, WIDTH)


def write_bags(folder, bags):
    rows = ["name," + ",".join(bags.tasks) + ",group"]
    for bag in bags.bags:
        (folder / bag.name).mkdir(parents=True)
        with h5py.File(folder / bag.name / "features.h5", "w") as file:
            file["features"] = bag.tokens
        cells = ["" if label == MISSING else str(label) for label in bag.labels]
        rows.append(",".join([bag.name, *cells, bag.group]))
    table = folder / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    return table
