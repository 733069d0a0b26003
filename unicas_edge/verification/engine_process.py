"""One engine run in a process of its own: its tokens, its speed, the most memory it held.

A process of its own, because a runtime keeps threads and memory that would count for the next one,
and because one that crashes must not take the measurement with it.
``python -m unicas_edge.verification.engine_process REQUEST.json`` reads tiles and writes tokens
beside it.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.engines import Candidate, Encoder, open_candidate
from unicas_edge.engines.choice import candidates
from unicas_edge.engines.registry import require
from unicas_edge.errors import BundleError, EngineError, UnicasError

_TIMEOUT_SECONDS = 4 * 3600
_REFUSED = 3


@dataclass(frozen=True)
class Encoded:
    """What an engine gave: `tokens` float32 [n, width], in the order of the tiles."""

    tokens: NDArray[np.float32]
    tiles_per_second: float
    peak_mb: float
    version: str


def encode_apart(bundle: Bundle, candidate: Candidate, batch: NDArray[np.generic]) -> Encoded:
    """Return what `candidate` makes of normalised tiles [n, 3, S, S], of the bundle's input dtype.

    The speed is of all workers together, after a first batch each. `EngineError` where the engine
    is not installed, refuses, crashes, or takes more than four hours.
    """
    require(candidate.backend)
    with tempfile.TemporaryDirectory(prefix="unicas-edge-") as name:
        folder = Path(name)
        batch.tofile(folder / "tiles")
        request = {
            "bundle": str(bundle.root.absolute()),
            "digest": bundle.digest,
            "candidate": f"{candidate.backend} {candidate.precision}",
        }
        (folder / "request.json").write_text(json.dumps(request))
        facts = _run(candidate, folder)
        return Encoded(np.load(folder / "tokens.npy"), **facts)


def _run(candidate: Candidate, folder: Path) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "unicas_edge.verification.engine_process",
        str(folder / "request.json"),
    ]
    what = f"{candidate.backend} in {candidate.precision}"
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{what} did not finish in four hours; use fewer --tiles") from error
    if done.returncode == _REFUSED:
        raise EngineError(done.stderr.strip().splitlines()[-1])
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(f"{what} ended with code {done.returncode}: {last}")
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return facts


def _encode(folder: Path, request: dict[str, str]) -> None:
    """Do what a request asks, in the process that was started for it."""
    bundle = Bundle.load(request["bundle"])
    if bundle.digest != request["digest"]:
        raise BundleError(f"{bundle.root}: changed while it was measured; begin again")
    wanted = request["candidate"]
    candidate = next(c for c in candidates(bundle) if f"{c.backend} {c.precision}" == wanted)
    encoder = open_candidate(bundle, candidate)
    tiles = _Tiles(folder / "tiles", encoder, bundle.manifest.tile.crop_px)
    tokens = np.empty((tiles.count, encoder.width), np.float32)
    starts = range(0, tiles.count, encoder.batch_size)
    with ThreadPoolExecutor(encoder.workers) as pool:
        tiles.encode(pool, starts[: encoder.workers], tokens)
        begin = time.perf_counter()
        tiles.encode(pool, starts, tokens)
        seconds = time.perf_counter() - begin
    np.save(folder / "tokens.npy", tokens)
    facts = {
        "tiles_per_second": tiles.count / seconds,
        "peak_mb": peak_mb(),
        "version": encoder.version,
    }
    (folder / "facts.json").write_text(json.dumps(facts))


class _Tiles:
    """Normalised tiles in a file, read batch by batch: mapped, they would count as memory held."""

    def __init__(self, path: Path, encoder: Encoder, side: int) -> None:
        self._path, self._encoder, self._shape = path, encoder, (3, side, side)
        self._bytes = math.prod(self._shape) * encoder.dtype.itemsize
        self.count = path.stat().st_size // self._bytes

    def encode(self, pool: ThreadPoolExecutor, starts: range, tokens: NDArray[np.float32]) -> None:
        """Fill `tokens` for the batches that begin at `starts`, the last one padded."""

        def encode(start: int) -> None:
            size = min(self._encoder.batch_size, self.count - start)
            part = np.fromfile(
                self._path,
                self._encoder.dtype,
                size * math.prod(self._shape),
                offset=start * self._bytes,
            )
            batch = np.zeros((self._encoder.batch_size, *self._shape), self._encoder.dtype)
            batch[:size] = part.reshape(size, *self._shape)
            tokens[start : start + size] = self._encoder.encode(batch)[:size]

        for _ in pool.map(encode, starts):
            pass


def peak_mb() -> float:
    """Return the most memory this process has held, in MB; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0.0
    import resource  # noqa: PLC0415 - not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def main() -> int:
    """Run the request named on the command line; return 0, or `_REFUSED` with the cause said."""
    path = Path(sys.argv[1])
    try:
        _encode(path.parent, json.loads(path.read_text()))
    except UnicasError as error:
        sys.stderr.write(str(error).replace("\n", " ") + "\n")
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
