"""The published JSON schemas of a bundle's manifest and of a result, generated from the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unicas_edge.bundle.manifest import Manifest
from unicas_edge.result import SlideResult

_HERE = Path(__file__).parent


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the published JSON schemas as (file name, schema), generated from the models."""
    yield "bundle.schema.json", _titled(Manifest.model_json_schema(), "Model bundle manifest")
    written = SlideResult.model_json_schema(mode="serialization")
    yield "result.schema.json", _titled(written, "Result of screening one slide")


def _titled(schema: dict[str, Any], title: str) -> dict[str, Any]:
    return {**schema, "$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}


def write_schemas(folder: Path = _HERE) -> None:
    """Write the JSON schemas into `folder` (default: where the package publishes them)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas():
        (folder / name).write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", "utf-8")
