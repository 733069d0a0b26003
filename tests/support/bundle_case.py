"""Bundles with random weights for any configuration, and what a folder looks like."""

from __future__ import annotations

import hashlib
import json
import shutil

from safetensors.numpy import save_file

from tests.support.dense_aggregator import config_of, weights_of
from unicas_edge.bundle import Bundle
from unicas_edge.export import untrained

DEFAULT = Bundle.load()
UNTRAINED = untrained.manifest({untrained.ENCODER: b"", untrained.AGGREGATOR: b""})


def make_bundle(folder, config, *, threshold=0.5, seed=0):
    """A bundle with random fp32 weights for `config`; its encoder is only there to be hashed."""
    folder.mkdir()
    (folder / "weights").mkdir()
    (folder / "encoder.onnx").write_bytes(b"never opened here" * 1000)
    save_file(
        weights_of(config, seed),
        folder / "weights" / "aggregator.safetensors",
        metadata={"config": config.model_dump_json(), "origin": "random"},
    )
    content = UNTRAINED.model_dump(mode="json")
    files = ("encoder.onnx", "weights/aggregator.safetensors")
    content["encoder"]["width"] = config.embed_dim_in
    content["aggregator"] = {"file": files[1], "config": config.model_dump(mode="json")}
    content["tasks"] = [{**task, "threshold": threshold} for task in content["tasks"]]
    content["files"] = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in files}
    (folder / "bundle.json").write_text(json.dumps(content))
    return Bundle.load(folder)


def copy_with(bundle, folder, **changes):
    """A copy of a bundle whose manifest says something else."""
    shutil.copytree(bundle.root, folder)
    manifest = bundle.manifest.model_copy(update=changes)
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    return Bundle.load(folder)


def three_tasks(**changes):
    return config_of(**({"num_tasks": 3, "classes": (2, 2, 2), "depth": 1} | changes))


def fingerprint(folder):
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }
