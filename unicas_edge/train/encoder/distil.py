"""Distillation: a small encoder learns to say what a large one says of the same tiles.

The teacher is frozen: any encoder in torch, or a bundle's in whatever engine runs it. Tokens of a
slide's tiles share a large part that says nothing of the tile, so the student is compared with what
is left: each channel of the teacher less its mean over a sample of tiles, divided by its deviation.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unicas_edge.bundle import Bundle
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.errors import TrainingError
from unicas_edge.models.architectures import ARCHITECTURES, Architecture
from unicas_edge.models.checkpoint import digest
from unicas_edge.tiles.normalise import Normaliser
from unicas_edge.train.encoder import augment
from unicas_edge.train.encoder.files import load_encoder, start_from
from unicas_edge.train.encoder.model import VisionTransformer
from unicas_edge.train.encoder.runs import middles, run, share_of_batch
from unicas_edge.train.encoder.tile_sources import TileSource
from unicas_edge.train.encoder.views import fine_tuning
from unicas_edge.train.loop import feed
from unicas_edge.train.loop.config import DistilConfig
from unicas_edge.train.loop.fit import History
from unicas_edge.train.loop.processes import device_of

_CHUNK = 32
_EPSILON = 1e-6


class Tokens(NamedTuple):
    """What an encoder says: `tile` [B, width], and `patches` [B, n, width] if it tells them."""

    tile: Tensor
    patches: Tensor | None


class Teacher(Protocol):
    """Any frozen encoder; `identity` says which."""

    width: int
    identity: dict[str, Any]

    def __call__(self, tiles: Tensor) -> Tokens:
        """Return the tokens of `tiles` uint8 [B, 3, S, S], on their device, in float32."""


class TorchTeacher:
    """A teacher in torch: `module` is like `encoder.VisionTransformer`, of shape and input `kind`.

    Tiles of another size than its own are resampled (bicubic, antialiased).
    """

    def __init__(
        self, module: VisionTransformer, kind: Architecture, identity: dict[str, Any]
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.width, self.identity, self.size = kind.vit.out_width, identity, kind.vit.size
        self.pooled = kind.vit.pool is not None
        self.normalise = augment.normalise(kind.mean, kind.std)

    def __call__(self, tiles: Tensor) -> Tokens:
        """Return the class token, or the pooler's, and the patches of an encoder without one."""
        with torch.no_grad():
            return self._tokens(tiles)

    def _tokens(self, tiles: Tensor) -> Tokens:
        pixels = self.normalise(tiles)
        if pixels.shape[-1] != self.size:
            pixels = functional.interpolate(
                pixels, size=(self.size, self.size), mode="bicubic", antialias=True
            )
        self.module.to(tiles.device)
        if self.pooled:
            return Tokens(self.module(pixels).float(), None)
        tile, patches = self.module.forward_features(pixels)
        return Tokens(tile.float(), patches.float())


