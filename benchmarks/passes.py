"""Where the aggregator's time goes: each pass over n, and beside what the machine gives at most.

``python -m benchmarks.passes --aggregator FILE.safetensors [FILE ...] --json out.json`` needs real
bags (UNICAS_EDGE_DATA), or ``golden`` for a file and the golden weights, but no torch.
The formulas count useful work only: the rows of the padded square grid, but no padding of widths to
vectors, no norms, exponentials or copies, and of the bytes the weights', not the rows'.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from math import isqrt
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.harness import alternate, fit, machine, medians, ratio, table
from benchmarks.inputs import bag_of, files_of, real_tokens
from unicas_edge.aggregator.aggregator import PASSES, Aggregator, Bag
from unicas_edge.bundle.manifest import AggregatorConfig

SIZES = (1, 400, 800, 1_600, 3_200, 4_800, 10_000, 20_000)
SHOWN = (800, 4_800)
SLIDES, TILES = 8, 800
PEAK_RUNS = 5
EXPERT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
NAMES = ("push", *PASSES, "total")


@dataclass(frozen=True)
class Work:
    """Useful work of a pass over all blocks: multiply-adds, and bytes of weights read."""

    macs: int
    weight_bytes: int


@dataclass(frozen=True)
class Peak:
    """What `threads` threads reach at most, or None where it could not be measured."""

    instructions: str | None = None
    gmac: float | None = None
    gb: float | None = None


def grid_rows(n: int) -> int:
    """Return the rows N of the smallest square grid that holds `n` tiles."""
    return (isqrt(n - 1) + 1) ** 2


def work(config: AggregatorConfig, n: int, experts: str) -> dict[str, Work]:
    """Return the useful work of push and of every pass, by the equations of the kernels."""
    c, t, blocks, rows = config.embed_dim, config.num_tasks, config.depth, grid_rows(n)
    heads, slots = config.num_heads, config.num_experts * config.slots_per_expert
    queries, kept = t * heads, min(config.top_m, rows)
    expert = _expert_bytes(config, experts)
    found = {
        "push": Work(n * config.embed_dim_in * c, 4 * config.embed_dim_in * c),
        "positions": Work(rows * 49 * c, 4 * 49 * c),
        "queries": Work(blocks * 2 * t * c * c, 4 * blocks * (t + 1) * c * c),
        "scores": Work(rows * c * (blocks * queries + (blocks - 1) * slots), 0),
        "select": Work(blocks * queries * kept * c, 0),
        "project": Work(
            blocks * (2 * t * c * c + queries * kept * config.head_dim * c),
            4 * blocks * (t + 1) * c * c,
        ),
        "route": Work(blocks * 2 * (rows + t) * slots * c, 4 * blocks * slots * c),
        "experts": Work(blocks * 2 * slots * c * config.hidden_dim, blocks * expert),
    }
    parts = found.values()
    total = Work(sum(part.macs for part in parts), sum(part.weight_bytes for part in parts))
    return found | {"total": total}


def _expert_bytes(config: AggregatorConfig, experts: str) -> int:
    """Return the bytes of a block's expert matrices; int8 has a float32 scale for every row."""
    c, hidden = config.embed_dim, config.hidden_dim
    scales = 4 * (c + hidden) if experts == "int8" else 0
    return config.num_experts * (2 * c * hidden * EXPERT_BYTES[experts] + scales)


def measured_peak(threads: int) -> Peak:
    """Compile and run ``peak.c``; a message and a `Peak` of nothing where there is no compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        print("no C compiler: no peaks; install one or let CC name it", file=sys.stderr)
        return Peak()
    source = str(Path(__file__).with_name("peak.c"))
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "peak")
        try:
            subprocess.run([compiler, "-O3", "-pthread", source, "-o", program], check=True)
            run = subprocess.run(
                [program, str(threads), str(PEAK_RUNS)], check=True, capture_output=True, text=True
            )
        except subprocess.CalledProcessError as error:
            print(f"no peaks: {error}", file=sys.stderr)
            return Peak()
    found = json.loads(run.stdout)
    return Peak(found["instructions"], found["GMAC/s"], found["GB/s"])


def one_round(bag: Bag, tokens: np.ndarray) -> dict[str, float]:
    """Push, arrange and finish; return the seconds of push, of each pass and of all together."""
    passes, begin = bag.seconds.copy(), time.perf_counter()
    bag.push(0, tokens)
    pushed = time.perf_counter()
    bag.arrange(np.arange(len(tokens)))
    bag.finish()
    end = time.perf_counter()
    parts = dict(zip(PASSES, (bag.seconds - passes).tolist(), strict=True))
    return {"push": pushed - begin} | parts | {"total": end - begin}


def timed(
    model: Aggregator, tokens: np.ndarray, sizes: list[int], rounds: int
) -> dict[int, dict[str, float]]:
    """Return {n: {pass: median seconds}}; all sizes in every round, so that all share its noise."""
    bags = [(model.bag(n), bag_of(tokens, n)) for n in sizes]
    for bag, rows in bags:
        one_round(bag, rows)
    found = [[one_round(bag, rows) for bag, rows in bags] for _ in range(rounds)]
    return {
        n: {name: median(row[name] for row in column) for name in NAMES}
        for n, column in zip(sizes, zip(*found, strict=True), strict=True)
    }


def together(model: Aggregator, tokens: np.ndarray, rounds: int) -> dict[str, float]:
    """Return the seconds of several slides one by one and at once, and the throughput's ratio."""
    slides = np.split(bag_of(tokens, SLIDES * TILES), SLIDES)
    seconds = alternate(
        {
            "one by one": lambda: [model.logits(slide) for slide in slides],
            "logits_many": lambda: model.logits_many(slides),
        },
        rounds,
    )
    times = ratio(seconds["logits_many"].wall, seconds["one by one"].wall)
    return medians(seconds) | {"ratio": times}


