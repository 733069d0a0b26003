"""The rules of the house: who may import whom, and where the heavy libraries live.

Over the syntax trees, because `export/` is a package of unicas_edge that lies outside its folder,
where import-linter does not look.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.places import ROOT, TESTS

#: From the roof down: a room imports rooms of lower lines alone, none beside it.
FLOORS = [
    ["__main__"],
    ["cli"],
    ["serve"],
    ["train.demo"],
    ["export"],
    ["train.encoder", "train.knowledge"],
    ["train.heads"],
    ["train.artefacts"],
    ["train.compose"],
    ["train.aggregator"],
    ["train.cells", "train.evaluate", "train.loop"],
    ["verification"],
    ["screening", "sample"],
    ["heads"],
    ["engines", "aggregator", "adequacy", "slide"],
    ["models", "report", "schemas", "tiles", "profiles"],
    ["bundle", "result"],
    ["core", "config"],
    ["errors", "_native", "version"],
]
#: Who alone may import a library: the beginning of a module's name.
LIBRARIES = {
    "torch": ("train.", "models.checkpoint"),
    "torchvision": ("train.",),
    "matplotlib": ("train.",),
    "onnx": ("export.", "train.encoder.pretrained"),
    "nncf": ("export.quantise.",),
    "typer": ("cli",),
    "click": ("cli",),
    "rich": ("cli",),
    "onnxruntime": ("engines.", "export.quantise."),
    "openvino": ("engines.openvino.", "export.quantise."),
    "openslide": ("slide.openslide",),
    "pyvips": ("slide.vips",),
    "tifffile": ("slide.tiff.",),
    "fastapi": ("serve.",),
    "uvicorn": ("serve.",),
    "prometheus_client": ("serve.",),
    "pydicom": ("serve.dicomweb.",),
    "highdicom": ("serve.dicomweb.",),
    "python_multipart": ("serve.dicomweb.",),
}
#: The entry points of plug-in readers, and the C header.
NO_MODULES = {"unicas_edge.readers", "unicas_edge.h"}


def _name(path: Path) -> str:
    """Return the module's name within unicas_edge, "" for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "unicas_edge" else parts
    return ".".join(parts).removesuffix("__init__").removesuffix(".")


@cache
def modules() -> dict[str, ast.Module]:
    files = [f for top in ("unicas_edge", "export", "profiles") for f in (ROOT / top).rglob("*.py")]
    assert len(files) > 150
    return {_name(file): ast.parse(file.read_text()) for file in files}


def room(module: str) -> str:
    first, *rest = module.split(".")
    if not first:
        return "version"
    return f"train.{rest[0]}" if first == "train" and rest else first


@cache
def imports(name: str) -> tuple[str, ...]:
    """Return what a module imports, late imports and those for types alone included."""
    return tuple(_imports(name))


@cache
def known() -> frozenset[str]:
    return frozenset({f"unicas_edge.{module}" for module in modules()} | {"unicas_edge._native"})


def _imports(name: str) -> Iterator[str]:
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: one import style: from unicas_edge.x import y"
            base = node.module or ""
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in known() else base


def own(target: str) -> str | None:
    """Return the name within unicas_edge of an imported module, None for a library's."""
    if target.split(".", maxsplit=1)[0] != "unicas_edge":
        return None
    return target.removeprefix("unicas_edge").removeprefix(".")


def test_every_room_has_a_floor_and_every_floor_a_room():
    named = {name for floor in FLOORS for name in floor}
    found = {room(name) for name in modules()} - {"train"} | {"_native"}
    assert found == named


def test_a_room_imports_lower_floors_alone():
    height = {name: -i for i, floor in enumerate(FLOORS) for name in floor}
    wrong = [
        f"{module} imports {target}"
        for module in modules()
        if module not in ("", "train")  # the package names what it offers; train asks for torch
        for target in filter(None, map(own, imports(module)))
        if room(target) != room(module) and height[room(target)] >= height[room(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_train_but_the_command_line_and_train():
    wrong = [
        f"{module} imports {target}"
        for module in modules()
        if module.split(".")[0] not in ("cli", "train")
        for target in map(own, imports(module))
        if target is not None and target.split(".")[0] == "train"
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_stays_where_it_belongs(library):
    users = [m for m in modules() if any(t.split(".")[0] == library for t in imports(m))]
    wrong = [user for user in users if not user.startswith(LIBRARIES[library])]
    assert not wrong, f"{', '.join(wrong)} import {library}"


def defined(module: str) -> set[str]:
    """Return the names that stand at the top of a module, what it imports among them."""
    body = list(modules()[module].body)
    body += [inner for node in body if isinstance(node, ast.If) for inner in node.body]
    named = {getattr(node, "name", "") for node in body}
    assigned = {n.id for node in body for n in ast.walk(node) if isinstance(n, ast.Name)}
    imported = {
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return named | assigned | imported


def test_modules_named_in_text_exist():
    """Modules that are imported late, by name, and those that messages and docstrings name."""
    known = set(modules()) | {"_native"}
    wrong = []
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            for text in re.findall(r"\bunicas_edge(?:\.[A-Za-z_0-9]+)+", node.value):
                name = text.removeprefix("unicas_edge.")
                parent, _, last = name.rpartition(".")
                if text in NO_MODULES or name in known:
                    continue
                if parent not in known or last not in defined(parent):
                    wrong.append(f"{module}: {text}")
    assert not wrong, "\n".join(wrong)


def test_tests_mirror_the_rooms():
    """Each folder of tests is a room, or one of the few that test no Python."""
    elsewhere = {"support", "c", "docs", "faces", "plugin", "__pycache__"}
    rooms = {room(name).split(".")[0] for name in modules()}
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()} - elsewhere
    assert folders <= rooms
    train = {path.name for path in (TESTS / "train").iterdir() if path.is_dir()} - elsewhere
    assert {f"train.{name}" for name in train} <= {room(name) for name in modules()}