class BundleTeacher:
    """A teacher in the engine that would screen with it, fp32 onnxruntime unless told otherwise."""

    def __init__(
        self, bundle: Bundle, backend: str = "onnxruntime", precision: str = "auto"
    ) -> None:
        self.encoder = open_encoder(bundle, EngineOptions(backend, precision))
        spec = bundle.manifest.input
        self.size, self.width = bundle.manifest.tile.crop_px, self.encoder.width
        self.normaliser = Normaliser(spec.mean, spec.std, None, spec.dtype)
        self.identity = {"bundle": bundle.manifest.name, "files": dict(bundle.manifest.files)}

    def __call__(self, tiles: Tensor) -> Tokens:
        """Return the CLS tokens; `TrainingError` for tiles of another size than the bundle's."""
        if tiles.shape[-1] != self.size:
            raise TrainingError(f"tiles of {tiles.shape[-1]} pixels; the teacher takes {self.size}")
        pixels = np.ascontiguousarray(tiles.permute(0, 2, 3, 1).cpu().numpy())
        parts = [
            self._encode(pixels[i : i + self.encoder.batch_size])
            for i in range(0, len(pixels), self.encoder.batch_size)
        ]
        return Tokens(torch.from_numpy(np.concatenate(parts)).to(tiles.device), None)

    def _encode(self, tiles: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:  # noqa: ANN401 - an array
        shape = (self.encoder.batch_size, 3, self.size, self.size)
        batch: np.ndarray[Any, Any] = np.zeros(shape, self.encoder.dtype)
        for tile, where in zip(tiles, batch, strict=False):
            self.normaliser.into(tile, where)
        return self.encoder.encode(batch)[: len(tiles)].copy()


def open_teacher(path: Path) -> Teacher:
    """Return the teacher in a bundle's folder or an encoder's checkpoint."""
    if path.is_dir():
        return BundleTeacher(Bundle.load(path))
    module, kind, name = load_encoder(path)
    return TorchTeacher(module, kind, {"encoder": name, "sha256": digest(path)})


class Standard(nn.Module):
    """Where a teacher's tokens lie: takes off their mean and divides by their deviation.

    Of each channel, over `tokens` [n, width].
    """

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", tokens.mean(dim=0))
        self.register_buffer("deviation", tokens.std(dim=0).clamp_min(_EPSILON))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens in these terms."""
        scaled: Tensor = (tokens - self.mean) / self.deviation
        return scaled


class Views:
    """Batches of distillation: uint8 [n, 3, S, S], each tile augmented as for fine-tuning."""

    def __init__(self, source: TileSource, config: DistilConfig, count: int) -> None:
        self.source, self.count = source, count
        self.augment = fine_tuning(config.encoder.vit.size, config.scale)

    def __call__(self, step: int) -> Tensor:
        """Return the batch of a step."""
        del step  # the generators are seeded for it
        tiles = self.source.draw(self.count)
        return torch.stack([self.augment(augment.as_tensor(tile)) for tile in tiles])


class Distillation:
    """A student and the projections to its teacher's widths: what `loop.fit` trains.

    `sample` uint8 [n, 3, S, S] says where the teacher's tokens lie, `held` is validated on.
    """

    def __init__(
        self,
        config: DistilConfig,
        teacher: Teacher,
        sample: Tensor,
        held: Tensor,
        start: VisionTransformer | None = None,
    ) -> None:
        self.config, self.teacher = config, teacher
        kind, vit = ARCHITECTURES[config.encoder.like], config.encoder.vit
        self.normalise = augment.normalise(kind.mean, kind.std)
        self.student = VisionTransformer(vit) if start is None else start
        told, self.held = self._asked(sample), (held, self._asked(held).tile)
        parts = {"tile": told.tile}
        if config.patch_weight:
            if told.patches is None or told.patches.shape[1] != vit.patches:
                raise TrainingError(
                    f"patch_weight is {config.patch_weight:g}, but the teacher gives no token for "
                    f"each of the student's {vit.patches} patches; set it to 0"
                )
            parts["patches"] = told.patches.flatten(0, 1)
        self.standard = nn.ModuleDict({name: Standard(tokens) for name, tokens in parts.items()})
        self.projection = nn.ModuleDict({name: self._projection(vit.width) for name in parts})
        self.modules: dict[str, nn.Module] = {
            "student": self.student,
            "standard": self.standard,
            "projection": self.projection,
        }

    def _projection(self, width: int) -> nn.Module:
        same = width == self.teacher.width
        return nn.Identity() if same else nn.Linear(width, self.teacher.width)

    def _asked(self, tiles: Tensor) -> Tokens:
        """Return what the teacher says of many tiles; no patches unless they are wanted."""
        parts = [self.teacher(part) for part in tiles.split(_CHUNK)]
        tile = torch.cat([part.tile for part in parts]).cpu()
        patches = [part.patches for part in parts if part.patches is not None]
        wanted = self.config.patch_weight > 0 and len(patches) > 0
        return Tokens(tile, torch.cat(patches).cpu() if wanted else None)

    def parameters(self) -> Iterable[dict[str, Any]]:
        """Return matrices, and what is not decayed."""
        named = [pair for m in (self.student, self.projection) for pair in m.named_parameters()]
        plain = [p for key, p in named if p.ndim == 1 or key.endswith(("_token", "pos_embed"))]
        chosen = set(map(id, plain))
        matrices = [p for _, p in named if id(p) not in chosen]
        return [{"params": matrices}, {"params": plain, "wd_scale": 0.0}]

    def loss(self, batch: Tensor, step: int) -> dict[str, Tensor]:
        """Return the distance of the student's tokens from the teacher's."""
        del step
        with torch.autocast(batch.device.type, enabled=False):
            told = self.teacher(batch)
        said = Tokens(*self.student.forward_features(self.normalise(batch)))
        tile = self._distance("tile", said.tile, told.tile)
        if not self.config.patch_weight or said.patches is None or told.patches is None:
            return {"loss": tile}
        patches = self._distance("patches", said.patches.flatten(0, 1), told.patches.flatten(0, 1))
        loss = tile + self.config.patch_weight * patches
        return {"loss": loss, "tile": tile.detach(), "patches": patches.detach()}

    def _distance(self, name: str, said: Tensor, told: Tensor) -> Tensor:
        target = self.standard[name](told)
        found = self.projection[name](said).float()
        if self.config.loss == "mse":
            return functional.mse_loss(found, target)
        return 1 - functional.cosine_similarity(found, target, dim=-1).mean()

    def after_step(self, step: int) -> None:
        """Do nothing: the teacher stays."""

    def validate(self) -> dict[str, float]:
        """Return ``cosine``: between student and teacher, less the mean, on tiles held out."""
        self.student.eval()
        device = self.student.cls_token.device
        tiles, told = self.held
        parts = [self.student(self.normalise(t.to(device))) for t in tiles.split(_CHUNK)]
        found = self.projection["tile"](torch.cat(parts))
        target = self.standard["tile"](told.to(device))
        return {"cosine": float(functional.cosine_similarity(found, target, dim=-1).mean())}


def distil(
    config: DistilConfig,
    teacher: Path,
    source: TileSource,
    folder: Path,
    *,
    start: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    workers: int = 0,
) -> History:
    """Distil a teacher into a student; leave it in ``folder/encoder.safetensors``.

    The student's own tokens are what it is used by, so where the widths differ the projection is
    left behind. Errors are `loop.fit`'s, `open_teacher`'s and `start_from`'s.
    """
    optimisation, vit = config.optimisation, config.encoder.vit
    views = Views(source, config, share_of_batch(optimisation.batch))
    feed.seed_all(optimisation.seed, 0, 0, feed.SETUP)
    count = config.statistics_tiles + config.validation_tiles
    tiles = middles(source, count, vit.size).to(device_of(device))
    sample, held = tiles.split([config.statistics_tiles, config.validation_tiles])
    asked = open_teacher(teacher)
    begun = None if start is None else start_from(start, vit)
    model = Distillation(config, asked, sample, held, begun)
    return run(
        "distil",
        model,
        model.student,
        views,
        optimisation,
        folder,
        identity={
            "distil": config.model_dump(mode="json"),
            "data": source.identity,
            "teacher": asked.identity,
        },
        start=start,
        resume=resume,
        device=device,
        workers=workers,
        title="distillation",
    )
