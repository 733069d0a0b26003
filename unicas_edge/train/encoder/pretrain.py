"""Pre-training without labels: DINOv2 (Oquab et al., TMLR 2024), as the UniCAS paper uses it.

A student sees two large crops, partly masked, and eight small ones; it learns to say what its own
moving average, the teacher, says of the whole large crops, of the tile (DINO) and of each masked
patch (iBOT). The teacher is the encoder that comes out. Left out of DINOv2: stochastic depth, and
Sinkhorn-Knopp, in whose place stands DINO's centring.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unicas_edge.models.architectures import ARCHITECTURES
from unicas_edge.train.encoder import augment
from unicas_edge.train.encoder.dino import (
    PatchLoss,
    ProjectionHead,
    TileLoss,
    block_masks,
    koleo,
)
from unicas_edge.train.encoder.files import start_from
from unicas_edge.train.encoder.model import VisionTransformer
from unicas_edge.train.encoder.rank import rank_figures
from unicas_edge.train.encoder.runs import middles, run, share_of_batch
from unicas_edge.train.encoder.tile_sources import TileSource
from unicas_edge.train.encoder.views import crop
from unicas_edge.train.loop import feed
from unicas_edge.train.loop.config import Dino, PretrainConfig
from unicas_edge.train.loop.fit import History
from unicas_edge.train.loop.settings import cosine
from unicas_edge.train.loop.trainable import follow

_CHUNK = 64  # tiles encoded at once in validation
#: Patches of the smallest masked block: DINOv2's.
_BLOCK = 4


class Views:
    """Batches of pre-training: ``global`` [2 n, 3, S, S], ``local``, and the ``mask`` of patches.

    Pixels are normalised float32, the first view of all `count` tiles before the second; the mask
    is bool [2 n, patches a side, patches a side].
    """

    def __init__(self, source: TileSource, config: PretrainConfig, count: int) -> None:
        c, kind = config.crops, ARCHITECTURES[config.encoder.like]
        jitter = augment.colours(c.brightness, c.contrast, c.saturation, c.hue, c.jitter_share)
        self.source, self.count, self.dino = source, count, config.dino
        self.large = crop(c.global_size, c.global_scale, jitter)
        self.small = crop(c.local_size, c.local_scale, jitter)
        self.local_count, self.side = c.local_count, c.global_size // config.encoder.vit.patch
        self.normalise = augment.normalise(kind.mean, kind.std)

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step."""
        del step  # the generators are seeded for it
        tiles = [augment.as_tensor(tile) for tile in self.source.draw(self.count)]
        batch = {"global": self._views(tiles, self.large, 2), "mask": self._mask()}
        if self.local_count:
            batch["local"] = self._views(tiles, self.small, self.local_count)
        return batch

    def _views(self, tiles: list[Tensor], change: Any, times: int) -> Tensor:  # noqa: ANN401
        views = [change(tile) for _ in range(times) for tile in tiles]
        normalised: Tensor = self.normalise(torch.stack(views))
        return normalised

    def _mask(self) -> Tensor:
        ratio = self.dino.mask_ratio
        least = max(1, min(_BLOCK, int(self.side**2 * ratio[0])))
        mask = block_masks(2 * self.count, self.side, self.dino.mask_share, ratio, least)
        if not mask.any():  # a centre cannot be the mean of nothing
            mask[0, 0, 0] = True
        return mask


