"""The aggregator against the dense PyTorch module with the same weights; goals of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("torchmil", reason="the extra `bench` (torchmil) is not installed")

from benchmarks.aggregators import Contest
from benchmarks.harness import ROOT
from benchmarks.inputs import bag_of, make_golden, real_tokens

#: Times the dense module's speed, on two cores.
GOALS = {800: 4, 4_800: 12, 20_000: 15}
ROUNDS, THREADS, LOGITS = 3, 2, 2e-4


@pytest.fixture(scope="module")
def contest(tmp_path_factory, data_dir):
    if not (data_dir / "unicas_features").is_dir():
        pytest.skip("UNICAS_EDGE_DATA: no unicas_features; the figures need real tokens")
    if not Path(os.environ.get("UNICAS_EDGE_GOLDEN", ROOT.parent / "shared/golden")).is_dir():
        pytest.skip("UNICAS_EDGE_GOLDEN: no folder of golden weights")
    paths = make_golden(tmp_path_factory.mktemp("golden"))
    yield Contest(paths[:1], THREADS)
    for path in paths:  # 2.6 GB
        path.unlink()


@pytest.mark.parametrize("n", GOALS)
def test_against_the_dense_module(contest, benchmark, figures, n):
    bag = bag_of(real_tokens(), n)
    (name,) = contest.ours
    found = contest.against_dense(bag, ROUNDS)
    benchmark.pedantic(contest.ours[name].logits, args=(bag,), rounds=ROUNDS)
    times, apart = found["dense / ours"][name], found["logits from float64"][name]
    figures.add(f"aggregator, {n:,} tiles, ms", f"{1e3 * found['seconds'][name]:.0f}")
    figures.add("dense module / aggregator", f"{times:.1f}x", f">= {GOALS[n]}x", times >= GOALS[n])
    figures.add(
        "largest logit difference from float64", f"{apart:.0e}", f"<= {LOGITS:.0e}", apart <= LOGITS
    )
    assert times >= GOALS[n]
    assert apart <= LOGITS


def test_three_single_task_models_against_one_pass(contest, benchmark, figures):
    bag = bag_of(real_tokens(), 800)
    (name,) = contest.ours
    found = contest.against_baselines(bag, ROUNDS)
    benchmark.pedantic(contest.ours[name].logits, args=(bag,), rounds=ROUNDS)
    for baseline, times in found["baseline / ours"].items():
        figures.add(f"3 x {baseline} / aggregator, 800 tiles", f"{times[name]:.1f}x")
