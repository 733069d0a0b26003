"""The aggregator against the dense PyTorch module and three single-task baselines, in one run.

``python -m benchmarks.aggregators --aggregator FILE.safetensors [FILE ...] --json out.json`` needs
the extras `train` and `bench`, real bags (UNICAS_EDGE_DATA) and, where no file is given, the golden
weights (UNICAS_EDGE_GOLDEN). The dense module has the first file's weights. Each contestant takes
the same tokens in turn, so that a busy machine burdens all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import (
    Rounds,
    alternate,
    fit,
    machine,
    medians,
    peak_megabytes,
    ratio,
    table,
)
from benchmarks.inputs import bag_of, files_of, make_golden, real_tokens
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.train.aggregator.baselines.mil import BASELINES
from unicas_edge.train.aggregator.model import MultiTaskAggregator

LINE = (1, 400, 800, 1_600, 3_200, 4_800, 10_000, 20_000)
MEMORY = (800, 4_800)
TASKS, CLASSES = 3, 2
#: Self-attention over all tiles: at 20,000 it takes minutes a pass.
QUADRATIC, QUADRATIC_LIMIT = {"DTFree"}, 5_000
#: Beyond it the dense module takes 10 s and more a pass.
LARGE = 10_000
#: Seconds of rest before a contestant, for the last one's threads to stop spinning (OpenMP's do).
REST = 0.1

_OURS = """
import sys, numpy
from unicas_edge.aggregator.aggregator import Aggregator
Aggregator.load(sys.argv[1], threads=int(sys.argv[3])).logits(numpy.load(sys.argv[2]))
"""
_DENSE = """
import sys, numpy, torch
from unicas_edge.train.aggregator.model import MultiTaskAggregator
torch.set_num_threads(int(sys.argv[3]))
with torch.no_grad():
    MultiTaskAggregator.load(sys.argv[1]).eval()(torch.from_numpy(numpy.load(sys.argv[2])))
"""
_BASELINE = """
import sys, numpy, torch
from unicas_edge.train.aggregator.baselines.mil import BASELINES
torch.set_num_threads(int(sys.argv[3]))
tokens = torch.from_numpy(numpy.load(sys.argv[2]))
models = [BASELINES[sys.argv[1]](tokens.shape[1], 2).eval() for _ in range(3)]
with torch.no_grad():
    for model in models:
        model(tokens)
"""


class Contest:
    """Everything loaded once; every method measures on the tokens it is given."""

    def __init__(self, files: list[Path], threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.files, self.threads = files, threads
        self.ours = {path.stem: Aggregator.load(path, threads=threads) for path in files}
        self.dense = MultiTaskAggregator.load(files[0]).eval()
        width = self.dense.config.embed_dim_in
        self.baselines = {
            name: [factory(width, CLASSES).eval() for _ in range(TASKS)]
            for name, factory in BASELINES.items()
        }

    def against_dense(self, bag: np.ndarray, rounds: int) -> dict[str, object]:
        """Return seconds, how many times slower the dense module is, and how far logits are apart.

        Also from the dense module's in float64: where the last score kept and the first one left
        nearly tie, float32 may keep either, the dense module's no less than ours.
        """
        tokens = torch.from_numpy(bag)
        calls = self._ours(bag) | {"dense": lambda: self.dense(tokens)}
        calls, found = keeping(calls)
        with torch.no_grad():
            seconds = alternate(calls, rounds, gap=REST)
            double = self.dense.double()(tokens.double())
            self.dense.float()  # the same weights again
        return {
            "seconds": medians(seconds),
            "dense / ours": self._times(seconds, "dense"),
            "logits from dense": {name: apart(found[name], found["dense"]) for name in self.ours},
            "logits from float64": {name: apart(logits, double) for name, logits in found.items()},
        }

    def against_baselines(self, bag: np.ndarray, rounds: int) -> dict[str, object]:
        """Return seconds of one model a task, and how many times one pass of ours fits in them."""
        names = [name for name in BASELINES if name not in QUADRATIC or len(bag) <= QUADRATIC_LIMIT]
        tokens = torch.from_numpy(bag)
        calls = self._ours(bag) | {
            name: lambda models=self.baselines[name]: [model(tokens) for model in models]
            for name in names
        }
        with torch.no_grad():
            seconds = alternate(calls, rounds, gap=REST)
        return {
            "seconds": {name: medians(seconds)[name] for name in names},
            "baseline / ours": {name: self._times(seconds, name) for name in names},
        }

    def line(self, tokens: np.ndarray, sizes: tuple[int, ...], rounds: int) -> dict[str, object]:
        """Return, for every file of ours, the least-squares line of seconds over tiles."""
        bags = [self._ours(bag_of(tokens, n)) for n in sizes]
        found = [medians(alternate(calls, rounds, gap=REST)) for calls in bags]
        return {name: fit(sizes, [row[name] for row in found]) for name in self.ours}

    def memory(self, bag: np.ndarray) -> dict[str, float]:
        """Return the peak MB of fresh processes that load and aggregate once, by contestant."""
        weights = str(self.files[0].resolve())
        programs = {path.stem: (_OURS, str(path.resolve())) for path in self.files}
        programs |= {"dense": (_DENSE, weights)}
        programs |= {f"{TASKS} x {name}": (_BASELINE, name) for name in feasible(len(bag))}
        with tempfile.TemporaryDirectory() as folder:
            tokens = str(Path(folder) / "bag.npy")
            np.save(tokens, bag)
            return {
                name: peak_megabytes(code, what, tokens, str(self.threads))
                for name, (code, what) in programs.items()
            }

    def _ours(self, bag: np.ndarray) -> dict[str, Callable[[], object]]:
        return {name: lambda model=model: model.logits(bag) for name, model in self.ours.items()}

    def _times(self, seconds: dict[str, Rounds], other: str) -> dict[str, float]:
        return {name: ratio(seconds[name].wall, seconds[other].wall) for name in self.ours}


def feasible(n: int) -> list[str]:
    """Return the baselines that can be run on `n` tiles within a benchmark's patience."""
    return [name for name in BASELINES if name not in QUADRATIC or n <= QUADRATIC_LIMIT]


