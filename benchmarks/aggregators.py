"""The aggregator against the dense PyTorch module and three single-task baselines, in one run.

``python -m benchmarks.aggregators --aggregator FILE.safetensors [FILE ...] --json out.json`` needs
the extra `train`, real bags (UNICAS_EDGE_DATA) and, where no file is given, the golden weights
(UNICAS_EDGE_GOLDEN). The dense module has the first file's weights. Each contestant takes the same
tokens in turn, so that a busy machine burdens all alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch
from safetensors.numpy import save_file

from benchmarks.harness import ROOT, Rounds, alternate, machine, peak_megabytes, ratio
from unicas_edge.aggregate import Aggregator
from unicas_edge.manifest import AggregatorConfig
from unicas_edge.train.aggregator import MultiTaskAggregator
from unicas_edge.train.baselines import BASELINES
from unicas_edge.weights import parameter_shapes

LINE = (1, 400, 800, 1_600, 3_200, 4_800, 10_000, 20_000)
MEMORY = (800, 4_800)
TASKS, CLASSES = 3, 2
#: Self-attention over all tiles: at 20,000 it takes minutes a pass.
QUADRATIC, QUADRATIC_LIMIT = {"DTFree"}, 5_000
#: Of the noise that tells repeated tokens apart, in standard deviations of the tokens.
NOISE = 0.05

_OURS = """
import sys, numpy
from unicas_edge.aggregate import Aggregator
Aggregator.load(sys.argv[1], threads=int(sys.argv[3])).logits(numpy.load(sys.argv[2]))
"""
_DENSE = """
import sys, numpy, torch
from unicas_edge.train.aggregator import MultiTaskAggregator
torch.set_num_threads(int(sys.argv[3]))
with torch.no_grad():
    MultiTaskAggregator.load(sys.argv[1]).eval()(torch.from_numpy(numpy.load(sys.argv[2])))
"""
_BASELINE = """
import sys, numpy, torch
from unicas_edge.train.baselines import BASELINES
torch.set_num_threads(int(sys.argv[3]))
tokens = torch.from_numpy(numpy.load(sys.argv[2]))
models = [BASELINES[sys.argv[1]](tokens.shape[1], 2).eval() for _ in range(3)]
with torch.no_grad():
    for model in models:
        model(tokens)
