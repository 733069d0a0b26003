"""Who may include whom in csrc, and how; the rooms' order is written here alone."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.places import ROOT

CSRC = ROOT / "csrc"
#: What each room may include beside itself, the public header and C's own.
ALLOWED = {
    "": set(),
    "include": set(),
    "system": set(),
    "formats": {"system"},
    "pixels": {"system"},
    "colour": {"system"},
    "aggregator/kernels": {"system"},
    "aggregator": {"aggregator/kernels", "formats", "system"},
    "bundle": {"aggregator", "encoders", "formats", "system"},
    "intake": {"system"},
    "verdict": {"aggregator", "bundle", "formats", "intake", "system"},
    "session": {"bundle", "formats", "intake", "system", "verdict"},
    "encoders": {"system"},
}
#: The public headers, which every room may include.
PUBLIC = {f"unicas_edge{part}.h" for part in ("", "_bundle", "_colour", "_encoder", "_session")}
#: Instruction sets, and the header that is included in their stead.
PARTS = {"x86", "arm"}


def room(path: Path) -> str:
    parts = path.relative_to(CSRC).parent.parts
    return "/".join(part for part in parts if part not in PARTS)


def files() -> list[Path]:
    return sorted(CSRC.rglob("*.[ch]"))


def includes(path: Path) -> list[str]:
    return re.findall(r'^ *# *include "([^"]+)"', path.read_text(), re.MULTILINE)


def test_every_room_is_known():
    assert {room(path) for path in files()} == set(ALLOWED)


def test_a_room_includes_the_rooms_below_alone():
    wrong = []
    for path in files():
        for name in includes(path):
            if name in PUBLIC:
                continue
            found = path.parent / name if "/" not in name else CSRC / name
            assert found.is_file(), f"{path}: {name} is named neither plainly nor from csrc"
            if room(found) not in {room(path), *ALLOWED[room(path)]}:
                wrong.append(f"{path.relative_to(CSRC)} includes {name}")
    assert not wrong, "\n".join(wrong)


def test_what_needs_no_path_has_none():
    for path in files():
        own = str(path.parent.relative_to(CSRC)) + "/"
        plain = [
            name for name in includes(path) if name.startswith(own) and "/" not in name[len(own) :]
        ]
        assert not plain, f"{path}: {plain}"


def test_files_are_short_and_banners_whole():
    for path in files():
        lines = path.read_text().splitlines()
        assert len(lines) < 500, path
        banners = [line for line in lines if line.startswith("/* ---- ")]
        assert all(len(line) == 100 for line in banners), path
        whole = [line for line in banners if line.endswith("-- */")]
        assert whole == banners or path.name in PUBLIC, path