def keeping(
    calls: dict[str, Callable[[], object]],
) -> tuple[dict[str, Callable[[], None]], dict[str, object]]:
    """Return the calls, and where each leaves what it returned last: a dense pass takes seconds."""
    last: dict[str, object] = {}

    def keep(name: str, call: Callable[[], object]) -> None:
        last[name] = call()

    return {name: partial(keep, name, call) for name, call in calls.items()}, last


def apart(found: Iterable[np.ndarray | torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """Return the largest difference between the logits of two aggregators."""
    pairs = zip(map(np.asarray, found), map(np.asarray, wanted), strict=True)
    return max(float(np.abs(row[: len(other)] - other).max()) for row, other in pairs)


def markdown(found: dict[str, dict]) -> str:
    """Return everything measured as Markdown tables."""
    parts = [", ".join(f"{name} {value}" for name, value in found["machine"].items()) + "\n"]
    for n, row in found["dense"].items():
        times = [f"{name} {1e3 * s:.1f} ms" for name, s in row["seconds"].items()]
        parts.append(f"n = {n:,}: " + ", ".join(times) + "\n")
        others = {"dense": row["dense / ours"]} | found["baselines"][n]["baseline / ours"]
        names = [name if name == "dense" else f"{TASKS} x {name}" for name in others]
        single, double = row["logits from dense"], row["logits from float64"]
        parts.append(
            table(
                ["ours", *names, "logits from dense", "from float64"],
                [
                    [
                        name,
                        *(f"{times[name]:.1f}x" for times in others.values()),
                        f"{difference:.1e}",
                        f"{double[name]:.1e}",
                    ]
                    for name, difference in single.items()
                ],
            )
        )
        parts.append(f"dense in float32 from float64: {double['dense']:.1e}\n")
    keys = ["a, ms", "b, us a tile", "R^2"]
    rows = [[name, *(f"{row[key]:.4g}" for key in keys)] for name, row in found["line"].items()]
    parts.append(table(["time over n", *keys], rows))
    for n, row in found["memory"].items():
        rows = [[name, f"{mb:.0f}", f"{mb / row['dense']:.2f}"] for name, mb in row.items()]
        parts.append(table([f"n = {n:,}", "peak MB", "of dense"], rows))
    return "\n".join(parts)


def every_figure(contest: Contest, options: argparse.Namespace) -> dict[str, dict]:
    """Return everything this program measures, by kind and by number of tiles."""
    tokens, quick, rounds = real_tokens(), options.quick, options.rounds
    bags = {n: bag_of(tokens, n) for n in options.n}
    rounds_of = {n: options.large_rounds if n > LARGE else rounds for n in bags}
    return {
        "machine": machine() | {"load before": f"{os.getloadavg()[0]:.1f}"},
        "dense": {n: contest.against_dense(bag, rounds_of[n]) for n, bag in bags.items()},
        "baselines": {
            n: contest.against_baselines(bag, min(rounds_of[n], 3)) for n, bag in bags.items()
        },
        "line": {} if quick else contest.line(tokens, LINE, rounds),
        "memory": {} if quick else {n: contest.memory(bag_of(tokens, n)) for n in MEMORY},
    }


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aggregators", description=__doc__)
    parser.add_argument("--aggregator", nargs="+", action="extend", metavar="FILE|golden")
    parser.add_argument("--n", nargs="+", type=int, default=[800, 4_800, 20_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large-rounds", type=int, default=3, help=f"for more than {LARGE} tiles")
    parser.add_argument("--quick", action="store_true", help="neither the line nor the memory")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--make-golden", type=Path, metavar="DIR", help="write the weights and end")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    if options.make_golden:
        print(*make_golden(options.make_golden), sep="\n")
        return 0
    with files_of(options.aggregator or ["golden"]) as files:
        contest = Contest(files, options.threads)
        found = every_figure(contest, options)
    print(markdown(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
