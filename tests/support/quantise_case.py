"""A ViT of two blocks, and a slide to calibrate it on."""

from __future__ import annotations

import hashlib
import json

import onnx

from tests.support.bundle_case import make_bundle, three_tasks
from unicas_edge.bundle import Bundle
from unicas_edge.export import vit
from unicas_edge.export.untrained import draw

FORMS = [("openvino", "fp32"), ("openvino", "int8w"), ("openvino", "int8"), ("onnxruntime", "int8")]
TINY = vit.ViT(width=64, depth=2, heads=2)
OUTLIER = 3000.0


def tiny_bundle(folder, *, outlier=False, data=None):
    """A bundle with a ViT of two blocks.

    With an `outlier` one hidden channel of the first MLP is always `OUTLIER` and weighs next to
    nothing: the range it needs leaves int8 no levels for the others.
    """
    shapes = vit.parameter_shapes(TINY)
    weights = {key: draw(key, shape) for key, shape in shapes.items()}
    if outlier:
        weights["blocks.0.mlp.fc1.weight"][0] = 0
        weights["blocks.0.mlp.fc1.bias"][0] = OUTLIER
        weights["blocks.0.mlp.fc2.weight"][:, 0] /= OUTLIER
        weights["blocks.0.mlp.fc2.weight"][:, 1:] *= 8
    make_bundle(folder, three_tasks(embed_dim_in=64))
    model = vit.build(TINY, weights.__getitem__)
    onnx.save_model(
        model,
        folder / "encoder.onnx",
        **({"save_as_external_data": True, "location": data} if data else {}),
    )
    manifest = json.loads((folder / "bundle.json").read_text())
    for name in ("encoder.onnx", *([data] if data else [])):
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return Bundle.load(folder)