class SelfDistillation:
    """Student, teacher and their heads: what `loop.fit` trains.

    `tiles` uint8 [n, 3, S, S] are what the rank is measured on; `start` is an encoder to begin
    with, None for a fresh one.
    """

    def __init__(
        self, config: PretrainConfig, tiles: Tensor, start: VisionTransformer | None = None
    ) -> None:
        self.config, self.tiles = config, tiles
        kind, vit = ARCHITECTURES[config.encoder.like], config.encoder.vit
        self.normalise = augment.normalise(kind.mean, kind.std)
        self.student = VisionTransformer(vit) if start is None else start
        self.teacher = VisionTransformer(vit)
        self.heads, self.teacher_heads = (_Heads(config.dino, vit.width) for _ in range(2))
        self.token = _MaskToken(vit.width)
        self.losses = nn.ModuleDict(
            {
                "tile": TileLoss(config.dino.prototypes),
                "patch": PatchLoss(config.dino.prototypes),
            }
        )
        for mine, theirs in self._pairs():
            theirs.load_state_dict(mine.state_dict())
            theirs.requires_grad_(False).eval()
        self.modules: dict[str, nn.Module] = {
            "student": self.student,
            "teacher": self.teacher,
            "heads": self.heads,
            "teacher_heads": self.teacher_heads,
            "mask_token": self.token,
            "losses": self.losses,
        }

    def _pairs(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        return (self.student, self.teacher), (self.heads, self.teacher_heads)

    def parameters(self) -> Iterable[dict[str, Any]]:
        """Return groups by how their rates are scaled: DINOv2's rules."""
        groups: dict[tuple[float, float, int], list[nn.Parameter]] = {}
        for module in (self.student, self.heads, self.token):
            for key, parameter in module.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault(self._rule(key, parameter), []).append(parameter)
        return [
            {"params": parameters, "lr_scale": lr, "wd_scale": decay, "frozen_steps": frozen}
            for (lr, decay, frozen), parameters in groups.items()
        ]

    def _rule(self, key: str, parameter: nn.Parameter) -> tuple[float, float, int]:
        """Return the scale of the learning rate, of the decay, and the steps it stays frozen."""
        dino, depth = self.config.dino, self.config.encoder.vit.depth
        plain = parameter.ndim == 1 or key.endswith((".bias", ".gamma", "token", "pos_embed"))
        decay = 0.0 if plain else 1.0
        if "last_layer" in key:
            return 1.0, decay, dino.frozen_steps
        layer = depth + 1
        if key.startswith("blocks."):
            layer = int(key.split(".")[1]) + 1
        elif key.startswith(("patch_embed", "cls_token", "reg_token", "pos_embed")):
            layer = 0
        lr = dino.layer_decay ** (depth + 1 - layer)
        return lr * (dino.patch_embed_lr if key.startswith("patch_embed") else 1), decay, 0

    def loss(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Return the loss and its parts: ``tile`` (DINO), ``patch`` (iBOT), ``koleo``."""
        pixels, mask = batch["global"], batch["mask"]
        flat = mask.flatten(1)
        with torch.no_grad():
            told, told_patches = self.teacher.forward_features(pixels)
            told = self.teacher_heads.tile(told)
            told_patches = self.teacher_heads.patches(told_patches[flat])
        tokens, patches = self.student.forward_features(pixels, flat, self.token.weight)
        said = self.heads.tile(tokens)
        if "local" in batch:
            small, _ = self.student.forward_features(batch["local"])
            said = torch.cat([said, self.heads.tile(small)])
        said_patches = self.heads.patches(patches[flat])
        with torch.autocast(pixels.device.type, enabled=False):
            return self._sum(step, told, said, told_patches, said_patches, mask, tokens)

    def _sum(
        self,
        step: int,
        told: Tensor,
        said: Tensor,
        told_patches: Tensor,
        said_patches: Tensor,
        mask: Tensor,
        tokens: Tensor,
    ) -> dict[str, Tensor]:
        dino = self.config.dino
        temperature = _warmed(step, dino.temperature_steps, *dino.temperature)
        count = len(told) // 2  # tiles
        views = (logits.float().unflatten(0, (-1, count)) for logits in (told, said))
        tile = self.losses["tile"](*views, temperature)
        patch = self.losses["patch"](told_patches.float(), said_patches.float(), mask, temperature)
        apart = torch.stack([koleo(half) for half in tokens.float().chunk(2)]).sum()
        loss = tile + dino.patch_weight * patch + dino.koleo_weight * apart
        parts = {"tile": tile, "patch": patch, "koleo": apart}
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}

    def after_step(self, step: int) -> None:
        """Move the teacher towards the student."""
        momentum = cosine(step, self.config.optimisation.steps, self.config.dino.momentum, 1.0)
        for mine, theirs in self._pairs():
            follow(theirs, mine, momentum)

    def validate(self) -> dict[str, float]:
        """Return the ranks of the teacher's tokens of the tiles."""
        device = self.teacher.cls_token.device
        parts = [self.teacher(self.normalise(part.to(device))) for part in self.tiles.split(_CHUNK)]
        return rank_figures(torch.cat(parts).cpu())


class _Heads(nn.Module):
    """Projections to prototypes, of tiles and of patches; one serves both unless `separate`."""

    def __init__(self, dino: Dino, width: int) -> None:
        super().__init__()
        self.tile = _head(dino, width)
        self.patch = _head(dino, width) if dino.separate_patch_head else None

    def patches(self, tokens: Tensor) -> Tensor:
        """Return the logits of patch tokens [m, width]."""
        head = self.tile if self.patch is None else self.patch
        logits: Tensor = head(tokens)
        return logits


def _head(dino: Dino, width: int) -> ProjectionHead:
    return ProjectionHead(width, dino.hidden, dino.bottleneck, dino.prototypes)


def _warmed(step: int, steps: int, start: float, end: float) -> float:
    """Return what rises along a line from `start` at step 0 to `end` at step `steps`."""
    return end if step >= steps else start + step / steps * (end - start)


class _MaskToken(nn.Module):
    """What stands in the place of a masked patch; only pre-training needs it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))


def pretrain(
    config: PretrainConfig,
    source: TileSource,
    folder: Path,
    *,
    start: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    workers: int = 0,
) -> History:
    """Pre-train an encoder; leave the teacher in ``folder/encoder.safetensors``.

    `start` is a checkpoint to begin with. Errors are `loop.fit`'s and `start_from`'s.
    """
    optimisation, vit = config.optimisation, config.encoder.vit
    views = Views(source, config, share_of_batch(optimisation.batch))
    feed.seed_all(optimisation.seed, 0, 0, feed.SETUP)
    tiles = middles(source, config.dino.rank_tiles, vit.size)
    begun = None if start is None else start_from(start, vit)
    model = SelfDistillation(config, tiles, begun)
    return run(
        "pretrain",
        model,
        model.teacher,
        views,
        optimisation,
        folder,
        identity={"pretrain": config.model_dump(mode="json"), "data": source.identity},
        start=start,
        resume=resume,
        device=device,
        workers=workers,
        title="DINOv2 pre-training",
    )
