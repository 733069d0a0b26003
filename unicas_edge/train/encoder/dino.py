"""What DINOv2 (Oquab et al., TMLR 2024) learns by: three losses, their head, and masks.

- DINO (Caron et al., ICCV 2021): the student says of every view of a tile what the teacher says of
  another view of it;
- iBOT (Zhou et al., ICLR 2022): it says of a patch that it cannot see what the teacher says of it;
- KoLeo (Sablayrolles et al., ICLR 2019): tokens of a batch keep away from their nearest neighbours.

Written from the papers; ``docs/decisions/dino-losses.md`` says why they are no library's. Keys of
the state dicts are those of runs saved when they were.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from unicas_edge.train.loop.processes import mean_of_all

#: The student's temperature, and how much of a centre each step keeps: DINO's.
STUDENT_TEMPERATURE, CENTRE_KEPT = 0.1, 0.9
_EPSILON = 1e-8
#: Masked blocks are between so much and its inverse as high as wide; so often one is tried for.
_ASPECT, _TRIES = 0.3, 10


class Centre(nn.Module):
    """The moving average of what the teacher says, [..., prototypes], over all processes.

    Taken off before the teacher's softmax, so that no prototype is said of everything.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.center: Tensor
        self.register_buffer("center", torch.zeros(shape))
        self.kept = CENTRE_KEPT

    def shares(self, told: Tensor, temperature: float) -> Tensor:
        """Return the teacher's softmax of logits [..., prototypes], centred and sharpened."""
        return ((told - self.center) / temperature).softmax(dim=-1)

    def follow(self, told: Tensor) -> None:
        """Move towards the mean of logits [..., prototypes]."""
        with torch.no_grad():
            mean = mean_of_all(told.flatten(0, -2).mean(dim=0))
            self.center = self.center * self.kept + mean * (1 - self.kept)


class TileLoss(Centre):
    """DINO's loss of a tile's views."""

    def __init__(self, prototypes: int) -> None:
        super().__init__(1, 1, prototypes)

    def forward(self, told: Tensor, said: Tensor, temperature: float) -> Tensor:
        """Return the mean cross entropy over pairs of a view told of and another one said of.

        `told` [T, B, prototypes] are the teacher's logits, `said` [S, B, prototypes] the student's,
        whose first T views are the same; T * S > T. The centre moves.
        """
        logs = (said / STUDENT_TEMPERATURE).log_softmax(dim=-1)
        pairs = -torch.einsum("tbk,sbk->ts", self.shares(told, temperature), logs)
        other = ~torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
        self.follow(told)
        return pairs[other].mean() / told.shape[1]


class PatchLoss(nn.Module):
    """iBOT's loss of masked patches."""

    def __init__(self, prototypes: int) -> None:
        super().__init__()
        self.center = Centre(1, prototypes)

    def forward(self, told: Tensor, said: Tensor, mask: Tensor, temperature: float) -> Tensor:
        """Return the mean over images of the mean cross entropy of their masked patches.

        `told` and `said` [m, prototypes] are the logits of the m patches where `mask` bool [B, ...]
        is set, in its order; an image without one counts as 0. The centre moves.
        """
        logs = (said / STUDENT_TEMPERATURE).log_softmax(dim=-1)
        each = -(self.center.shares(told, temperature) * logs).sum(dim=-1)
        flat = mask.flatten(1)
        shares = (1 / flat.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(flat)[flat]
        self.center.follow(told)
        return (each * shares).sum() / len(mask)


def koleo(tokens: Tensor) -> Tensor:
    """Return the mean of -log of each token's distance to the nearest one, on the unit sphere.

    `tokens` [n, width], n >= 2.
    """
    unit = functional.normalize(tokens, dim=-1, eps=_EPSILON)
    with torch.no_grad():
        nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(dim=1)
    gaps = functional.pairwise_distance(unit, unit[nearest], eps=_EPSILON)
    return -(gaps + _EPSILON).log().mean()


class ProjectionHead(nn.Module):
    """DINO's head: a perceptron of three layers to a bottleneck, and its cosine with prototypes."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.layers[::2]:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.last_layer = _Prototypes(bottleneck, prototypes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits [..., prototypes] of tokens [..., width]."""
        logits: Tensor = self.last_layer(functional.normalize(self.layers(tokens), dim=-1))
        return logits


class _Prototypes(nn.Module):
    """A linear layer whose rows have a direction that is learnt and a length that stays 1."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(nn.Linear(width, count, bias=False).weight.detach())
        self.register_buffer("weight_g", torch.ones(count, 1))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight_g * functional.normalize(self.weight_v, dim=1)
        return functional.linear(x, rows)


def block_masks(
    images: int, side: int, share: float, ratio: tuple[float, float], least: int
) -> Tensor:
    """Return which patches are hidden from the student: bool [images, side, side].

    In a `share` of the images, blocks of at least `least` patches (BEiT, Bao et al., ICLR 2022)
    until between the two of `ratio` are hidden, evenly spread over the images. From Python's
    global generator (`feed.seed_all`).
    """
    masked = int(images * share)
    edges = torch.linspace(*ratio, masked + 1).tolist()
    masks = [
        _blocks(side, int(side**2 * random.uniform(low, high)), least)  # noqa: S311 - no secret
        for low, high in pairwise(edges)
    ]
    masks += [torch.zeros(side, side, dtype=torch.bool)] * (images - masked)
    random.shuffle(masks)
    return torch.stack(masks)


def _blocks(side: int, wanted: int, least: int) -> Tensor:
    mask = torch.zeros(side, side, dtype=torch.bool)
    while (missing := wanted - int(mask.sum())) > 0:
        if not any(_hide(mask, least, missing) for _ in range(_TRIES)):
            break
    return mask


def _hide(mask: Tensor, least: int, most: int) -> bool:
    """Hide a random block, unless it does not fit or hides nothing new or more than `most`."""
    side, limit = len(mask), math.log(1 / _ASPECT)
    area = random.uniform(least, most)  # noqa: S311 - no secret
    aspect = math.exp(random.uniform(-limit, limit))  # noqa: S311
    high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if high >= side or wide >= side:
        return False
    top, left = random.randint(0, side - high), random.randint(0, side - wide)  # noqa: S311
    block = mask[top : top + high, left : left + wide]
    if not 0 < int((~block).sum()) <= most:
        return False
    block[:] = True
    return True
