"""Pre-training without labels: DINOv2 (Oquab et al., TMLR 2024), as the UniCAS paper uses it.

A student sees two large crops, partly masked, and eight small ones; it learns to say what its own
moving average, the teacher, says of the whole large crops, of the tile (DINO) and of each masked
patch (iBOT). The teacher is the encoder that comes out. Losses, heads and masks are lightly's. Left
out of DINOv2: stochastic depth, and Sinkhorn-Knopp, in whose place stands DINO's centring.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import random_block_mask, update_momentum
from lightly.utils.scheduler import linear_warmup_schedule
from torch import Tensor, nn

from unicas_edge.errors import TrainingError
from unicas_edge.models.architectures import ARCHITECTURES
from unicas_edge.models.checkpoint import digest
from unicas_edge.train.encoder import augment
from unicas_edge.train.encoder.files import save_encoder, start_from
from unicas_edge.train.encoder.model import VisionTransformer
from unicas_edge.train.encoder.rank import rank_figures
from unicas_edge.train.encoder.tile_sources import TileSource
from unicas_edge.train.encoder.views import crop
from unicas_edge.train.loop import feed
from unicas_edge.train.loop.config import Dino, PretrainConfig
from unicas_edge.train.loop.fit import History, fit
from unicas_edge.train.loop.processes import place
from unicas_edge.train.loop.settings import cosine

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
        low, high = self.dino.mask_ratio
        mask: Tensor = random_block_mask(
            (2 * self.count, self.side, self.side),
            self.dino.mask_share,
            low,
            high,
            min_num_masks_per_block=max(1, min(_BLOCK, int(self.side**2 * low))),
        )
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
                "tile": DINOLoss(config.dino.prototypes),
                "patch": IBOTPatchLoss(config.dino.prototypes),
            }
        )
        self.koleo = KoLeoLoss()
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
        said = [*self.heads.tile(tokens).chunk(2)]
        if "local" in batch:
            small, _ = self.student.forward_features(batch["local"])
            said += self.heads.tile(small).chunk(self.config.crops.local_count)
        said_patches = self.heads.patches(patches[flat])
        with torch.autocast(pixels.device.type, enabled=False):
            return self._sum(step, told, said, told_patches, said_patches, mask, tokens)

    def _sum(
        self,
        step: int,
        told: Tensor,
        said: list[Tensor],
        told_patches: Tensor,
        said_patches: Tensor,
        mask: Tensor,
        tokens: Tensor,
    ) -> dict[str, Tensor]:
        dino = self.config.dino
        start, end = dino.temperature
        temperature = linear_warmup_schedule(step, dino.temperature_steps, start, end)
        tile = self.losses["tile"](
            [part.float() for part in told.chunk(2)], [part.float() for part in said], temperature
        )
        patch = self.losses["patch"](told_patches.float(), said_patches.float(), mask, temperature)
        koleo = torch.stack([self.koleo(half) for half in tokens.float().chunk(2)]).sum()
        loss = tile + dino.patch_weight * patch + dino.koleo_weight * koleo
        parts = {"tile": tile, "patch": patch, "koleo": koleo}
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}

    def after_step(self, step: int) -> None:
        """Move the teacher towards the student."""
        momentum = cosine(step, self.config.optimisation.steps, self.config.dino.momentum, 1.0)
        for mine, theirs in self._pairs():
            update_momentum(mine, theirs, momentum)

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


def _head(dino: Dino, width: int) -> nn.Module:
    with warnings.catch_warnings():  # PyTorch has a newer weight_norm than lightly uses
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated")
        head: nn.Module = DINOProjectionHead(width, dino.hidden, dino.bottleneck, dino.prototypes)
    return head


class _MaskToken(nn.Module):
    """What stands in the place of a masked patch; only pre-training needs it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))


def middles(source: TileSource, count: int, side: int) -> Tensor:
    """Return the middles of `count` random tiles, uint8 [count, 3, side, side]."""
    middle = augment.Middle(side)
    return torch.stack([middle(augment.as_tensor(tile)) for tile in source.draw(count)])


def share_of_batch(batch: int) -> int:
    """Return how many tiles of a step this process takes; `TrainingError` if they do not divide."""
    world = place().world
    if batch % world or batch // world < 2:
        raise TrainingError(
            f"batch = {batch} cannot be shared by {world} processes, at least 2 tiles each"
        )
    return batch // world


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
    identity = {
        "pretrain": config.model_dump(mode="json"),
        "data": source.identity,
        "start": None if start is None else digest(start),
    }
    history = fit(
        model,
        views,
        optimisation.settings(),
        folder,
        resume=resume,
        identity=identity,
        device=device,
        workers=workers,
        title="DINOv2 pre-training",
    )
    if place().rank == 0:
        save_encoder(folder, model.teacher, f"unicas-edge train pretrain, {history.steps} steps")
    return history
