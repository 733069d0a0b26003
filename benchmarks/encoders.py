"""The published encoder, ViT-L/16, in every engine and precision against eager PyTorch, in one run.

``python -m benchmarks.encoders WORK`` needs the extras `export` and `test`, the golden case's
``fill.py`` (UNICAS_EDGE_GOLDEN) and real tiles (UNICAS_EDGE_DATA). In the folder WORK (5 GB) it
makes the golden-filled checkpoint, exports and quantises it as the command line does, verifies it,
and times each engine and timm's module (what the published code runs) in turn, in processes of
their own. A second run uses the bundles and figures that are there, and only times.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
from safetensors.numpy import save_file

from benchmarks.harness import ROOT, machine, table
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import EngineRun, Gate
from unicas_edge.engines import Candidate
from unicas_edge.engines.choice import candidates, reference
from unicas_edge.engines.registry import missing
from unicas_edge.screening.options import Options
from unicas_edge.screening.screener import Screener
from unicas_edge.verification.engine_process import encode_apart
from unicas_edge.verification.tile_samples import sample_slides
from unicas_edge.verification.verify import cosine, verify, write_verification

MPP = 0.5
FORMS = (("openvino", "fp32"), ("openvino", "int8w"), ("openvino", "int8"), ("onnxruntime", "int8"))
CALIBRATION_TILES = 96

_EAGER = """
import json, sys, time
import numpy as np, torch
from functools import partial
from safetensors.torch import load_file
from timm.layers import GluMlp
from timm.models.vision_transformer import VisionTransformer

checkpoint, tiles, out = sys.argv[1:]
torch.set_num_threads(2)
model = VisionTransformer(
    patch_size=16, embed_dim=1024, depth=24, num_heads=16, init_values=1e-5, mlp_ratio=5.34375,
    mlp_layer=partial(GluMlp, gate_last=False), act_layer=torch.nn.SiLU, num_classes=0,
)
model.load_state_dict(load_file(checkpoint), strict=True)
model.eval()
pixels = torch.from_numpy(np.load(tiles))
with torch.inference_mode():
    model(pixels[:4])
    begin = time.perf_counter()
    tokens = torch.cat([model(part) for part in pixels.split(4)])
