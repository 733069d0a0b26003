"""What a C program relies on: the interface that was promised, and the library in the wheel."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.c.abi import PROMISED, interface
from tests.support.places import ROOT
from unicas_edge import __version__, config
from unicas_edge.errors import UnicasError

PROGRAM = """
#include <stdio.h>
#include <unicas_edge.h>

int main(void) {
    printf("%u %s\\n", (unsigned)ue_version(), ue_status_text(UE_OK));
    return 0;
}
"""


def test_the_interface_is_the_promised_one(compiler):
    """A minor version only adds: see CONTRIBUTING.md before `python -m tests.c.abi`."""
    assert interface(compiler) == PROMISED.read_text()


def flags(*options: str, python: str = sys.executable, **more) -> list[str]:
    command = [python, "-m", "unicas_edge.config", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, **more)
    return shlex.split(done.stdout)


def runs(compiler, folder: Path, told: list[str]) -> str:
    source, program = folder / "program.c", folder / "program"
    source.write_text(PROGRAM)
    command = [compiler, "-Wall", "-Werror", source, *told, "-o", program]
    subprocess.run(command, check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


def expected() -> str:
    major, minor, patch = map(int, __version__.split(".")[:3])
    return f"{(major << 16) + (minor << 8) + patch} success\n"


def test_a_program_links_against_this_installation(compiler, tmp_path):
    assert runs(compiler, tmp_path, flags("--cflags", "--libs")) == expected()
    assert flags("--version") == [__version__]
    assert Path(flags("--include-dir")[0], "unicas_edge.h").is_file()
    assert Path(flags("--library")[0]) == config.library()


def test_what_is_not_there_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(config, "_PACKAGE", tmp_path)
    for ask in (config.library, config.include_dir):
        with pytest.raises(UnicasError, match="is not there; build the library with CMake"):
            ask()
    assert config.main(["--libs"]) == 1
    assert "is not there" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        config.main([])


@pytest.mark.slow
def test_the_wheel_carries_the_library(compiler, tmp_path):
    """Built from an archive of the sources, as `pip install` from there would."""
    build = "from setuptools import build_meta as b; import sys; print(b.{}(sys.argv[1]))"

    def made(what: str, place: Path) -> Path:
        command = [sys.executable, "-c", build.format(what), str(tmp_path)]
        done = subprocess.run(command, cwd=place, check=True, capture_output=True, text=True)
        return tmp_path / done.stdout.split()[-1]

    sources = tmp_path / "sources"
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "*.so", "*.egg-info", "lib", "out")
    shutil.copytree(ROOT, sources, ignore=ignored)
    archive = made("build_sdist", sources)
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    recipe = unpacked / "setup.py"
    quick = recipe.read_text().replace('"-O3"', '"-O0"')  # how fast it is, is not asked here
    recipe.write_text(quick)
    wheel = made("build_wheel", unpacked)
    assert "cp311-abi3" in wheel.name
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    package = tmp_path / "site" / "unicas_edge"
    assert (package / "lib").is_dir()
    carried = {header.name for header in (package / "include").iterdir()}
    assert carried == {header.name for header in (ROOT / "csrc/include").iterdir()}
    found = flags("--cflags", "--libs", cwd=tmp_path / "site")
    assert str(package) in found[0]
    assert runs(compiler, tmp_path, found) == expected()
