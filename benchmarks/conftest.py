"""Shared by the benchmarks: the slides, fair timing, and one table with the machine it holds for.

``python -m pytest benchmarks --benchmark-only`` prints it; ``--benchmark-json FILE`` keeps the same
figures (under ``extra_info``) and the machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from benchmarks.harness import machine
from tests.support.real_tiles import compose

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "D22051900161C101_20"


@dataclass
class Figure:
    """One line of the table: what was measured, how long it took, and against what."""

    measure: str
    value: str
    target: str = ""
    met: bool | None = None


@dataclass
class Figures:
    """What this run measured."""

    lines: list[Figure] = field(default_factory=list)

    def add(self, measure: str, value: str, target: str = "", met: bool | None = None) -> None:
        self.lines.append(Figure(measure, value, target, met))


FIGURES = pytest.StashKey[Figures]()


def pytest_configure(config):
    config.stash[FIGURES] = Figures()


@pytest.fixture
def figures(request, benchmark):
    """The table; what a test adds also goes to the JSON of its benchmark."""
    table = request.config.stash[FIGURES]
    before = len(table.lines)
    yield table
    benchmark.extra_info["figures"] = [vars(line) for line in table.lines[before:]]


def pytest_benchmark_update_machine_info(machine_info):
    machine_info["figures_machine"] = machine()


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash[FIGURES].lines
    if not lines:
        return
    terminalreporter.section("figures")
    for name, value in machine().items():
        terminalreporter.write_line(f"{name:14} {value}")
    terminalreporter.write_line("")
    for line in lines:
        verdict = {None: "", True: "met", False: "MISSED"}[line.met]
        row = f"{line.measure:68} {line.value:>8}  {line.target:>10}  {verdict}"
        terminalreporter.write_line(row.rstrip())


@pytest.fixture(scope="session")
def data_dir() -> Path:
    path = Path(os.environ.get("UNICAS_EDGE_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"UNICAS_EDGE_DATA: no folder {path}; the figures need real tiles")
    return path


@pytest.fixture(scope="session")
def real_slide(tmp_path_factory, data_dir) -> Callable[[int], Path]:
    """Gives a slide of the real tiles of one preparation: 256-pixel JPEG of a quality, at 20x."""
    folder = tmp_path_factory.mktemp("real")

    @cache
    def slide(quality: int) -> Path:
        return compose(data_dir / "lbc_tiles" / FOLDER, folder / f"{quality}.svs", quality=quality)

    return slide