def measured(
    model: Aggregator, tokens: np.ndarray, sizes: list[int], rounds: int
) -> dict[str, object]:
    """Return one file's figures: seconds and work of every pass, lines over n, throughput."""
    seconds = timed(model, tokens, sizes, rounds)
    columns = {name: [row[name] for row in seconds.values()] for name in NAMES}
    fitted = columns.items() if len(sizes) > 2 else ()
    works = {n: work(model.config, n, model.experts) for n in sizes}
    return {
        "experts": model.experts,
        "variant": model.variant,
        "seconds": seconds,
        "line": {name: fit(tuple(sizes), column) for name, column in fitted},
        "work": {n: {name: asdict(part) for name, part in row.items()} for n, row in works.items()},
        "together": together(model, tokens, rounds),
    }


def every_figure(files: list[Path], options: argparse.Namespace) -> dict[str, object]:
    """Return everything this program measures: the machine, its peaks, and each file's figures."""
    tokens, found = real_tokens(), {}
    before, load = measured_peak(options.threads), os.getloadavg()[0]
    for path in files:
        model = Aggregator.load(path, threads=options.threads)
        found[path.stem] = measured(model, tokens, options.n, options.rounds)
    after = measured_peak(options.threads)
    facts = {"threads": options.threads, "rounds": options.rounds, "load before": f"{load:.1f}"}
    peaks = {"before": asdict(before), "after": asdict(after)}
    return {"machine": machine() | facts, "peak": peaks, "files": found}


def share(amount: float, seconds: float, peaks: list[float | None]) -> str:
    """Return what per cent of the higher of the measured peaks `amount` in `seconds` is."""
    known = [peak for peak in peaks if peak is not None]
    return f"{100 * amount / seconds / 1e9 / max(known):.0f} %" if known and amount else "–"


def passes_table(n: int, file: dict, peak: dict) -> str:
    """Return the table of one bag size: time and work of each pass, beside the peaks."""
    rows = []
    for name, seconds in file["seconds"][n].items():
        macs, size = file["work"][n][name].values()
        rows.append(
            [
                name,
                f"{1e3 * seconds:.2f}",
                f"{macs / 1e9:.3f}",
                f"{size / 1e6:.1f}" if size else "–",
                share(macs, seconds, [measured["gmac"] for measured in peak.values()]),
                share(size, seconds, [measured["gb"] for measured in peak.values()]),
            ]
        )
    head = ["ms", "GMAC", "MB of weights", "of FMA peak", "of read bandwidth"]
    return table([f"n = {n:,}", *head], rows)


def file_markdown(stem: str, file: dict, peak: dict) -> list[str]:
    """Return the tables of one aggregator file."""
    sizes, lines, many = list(file["seconds"]), file["line"], file["together"]
    columns = ["a, ms", "b, us a tile", "R^2"]
    rows = [
        [
            name,
            *(f"{1e3 * row[name]:.2f}" for row in file["seconds"].values()),
            *(f"{lines[name][key]:.4g}" if lines else "–" for key in columns),
        ]
        for name in NAMES
    ]
    return [
        f"### {stem}: experts in {file['experts']}, {file['variant']} kernels\n",
        "Median ms at n, and the line a + b n:\n",
        table(["pass", *(f"{n:,}" for n in sizes), *columns], rows),
        *(passes_table(n, file, peak) for n in SHOWN if n in sizes),
        f"{SLIDES} slides of {TILES} tiles: logits_many {1e3 * many['logits_many']:.0f} ms, one by "
        f"one {1e3 * many['one by one']:.0f} ms; throughput {many['ratio']:.2f}x\n",
    ]


def markdown(found: dict[str, dict]) -> str:
    """Return everything measured as Markdown."""
    parts = [", ".join(f"{name} {value}" for name, value in found["machine"].items()) + "\n"]
    for when, peak in found["peak"].items():
        figures = f"{peak['gmac']} GMAC/s ({peak['instructions']}), {peak['gb']} GB/s"
        parts.append(f"peaks {when}: {figures if peak['gmac'] else 'not measured'}\n")
    parts.append(
        "Useful work only: no padding to vectors, no norms or softmax; of the bytes the weights "
        "alone, not the rows. Per cent of the higher of the two peaks.\n"
    )
    for stem, file in found["files"].items():
        parts += file_markdown(stem, file, found["peak"])
    return "\n".join(parts)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.passes", description=__doc__)
    parser.add_argument("--aggregator", nargs="+", action="extend", metavar="FILE|golden")
    parser.add_argument("--n", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    with files_of(options.aggregator or ["golden"]) as files:
        found = every_figure(files, options)
    print(markdown(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
