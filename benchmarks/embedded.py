"""What a session costs a C program beside the encoder: ``python -m benchmarks.embedded``.

Time of a push, the end of a slide, memory over many sessions, sessions at once, and a host that
opens sessions without end. Compiled against this installation, with the embedded bundle.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from unicas_edge.bundle import Bundle

SOURCE = Path(__file__).with_name("embedded.c")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=100, help="whole slides (100)")
    parser.add_argument("--opened", type=int, default=10_000, help="sessions dropped (10000)")
    asked = parser.parse_args()
    config = [sys.executable, "-m", "unicas_edge.config", "--cflags", "--libs"]
    flags = subprocess.run(config, capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "embedded"
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-O2", SOURCE, *shlex.split(flags), "-lpthread", "-o", program]
        subprocess.run(command, check=True)
        arguments = [program, Bundle.load().root, str(asked.sessions), str(asked.opened)]
        subprocess.run(arguments, check=True)


if __name__ == "__main__":
    main()
