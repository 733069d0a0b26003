"""The effective rank of tokens: how many directions they take, and a collapse seen by it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")

from unicas_edge.train.encoder.rank import effective_rank, rank_figures  # noqa: E402


def test_the_effective_rank_counts_directions(rng):
    basis = torch.from_numpy(np.linalg.qr(rng.standard_normal((40, 40)))[0])
    for directions in (1, 3, 17):
        assert effective_rank(basis[:, :directions] @ basis[:directions]) == pytest.approx(
            directions, rel=1e-3
        )
    uneven = torch.diag(torch.tensor([0.5, 0.25, 0.25]))
    assert effective_rank(uneven) == pytest.approx(2 * 2**0.5, rel=1e-4)


def test_what_all_tokens_share_is_no_direction(rng):
    tokens = torch.from_numpy(rng.standard_normal((200, 8))) + 50
    figures = rank_figures(tokens)
    assert figures["rank"] < 2
    assert figures["centred_rank"] > 7.5


def test_collapsed_tokens_have_rank_one():
    figures = rank_figures(torch.ones(20, 8))
    assert figures["rank"] == pytest.approx(1, abs=1e-3)
    assert np.isfinite(figures["centred_rank"])
