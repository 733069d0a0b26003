"""What the aggregator's benchmarks start from: real tokens, and files of weights. Without torch."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.harness import ROOT
from unicas_edge.bundle.aggregator_file import parameter_shapes
from unicas_edge.bundle.expert_storage import AggregatorTensors, Experts
from unicas_edge.bundle.manifest import AggregatorConfig
from unicas_edge.export.experts import write_experts

#: Of the noise that tells repeated tokens apart, in standard deviations of the tokens.
NOISE = 0.05


def shared_folder(variable: str, default: str) -> Path:
    """Return the folder an environment variable names, or `default` beside the project."""
    path = Path(os.environ.get(variable, ROOT.parent / default))
    if not path.is_dir():
        raise SystemExit(f"no folder {path}: let {variable} name it")
    return path


def real_tokens() -> np.ndarray:
    """Return the tokens of the real UniCAS bags, float32 [tiles, width], one bag after another."""
    bags = []
    folder = shared_folder("UNICAS_EDGE_DATA", "shared/data") / "unicas_features"
    for path in sorted(folder.glob("**/images.pt")):
        with zipfile.ZipFile(path) as file:  # a torch zip of one float32 tensor
            (name,) = (n for n in file.namelist() if n.endswith("/data/0"))
            bags.append(np.frombuffer(file.read(name), dtype="<f4").reshape(-1, 1024))
    if not bags:
        raise SystemExit(f"{folder}: no images.pt; the figures need real tokens")
    return np.concatenate(bags)


def bag_of(tokens: np.ndarray, n: int) -> np.ndarray:
    """Return the first `n` tokens; beyond the real ones they repeat with a little seeded noise."""
    if n <= len(tokens):
        return tokens[:n].copy()
    rng = np.random.default_rng(n)
    more = tokens[np.arange(len(tokens), n) % len(tokens)]
    noise = rng.standard_normal(more.shape, dtype=np.float32)
    return np.concatenate([tokens, more + np.float32(NOISE) * tokens.std() * noise])


def make_golden(folder: Path) -> list[Path]:
    """Write the full-size aggregator of the golden cases, with its experts in fp32 (1.4 GB), bf16
    and int8 (1.3 GB together), and return the three paths.
    """
    golden = shared_folder("UNICAS_EDGE_GOLDEN", "shared/golden")
    spec = importlib.util.spec_from_file_location("fill", golden / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    cases = json.loads((golden / "multitask_aggregator.json").read_text())
    config = AggregatorConfig.model_validate_json(json.dumps(cases["config"]))
    path = folder / "fp32.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    origin = "untrained: fill.py of the golden cases draws every weight from the CRC-32 of its key"
    metadata = {"config": config.model_dump_json(), "origin": origin}
    save_file(fill.fill(parameter_shapes(config)), path, metadata)
    return [path, *(_converted(path, experts) for experts in ("bf16", "int8"))]


def _converted(source: Path, experts: Experts) -> Path:
    target = source.with_name(f"{experts}.safetensors")
    with target.open("wb") as out:
        write_experts(AggregatorTensors(source), out, experts)
    return target


@contextmanager
def files_of(names: list[str]):
    """Give the paths of the aggregators; ``golden`` is written for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [make_golden(Path(folder)) if name == "golden" else [Path(name)] for name in names]
        yield [path for several in paths for path in several]
