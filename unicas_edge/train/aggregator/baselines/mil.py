"""The aggregators that the UniCAS paper and its field compare with: one task, one bag, logits.

A factory of `BASELINES` takes the width of the tokens and the number of classes; its module's
forward takes tokens [n, width], n >= 1, and returns logits [classes]. All but DTFree come from
torchmil (Apache-2.0, of the extra `bench`) with the published hyper-parameters; what torchmil
leaves out is said below.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from unicas_edge.errors import TrainingError
from unicas_edge.train.aggregator.baselines.dtfree import DTFree
from unicas_edge.train.aggregator.model import check_tokens

#: Of tokens inside TransMIL, attention MIL and DTFD-MIL alike.
_INNER = 512


class _OneBag(nn.Module):
    """A torchmil model of one bag: tokens [n, width] -> logits [classes]."""

    def __init__(self, model: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.model, self.width, self.classes = model, width, classes

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, self.width)
        return self.model(tokens[None]).reshape(self.classes)


def _torchmil(part: str) -> Any:  # noqa: ANN401 - a module
    """Return a module of torchmil, which only comparisons need."""
    try:
        return import_module(f"torchmil.{part}")
    except ModuleNotFoundError as error:
        raise TrainingError(
            "TransMIL, attention MIL and DTFD-MIL need torchmil, which training an aggregator does "
            "not: pip install 'unicas-edge[bench]'"
        ) from error


def _reduction(width: int, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, _INNER), nn.ReLU(), nn.Dropout(dropout))


def trans_mil(width: int, classes: int) -> nn.Module:
    """Return TransMIL (Shao et al., NeurIPS 2021), 512 wide.

    2 Nystrom layers of 8 heads, 256 landmarks and 6 iterations of the pseudo-inverse:
    github.com/szc19990412/TransMIL, models/TransMIL.py, and UniCAS's copy of it. torchmil has
    neither the convolution over values nor the linear layer and dropout behind the heads.
    """
    model = _torchmil("models").TransMIL(
        (width,),
        _INNER,
        n_layers=2,
        n_heads=8,
        n_landmarks=256,
        pinv_iterations=6,
        feat_ext=_reduction(width),
    )
    model.classifier = nn.Linear(_INNER, classes)
    return _OneBag(model, width, classes)


def attention_mil(width: int, classes: int) -> nn.Module:
    """Return gated attention MIL (Ilse et al., ICML 2018), 512 wide with 128 attention units.

    Their histopathology architecture on features instead of pixels; UniCAS's repository has the
    same widths, and dropout 0.25.
    """
    model = _torchmil("models").ABMIL(
        (width,), att_dim=128, gated=True, feat_ext=_reduction(width, dropout=0.25)
    )
    model.classifier = nn.Linear(_INNER, classes)
    return _OneBag(model, width, classes)


def dtfd_mil(width: int, classes: int) -> nn.Module:
    """Return DTFD-MIL (Zhang et al., CVPR 2022), 512 wide, gated attention of 128 units.

    4 random pseudo-bags distilled by attention (AFS): the defaults of
    github.com/hrzhang1123/DTFD-MIL, Main_DTFD_MIL.py. The pseudo-bags are drawn anew by every
    call, from NumPy's global generator, in evaluation too.
    """
    model = _torchmil("models").DTFDMIL(
        (width,), att_dim=128, n_groups=4, distill_mode="afs", feat_ext=_reduction(width)
    )
    pool = _torchmil("nn").AttentionPool
    model.attention_pool = pool(_INNER, 128, gated=True)
    model.u_attention_pool = pool(_INNER, 128, gated=True)
    model.classifier = nn.Linear(_INNER, classes)
    model.u_classifier = nn.Linear(_INNER, classes)
    return _OneBag(model, width, classes)


BASELINES: dict[str, Callable[[int, int], nn.Module]] = {
    "TransMIL": trans_mil,
    "attention MIL": attention_mil,
    "DTFD-MIL": dtfd_mil,
    "DTFree": DTFree,
}
