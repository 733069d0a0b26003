"""The single-task baselines: what they take, give, keep and learn."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from unicas_edge.errors import AggregatorError, TrainingError

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("torchmil", reason="the extra `bench` (torchmil) is not installed")

from unicas_edge.train.aggregator.baselines.dtfree import KEEP, DTFree  # noqa: E402
from unicas_edge.train.aggregator.baselines.mil import BASELINES  # noqa: E402


def tokens_of(rng, n, width):
    return torch.from_numpy(rng.standard_normal((n, width), dtype="f4"))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(("n", "classes"), [(1, 2), (2, 1), (300, 5)])
def test_a_baseline_gives_the_logits_of_one_bag_and_finite_gradients(name, n, classes, rng):
    torch.manual_seed(0)
    module = BASELINES[name](1024, classes)
    logits = module(tokens_of(rng, n, 1024))
    assert logits.shape == (classes,)
    assert logits.dtype == torch.float32
    logits.square().sum().backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_refuses_no_tokens_and_another_width(name):
    module = BASELINES[name](16, 2)
    with pytest.raises(AggregatorError, match="no tokens"):
        module(torch.zeros(0, 16))
    with pytest.raises(AggregatorError, match=r"\[n, 16\]"):
        module(torch.zeros(4, 17))


@pytest.mark.parametrize(
    ("name", "invariant"), [("TransMIL", 0), ("attention MIL", 1), ("DTFree", 1)]
)
def test_which_baselines_depend_on_the_order_of_tiles(name, invariant, rng):
    torch.manual_seed(0)
    module = BASELINES[name](32, 2).eval().double()
    with torch.no_grad():  # an untrained head would hide a difference
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        tokens, order = tokens_of(rng, 225, 32).double(), torch.from_numpy(rng.permutation(225))
        moved = (module(tokens) - module(tokens[order])).abs().max().item()
    assert moved < 1e-9 if invariant else moved > 1e-6


def test_dtfree_keeps_the_most_suspicious_tiles_and_judges_by_them_alone(rng):
    torch.manual_seed(0)
    module = DTFree(32, 2, keep=10).eval()
    tokens = tokens_of(rng, 60, 32)
    with torch.no_grad():
        coarse, attention = module.coarse(tokens)
        found = module.stages(tokens)
        assert set(found.kept.tolist()) == set(attention.argsort()[-10:].tolist())
        assert attention.sum() < 1
        assert torch.equal(found.coarse, coarse)
        assert torch.equal(found.fine, module.fine(tokens[found.kept])[0])
        assert torch.equal(module(tokens), found.fine)


def test_dtfree_keeps_every_tile_of_a_small_bag_and_128_of_a_large_one(rng):
    module = DTFree(32, 2).eval()
    with torch.no_grad():
        assert sorted(module.stages(tokens_of(rng, 20, 32)).kept.tolist()) == list(range(20))
        assert len(module.stages(tokens_of(rng, 400, 32)).kept.unique()) == KEEP == 128


def test_dtfree_learns_each_stage_from_its_own_logits(rng):
    module = DTFree(32, 2, keep=4)
    found = module.stages(tokens_of(rng, 20, 32))
    found.fine.sum().backward(retain_graph=True)
    assert all(p.grad is None for p in module.coarse.parameters())
    assert all(p.grad is not None for p in module.fine.parameters())
    found.coarse.sum().backward()
    assert all(p.grad is not None for p in module.coarse.parameters())


def test_the_pooled_row_is_the_first_row_of_the_whole_block(rng):
    torch.manual_seed(0)
    block = DTFree(32, 2).fine.last.double()
    x = torch.from_numpy(rng.standard_normal((30, 512)))
    with torch.no_grad():
        row, attention = block.first(x)
        np.testing.assert_allclose(row, block(x)[0], atol=1e-12)
        assert attention.sum().item() == pytest.approx(1)


def test_without_torchmil_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmil.models", None)
    for name in BASELINES.keys() - {"DTFree"}:
        with pytest.raises(TrainingError, match=r"pip install 'unicas-edge\[bench\]'"):
            BASELINES[name](16, 2)
    assert BASELINES["DTFree"](16, 2)(torch.zeros(3, 16)).shape == (2,)