"""


def shared_folder(variable: str, default: str) -> Path:
    """Return the folder an environment variable names, or `default` beside the project."""
    path = Path(os.environ.get(variable, ROOT.parent / default))
    if not path.is_dir():
        raise SystemExit(f"no folder {path}: let {variable} name it")
    return path


def real_tokens() -> np.ndarray:
    """Return the tokens of the real UniCAS bags, float32 [tiles, width], one bag after another."""
    bags = []
    folder = shared_folder("UNICAS_EDGE_DATA", "shared/data") / "unicas_features"
    for path in sorted(folder.glob("**/images.pt")):
        with zipfile.ZipFile(path) as file:  # a torch zip of one float32 tensor
            (name,) = (n for n in file.namelist() if n.endswith("/data/0"))
            bags.append(np.frombuffer(file.read(name), dtype="<f4").reshape(-1, 1024))
    if not bags:
        raise SystemExit(f"{folder}: no images.pt; the figures need real tokens")
    return np.concatenate(bags)


def bag_of(tokens: np.ndarray, n: int) -> np.ndarray:
    """Return the first `n` tokens; beyond the real ones they repeat with a little seeded noise."""
    if n <= len(tokens):
        return tokens[:n].copy()
    rng = np.random.default_rng(n)
    more = tokens[np.arange(len(tokens), n) % len(tokens)]
    noise = rng.standard_normal(more.shape, dtype=np.float32)
    return np.concatenate([tokens, more + np.float32(NOISE) * tokens.std() * noise])


def make_golden(folder: Path) -> Path:
    """Write the full-size aggregator of the golden cases, 1.4 GB, and return its path."""
    golden = shared_folder("UNICAS_EDGE_GOLDEN", "shared/golden")
    spec = importlib.util.spec_from_file_location("fill", golden / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    cases = json.loads((golden / "multitask_aggregator.json").read_text())
    config = AggregatorConfig.model_validate_json(json.dumps(cases["config"]))
    path = folder / "aggregator_golden.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    origin = "untrained: fill.py of the golden cases draws every weight from the CRC-32 of its key"
    metadata = {"config": config.model_dump_json(), "origin": origin}
    save_file(fill.fill(parameter_shapes(config)), path, metadata)
    return path


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
        with torch.no_grad():
            seconds = alternate(calls, rounds)
            found = {name: call() for name, call in calls.items()}
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
            seconds = alternate(calls, rounds)
        return {
            "seconds": {name: medians(seconds)[name] for name in names},
            "baseline / ours": {name: self._times(seconds, name) for name in names},
        }

    def line(self, tokens: np.ndarray, sizes: tuple[int, ...], rounds: int) -> dict[str, object]:
        """Return, for every file of ours, the least-squares line of seconds over tiles."""
        found = [medians(alternate(self._ours(bag_of(tokens, n)), rounds)) for n in sizes]
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


def apart(found: Iterable[np.ndarray | torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """Return the largest difference between the logits of two aggregators."""
    pairs = zip(map(np.asarray, found), map(np.asarray, wanted), strict=True)
    return max(float(np.abs(row[: len(other)] - other).max()) for row, other in pairs)


def medians(seconds: dict[str, Rounds]) -> dict[str, float]:
    """Return the median seconds of every contestant by the wall clock."""
    return {name: median(rounds.wall) for name, rounds in seconds.items()}


def fit(sizes: tuple[int, ...], seconds: list[float]) -> dict[str, object]:
    """Return the least-squares line seconds = a + b tiles and its R^2."""
    slope, intercept = np.polyfit(sizes, seconds, 1)
    residual = np.sum((np.array(seconds) - intercept - slope * np.array(sizes)) ** 2)
    r2 = 1 - residual / np.sum((seconds - np.mean(seconds)) ** 2)
    return {
        "a, ms": 1e3 * float(intercept), "b, us a tile": 1e6 * float(slope), "R^2": float(r2),
        "ms": {n: 1e3 * s for n, s in zip(sizes, seconds, strict=True)},
    }  # fmt: skip


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def markdown(found: dict[str, dict]) -> str:
    """Return everything measured as Markdown tables."""
    parts = [", ".join(f"{name} {value}" for name, value in found["machine"].items()) + "\n"]
    for n, row in found["dense"].items():
        times = [f"{name} {1e3 * s:.1f} ms" for name, s in row["seconds"].items()]
        parts.append(f"n = {n:,}: " + ", ".join(times) + "\n")
        others = {"dense": row["dense / ours"]} | found["baselines"][n]["baseline / ours"]
        names = [name if name == "dense" else f"{TASKS} x {name}" for name in others]
        single, double = row["logits from dense"], row["logits from float64"]
        parts.append(table(["ours", *names, "logits from dense", "from float64"], [
            [name, *(f"{times[name]:.1f}x" for times in others.values()),
             f"{difference:.1e}", f"{double[name]:.1e}"]
            for name, difference in single.items()
        ]))  # fmt: skip
        parts.append(f"dense in float32 from float64: {double['dense']:.1e}\n")
    keys = ["a, ms", "b, us a tile", "R^2"]
    rows = [[name, *(f"{row[key]:.4g}" for key in keys)] for name, row in found["line"].items()]
    parts.append(table(["time over n", *keys], rows))
    for n, row in found["memory"].items():
        rows = [[name, f"{mb:.0f}", f"{mb / row['dense']:.2f}"] for name, mb in row.items()]
        parts.append(table([f"n = {n:,}", "peak MB", "of dense"], rows))
    return "\n".join(parts)


def measure(contest: Contest, sizes: list[int], rounds: int, *, quick: bool) -> dict[str, dict]:
    """Return everything this program measures, by kind and by number of tiles."""
    tokens = real_tokens()
    bags = {n: bag_of(tokens, n) for n in sizes}
    return {
        "machine": machine() | {"load before": f"{os.getloadavg()[0]:.1f}"},
        "dense": {n: contest.against_dense(bag, rounds) for n, bag in bags.items()},
        "baselines": {n: contest.against_baselines(bag, min(rounds, 3)) for n, bag in bags.items()},
        "line": {} if quick else contest.line(tokens, LINE, rounds),
        "memory": {} if quick else {n: contest.memory(bag_of(tokens, n)) for n in MEMORY},
    }


@contextmanager
def files_of(names: list[str]):
    """Give the paths of the aggregators; ``golden`` is written for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        yield [make_golden(Path(folder)) if name == "golden" else Path(name) for name in names]


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aggregators", description=__doc__)
    parser.add_argument("--aggregator", nargs="+", action="extend", metavar="FILE|golden")
    parser.add_argument("--n", nargs="+", type=int, default=[800, 4_800, 20_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="neither the line nor the memory")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--make-golden", type=Path, metavar="DIR", help="write the weights and end")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    if options.make_golden:
        print(make_golden(options.make_golden))
        return 0
    with files_of(options.aggregator or ["golden"]) as files:
        contest = Contest(files, options.threads)
        found = measure(contest, options.n, options.rounds, quick=options.quick)
    print(markdown(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
