"""The service beside a session in process: tiles per second, in turn.

    python -m benchmarks.service [--tiles 400] [--rounds 3]

Both take the same raw tiles with the embedded bundle; the service on a Unix socket, in a process of
its own, from one client. Time runs from opening the session to having the result.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from benchmarks.harness import machine
from unicas_edge.bundle import Bundle
from unicas_edge.engines import EngineOptions
from unicas_edge.screening.session import Session
from unicas_edge.serve.models import Models

SIDE = 20  # fields and more: 320 of 400 tiles


def tiles(count: int) -> Iterator[tuple[np.ndarray, int, int, float]]:
    """Yield tiles, their places and scores."""
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 200, (16, 256, 256, 3), np.uint8)
    for number in range(count):
        row, col = divmod(number, SIDE)
        yield shown[number % 16], 256 * col, 256 * row, 1.0 + number % 7


def in_process(models: Models, count: int) -> float:
    """Return the seconds of a session in process."""
    begin = time.perf_counter()
    with Session(
        models.bundle,
        width=256 * SIDE,
        height=256 * -(-count // SIDE),
        um_px=0.5,
        encoder=models.encoder,
        aggregator=models.aggregator,
        knowledge=models.knowledge,
    ) as session:
        for tile, x, y, score in tiles(count):
            session.push(tile, x, y, score)
        session.finish()
    return time.perf_counter() - begin


def served(client: httpx.Client, count: int) -> float:
    """Return the seconds of the same by the service."""
    begin = time.perf_counter()
    frame = {"width": 256 * SIDE, "height": 256 * -(-count // SIDE), "um_px": 0.5}
    told = client.post("/v1/sessions", json=frame).raise_for_status().json()
    path, own = f"/v1/sessions/{told['id']}", {"Authorization": f"Bearer {told['token']}"}
    raw = own | {"Content-Type": "application/octet-stream"}
    for tile, x, y, score in tiles(count):
        place = {"x": x, "y": y, "score": score}
        client.put(f"{path}/tile", params=place, content=tile.tobytes(), headers=raw)
    client.post(f"{path}/finish", headers=own).raise_for_status()
    while client.get(path, headers=own).json()["state"] == "finishing":
        time.sleep(0.01)
    client.get(f"{path}/result", headers=own).raise_for_status()
    return time.perf_counter() - begin


def main() -> None:
    """Print both speeds of every round, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    models = Models.load(Bundle.load(), EngineOptions())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "socket"
        command = [sys.executable, "-m", "unicas_edge", "serve", "--socket", str(place)]
        service = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while not place.exists():
                time.sleep(0.1)
            transport = httpx.HTTPTransport(uds=str(place))
            with httpx.Client(transport=transport, base_url="http://x", timeout=300) as client:
                for number in range(given.rounds + 1):
                    own, theirs = in_process(models, given.tiles), served(client, given.tiles)
                    if number:  # the first is to get warm
                        print(
                            f"{given.tiles / own:.1f} tiles/s in process, "
                            f"{given.tiles / theirs:.1f} served: {own / theirs:.3f}"
                        )
        finally:
            service.terminate()
            service.wait()
    models.close()


if __name__ == "__main__":
    main()