seconds = time.perf_counter() - begin
np.save(out, tokens.numpy())
print(json.dumps({"tiles_per_second": len(pixels) / seconds}))
"""


def checkpoint(work: Path) -> Path:
    """Write the golden-filled checkpoint, unless it is there."""
    path = work / "golden.safetensors"
    if not path.exists():
        golden = Path(os.environ.get("UNICAS_EDGE_GOLDEN", ROOT.parent / "shared/golden"))
        spec = importlib.util.spec_from_file_location("fill", golden / "fill.py")
        fill = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fill)
        shapes = json.loads((golden / "encoder.json").read_text())["shapes"]
        save_file(fill.fill({key: tuple(shape) for key, shape in shapes.items()}), path)
    return path


def made(work: Path, slides: list[Path]) -> Iterator[Bundle]:
    """Yield the exported bundle, then those with further forms, one after the other."""
    run = [sys.executable, "-m", "unicas_edge"]
    first = work / "fp32"
    if not first.exists():
        command = [*run, "export", "encoder", str(checkpoint(work)), "-o", str(first)]
        subprocess.run(command, check=True)
    yield Bundle.load(first)
    for backend, precision in FORMS:
        target = work / f"{backend}-{precision}"
        if not target.exists():
            command = [
                *run,
                "export",
                "quantise",
                str(first),
                "-o",
                str(target),
                "--backend",
                backend,
                "--precision",
                precision,
            ]
            if precision == "int8":
                command += ["--tiles", str(CALIBRATION_TILES), "--mpp", str(MPP)]
                command += ["--calibrate", str(slides[0])]
            subprocess.run(command, check=True)
        yield Bundle.load(target)


def eager(work: Path, tiles: np.ndarray) -> tuple[np.ndarray, float]:
    """Return timm's tokens and its tiles/s in eager PyTorch with two threads."""
    np.save(work / "tiles.npy", tiles)
    command = [
        sys.executable,
        "-c",
        _EAGER,
        str(checkpoint(work)),
        str(work / "tiles.npy"),
        str(work / "tokens.npy"),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return np.load(work / "tokens.npy"), json.loads(done.stdout)["tiles_per_second"]


def contestants(bundles: list[Bundle]) -> dict[str, tuple[Bundle, Candidate]]:
    """Return by label the engines of the exported bundle, and the form of each further one."""
    first, *others = bundles
    here = [c for c in candidates(first) if missing(c.backend) is None]
    found = {f"{c.backend} {c.precision}": (first, c) for c in here}
    for bundle in others:
        form = next(c for c in candidates(bundle) if c.path != reference(bundle).path)
        found[f"{form.backend} {form.precision}, own form"] = (bundle, form)
    return found


def verified(
    bundle: Bundle, candidate: Candidate, slides: list[Path], tiles: int
) -> EngineRun | None:
    """Return its run, verified now unless it was before; None: it does not run here."""
    kind = (candidate.backend, candidate.precision)
    for _ in range(2):
        found = Bundle.load(bundle.root).manifest.verification
        for run in found.runs if found else ():
            if (run.backend, run.precision) == kind:
                return run
        made = verify(
            Bundle.load(bundle.root),
            slides,
            tiles,
            backend=kind[0],
            precision=kind[1],
            mpp=MPP,
            tell=print,
        )
        write_verification(Bundle.load(bundle.root), made.verification)
    return None


def contest(work: Path, bundles: list[Bundle], slides: list[Path], options) -> dict[str, dict]:
    """Return a row an engine: figures of the verification, and its speed over eager PyTorch's."""
    samples = sample_slides(slides[1:], bundles[0], options.tiles, MPP)
    tiles = np.concatenate([sample.normalised(bundles[0]) for sample in samples])
    rows: dict[str, dict] = {}
    for label, (bundle, candidate) in contestants(bundles).items():
        run = verified(bundle, candidate, slides[1:], options.tiles)
        if run is not None:
            verdict = "; ".join(run.shortfalls(Gate())) or "passed"
            rows[label] = run.model_dump() | {"verdict": verdict, "ratios": []}
    for _ in range(options.rounds):
        expected, base = eager(work, tiles)
        print(f"torch eager: {base:.3f} tiles/s")
        for label, row in rows.items():
            found = encode_apart(*contestants(bundles)[label], tiles)
            row["ratios"].append(found.tiles_per_second / base)
            row["cosine_to_torch"] = float(cosine(found.tokens, expected).mean())
    return {label: row | {"ratio": median(row["ratios"])} for label, row in rows.items()}


def stored_mb(bundle: Bundle) -> float:
    """Return the size of a bundle's own form, or of its reference, in MB."""
    spec = bundle.manifest.encoder
    name = Path(spec.forms[-1].file if spec.forms else spec.file)
    stem = bundle.root / name.parent
    return sum(p.stat().st_size for p in stem.glob(f"{name.stem}*")) / 1e6


def share_of_encoder(bundle: Bundle, slide: Path) -> dict[str, float]:
    """Return where the time of ``screen --max-tiles 200`` with the engine `auto` goes."""
    with Screener(bundle, Options(max_tiles=200, mpp=MPP)) as screener:
        result = screener.screen(slide).result
        seconds = result.timings_seconds
        busy = seconds["encode"] / screener.encoder.workers
        return {
            "engine": f"{screener.encoder.name} {screener.encoder.precision}",
            "encoder share": busy / seconds["total"],
            **seconds,
        }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--tiles", type=int, default=16, help="of each of two slides")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = Path(os.environ.get("UNICAS_EDGE_DATA", ROOT.parent / "shared/data"))
    slides = sorted((data / "lbc_tiles").iterdir())
    options.work.mkdir(parents=True, exist_ok=True)
    bundles = list(made(options.work, slides))
    rows = contest(options.work, bundles, slides, options)
    keys = (
        "ratio",
        "cosine_to_torch",
        "cosine_mean",
        "cosine_min",
        "cosine_p01",
        "centred_cosine_mean",
        "overlap",
        "max_probability_change",
        "changed_decisions",
        "peak_mb",
        "verdict",
    )
    head = ["engine", *keys]
    print(
        table(
            head, [[label, *(_text(row.get(key)) for key in keys)] for label, row in rows.items()]
        )
    )
    found = {
        "machine": machine(),
        "rows": rows,
        "stored MB": {b.root.name: round(stored_mb(b), 1) for b in bundles},
        "screen": share_of_encoder(Bundle.load(bundles[0].root), slides[1]),
    }
    print(json.dumps({k: v for k, v in found.items() if k != "rows"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else "-" if value is None else str(value)


if __name__ == "__main__":
    main()
