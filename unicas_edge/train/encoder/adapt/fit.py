"""Adaptation: a pretrained encoder learns every labelled source of cytology at once.

One linear layer a source reads the CLS token: which cell this is, or what a tile holds. They are
thrown away afterwards; what remains is an encoder whose tokens tell these things apart. What is
kept is a moving average of its weights, which generalises better than the last step's (Izmailov et
al., UAI 2018). Learning rates fall from block to block towards the pixels (Clark et al., ICLR
2020), as pretrained edges and colours are right already.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unicas_edge.train.encoder.adapt.data import TILE_SOURCE, AdaptData, Batch
from unicas_edge.train.encoder.augment import normalise
from unicas_edge.train.encoder.model import VisionTransformer
from unicas_edge.train.loop.fit import Settings, fit
from unicas_edge.train.loop.trainable import follow

#: Labels are smoothed by so much (Szegedy et al., CVPR 2016): published labels have errors too.
_SMOOTHING = 0.1
_HEAD_LR = 1e-3
#: Mixed images are mostly one or the other: Beta(0.4, 0.4).
_MIX = 0.4
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class AdaptSettings:
    """How an encoder is adapted. `decay` is the learning rate's from each block to the one below.

    The embedding and the first `frozen` blocks stay as they are. `average` is the decay of the
    moving average of weights, `seed` that of everything random. `precision` bf16 takes a third to
    a half of the time on a processor that multiplies in it (AMX, AVX-512 BF16), and four times on
    one that cannot. Tokens that aggregators and heads learn from are then computed in it too.
    """

    steps: int = 360
    lr: float = 3e-4
    decay: float = 0.75
    frozen: int = 4
    average: float = 0.99
    precision: Precision = "fp32"
    seed: int = 0

    def loop(self) -> Settings:
        """Return the settings of the loop."""
        return Settings(
            steps=self.steps,
            lr=self.lr,
            warmup_steps=max(1, self.steps // 12),
            final_lr=0.0,
            weight_decay=0.05,
            clip_norm=1.0,
            precision=self.precision,
            seed=self.seed,
            save_every=200,
        )


def adapt(
    encoder: VisionTransformer,
    data: AdaptData,
    settings: AdaptSettings,
    folder: Path,
    *,
    resume: bool = False,
    workers: int = 1,
) -> VisionTransformer:
    """Return the adapted encoder, in evaluation mode; the run is left in `folder` (`loop.fit`).

    Errors are `loop.fit`'s.
    """
    training = Adaptation(encoder, data, settings)
    fit(
        training,
        data.batch,
        settings.loop(),
        folder,
        resume=resume,
        workers=workers,
        identity={"adapt": asdict(settings), "data": data.identity},
        title="adaptation",
    )
    training.averaged.eval()
    return training.averaged


class Adaptation:
    """`loop.Trainable`: an encoder, a head for each source, and the average of the encoder."""

    def __init__(
        self, encoder: VisionTransformer, data: AdaptData, settings: AdaptSettings
    ) -> None:
        self.encoder, self.settings, self.binary = encoder, settings, data.binary
        for key, parameter in encoder.named_parameters():
            parameter.requires_grad_(_level(key, encoder.vit.depth) > settings.frozen)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(settings.seed)
            self.heads = nn.ModuleDict(
                {name: nn.Linear(encoder.vit.width, n) for name, n in data.outputs.items()}
            )
        self.averaged: VisionTransformer = copy.deepcopy(encoder).requires_grad_(False)
        self.normalise = normalise(data.mean, data.std)
        self.modules: dict[str, nn.Module] = {
            "encoder": encoder,
            "heads": self.heads,
            "average": self.averaged,
        }

    def parameters(self) -> Iterable[dict[str, Any]]:
        """Return a group for each tensor of the encoder, by its depth, and one of the heads."""
        depth = self.encoder.vit.depth
        trained = (pair for pair in self.encoder.named_parameters() if pair[1].requires_grad)
        for key, parameter in trained:
            above = depth + 1 - _level(key, depth)
            plain = parameter.ndim == 1 or key.endswith(("_token", "pos_embed"))
            yield {
                "params": [parameter],
                "lr_scale": self.settings.decay**above,
                "wd_scale": 0.0 if plain else 1.0,
            }
        heads = list(self.heads.parameters())
        yield {"params": heads, "lr_scale": _HEAD_LR / self.settings.lr, "wd_scale": 0.2}

    def loss(self, batch: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        """Return the sum over sources, each the mean cross entropy of its images' labels.

        Of every second source of cells the images are mixed in pairs (mixup, Zhang et al., ICLR
        2018), as there are few of each.
        """
        sizes = [len(part.images) for part in batch.values()]
        mixes = [_mix_of(name, sizes[k], step + k) for k, name in enumerate(batch)]
        shown = [
            mix.images(self.normalise(part.images))
            for mix, part in zip(mixes, batch.values(), strict=True)
        ]
        tokens = self.encoder(torch.cat(shown)).float().split(sizes)
        parts: dict[str, Tensor] = {}
        for (name, part), mix, of in zip(batch.items(), mixes, tokens, strict=True):
            with torch.autocast(of.device.type, enabled=False):
                logits = self.heads[name](of)
                losses = [
                    share * self._of_source(name, logits, labels)
                    for share, labels in mix.labels(part.labels)
                ]
            parts[name] = torch.stack(losses).sum()
        total = torch.stack(list(parts.values())).sum()
        return {"loss": total, **{name: part.detach() for name, part in parts.items()}}

    def _of_source(self, name: str, logits: Tensor, labels: Tensor) -> Tensor:
        if name == TILE_SOURCE:
            known = ~labels.isnan()
            smooth = labels[known] * (1 - _SMOOTHING) + _SMOOTHING / 2
            return functional.binary_cross_entropy_with_logits(logits[known], smooth)
        loss = functional.cross_entropy(logits, labels, label_smoothing=_SMOOTHING)
        if name not in self.binary:
            return loss
        # the first class against all others, which is what is asked of this source
        other = logits[:, 1:].logsumexp(1) - logits[:, 0]
        target = (labels > 0) * (1 - _SMOOTHING) + _SMOOTHING / 2
        return (loss + functional.binary_cross_entropy_with_logits(other, target)) / 2

    def after_step(self, step: int) -> None:
        """Move the average; it follows closely at first, while there is little to average."""
        keep = min(self.settings.average, (1 + step) / (10 + step))
        follow(self.averaged, self.encoder, keep)

    def validate(self) -> dict[str, float]:
        """Return nothing: the length of the run is fixed, so no data is spent on ending it."""
        return {}


@dataclass(frozen=True)
class _Mix:
    """Images of a source mixed in pairs: `share` of each, the rest of the one in `order`."""

    share: float = 1.0
    order: Tensor | None = None

    def images(self, x: Tensor) -> Tensor:
        """Return x [n, ...], mixed."""
        return x if self.order is None else x.lerp(x[self.order], 1 - self.share)

    def labels(self, y: Tensor) -> list[tuple[float, Tensor]]:
        """Return the labels that count, each with its share."""
        both = [(self.share, y)]
        return both if self.order is None else [*both, (1 - self.share, y[self.order])]


def _mix_of(name: str, count: int, turn: int) -> _Mix:
    if name == TILE_SOURCE or turn % 2:
        return _Mix()
    share = float(torch.distributions.Beta(_MIX, _MIX).sample())
    return _Mix(share, torch.randperm(count))


def _level(key: str, depth: int) -> int:
    """Return how high in the network a tensor is: 0 for the embedding, `depth` + 1 at the top."""
    if key.startswith("blocks."):
        return int(key.split(".")[1]) + 1
    return depth + 1 if key.startswith("norm") else 0
