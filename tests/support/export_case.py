"""Checkpoints of a small encoder and aggregator, and the bundle that the first begins."""

from __future__ import annotations

import torch

from tests.support.dense_aggregator import config_of
from tests.support.dense_aggregator import weights_of as aggregator_weights
from tests.support.encoder_case import tensors, weights_of
from unicas_edge.export.encoder import export_encoder
from unicas_edge.models.architectures import ARCHITECTURES

TINY = ARCHITECTURES["vit-ti16"].vit
TRAINED = config_of(
    embed_dim_in=192,
    embed_dim=24,
    depth=2,
    num_heads=12,
    num_tasks=3,
    classes=(2, 2, 2),
    num_experts=2,
    top_m=256,
)


def make_checkpoints(folder):
    """Write ``tiny.pth`` and ``model-7.pth``, and the bundle ``begun`` with the first."""
    torch.save(tensors(weights_of(TINY)), folder / "tiny.pth")
    torch.save(tensors(aggregator_weights(TRAINED)), folder / "model-7.pth")
    export_encoder(folder / "tiny.pth", folder / "begun")
    return folder


def names(path):
    return sorted(entry.name for entry in path.iterdir())
