"""Folder names for slides: unique, stable, harmless on every system."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicas_edge.core.names import MAX_BYTES, safe_name, slide_names


def test_names_are_stems_unless_stems_meet():
    names = slide_names([Path("a/x.svs"), Path("b/X.tif"), Path("b/y.svs")])
    assert names[2] == "y"
    assert names[0].startswith("x-")
    assert names[1].startswith("X-")
    assert len(names[0]) == len("x-") + 8
    assert slide_names([Path("b/X.tif"), Path("a/x.svs")]) == [names[1], names[0]]
    assert slide_names([Path("a/x.svs")] * 3) == ["x", "x-again-2", "x-again-3"]


def test_a_slide_named_as_another_would_be_renamed_gives_way():
    crowd = [Path("a/x.svs"), Path("b/x.svs")]
    rival = Path(f"c/{slide_names(crowd)[0]}.svs")
    assert len(set(slide_names([*crowd, rival]))) == 3


def test_a_folder_of_fields_keeps_its_whole_name(tmp_path):
    (tmp_path / "D22.20").mkdir()
    assert slide_names([tmp_path / "D22.20"]) == ["D22.20"]


def test_long_names_get_names_of_their_own_that_are_safe():
    alike = [Path(f"in/{'宫颈' * 20}{n:03}.svs") for n in range(3)]
    names = slide_names(alike)
    assert len(set(names)) == 3
    assert slide_names(alike[:1]) == names[:1], "whatever else is in the list"
    told = slide_names([*alike, *alike, *[Path("x" * MAX_BYTES)] * 3])
    assert len(set(told)) == 9
    assert all(safe_name(name) == name for name in told)


def test_who_holds_a_name_keeps_it_and_another_slide_gets_its_own():
    a, b = (os.path.abspath(f"in/x.{suffix}") for suffix in ("tif", "svs"))  # noqa: PTH100
    holders = {"x": a}

    def held(name, path):
        return holders[name] == path if name in holders else None

    first, second = slide_names([Path(a), Path(b)], held)
    assert first == "x"
    assert second == slide_names([Path(b)], held)[0] == slide_names([Path(a), Path(b)])[1]
    holders = dict.fromkeys(slide_names([Path(b), Path(a)])[:1], b)
    assert slide_names([Path(b)], held) == list(holders)
    assert slide_names([Path(a)], held) == ["x"]


@pytest.mark.parametrize("text", ["con", "NUL.txt", "com1", "LPT³", "aux .x", "CONIN$"])
def test_devices_of_windows_are_no_names(text):
    assert safe_name(text) == "_" + text


@given(st.text(max_size=300))
def test_a_safe_name_is_one_component_everywhere(text):
    name = safe_name(text)
    assert 0 < len(name.encode()) <= MAX_BYTES + 1
    assert Path(name).name == name
    assert PureWindowsPath(name).name == name
    assert name not in {".", ".."}
    assert name[0] not in "-=+@~. "
    assert name[-1] not in ". "
    assert not set(name) & set('<>:"/\\|?*\0\n')
    assert safe_name(name) == name


@given(st.lists(st.text(min_size=1, max_size=12), max_size=8))
def test_names_are_unique_and_do_not_depend_on_order(stems):
    paths = [Path("d") / str(number) / f"{stem}.svs" for number, stem in enumerate(stems)]
    paths = [path for path in paths if "\0" not in str(path)]
    paths = list({os.path.abspath(path): path for path in paths}.values())  # noqa: PTH100
    names = slide_names(paths)
    assert len({name.casefold() for name in names}) == len(paths)
    assert slide_names(paths[::-1]) == names[::-1]
