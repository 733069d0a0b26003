"""How many directions an encoder's tokens use: the sign of collapse that a loss does not show."""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-7


def effective_rank(tokens: Tensor) -> float:
    """Return RankMe of `tokens` [n, width]: exp of the entropy of their singular values.

    Garrido et al., "RankMe", ICML 2023, equation 1; between 1 and min(n, width).
    """
    values = torch.linalg.svdvals(tokens.double())
    shares = values / values.sum().clamp_min(_EPSILON) + _EPSILON
    return float(torch.exp(-(shares * shares.log()).sum()))


def rank_figures(tokens: Tensor) -> dict[str, float]:
    """Return ``rank`` (RankMe) and ``centred_rank``, that of what tells the tokens apart."""
    return {
        "rank": effective_rank(tokens),
        "centred_rank": effective_rank(tokens - tokens.mean(dim=0)),
    }
