"""``result.json``: the result of one slide, and the schema it keeps to."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from unicas_edge.core.files import atomic_write
from unicas_edge.errors import OutputError
from unicas_edge.result import SlideResult

RESULT = "result.json"


def result_bytes(result: SlideResult) -> bytes:
    """Return ``result.json``: UTF-8, indented by 2, keys in the order of the model, no NaN.

    NaN and infinities become null where the model allows null (a probability, a free setting);
    elsewhere they are an `OutputError`, for the file could not be read back.
    """
    try:
        text = result.model_dump_json(indent=2)
        SlideResult.model_validate_json(text)
    except (PydanticSerializationError, ValidationError) as error:
        raise OutputError(
            f"{result.slide.path}: {RESULT} cannot hold this result: {_first_line(error)}; "
            "this is a defect of unicas-edge, please report it"
        ) from error
    return text.encode() + b"\n"


def write_result_json(path: Path, result: SlideResult) -> None:
    """Write `result` to `path` (see `result_bytes`); `OutputError` where that fails."""
    data = result_bytes(result)
    with atomic_write(path) as handle:
        handle.write(data)


def load_result(path: str | Path) -> SlideResult:
    """Return the result in a ``result.json``, or in the slide folder that holds one.

    `features` and `tiles` are None: they lie in ``features.h5`` and ``tiles.csv``. `OutputError`
    names the file and what is wrong with it.
    """
    path = Path(path)
    path = path / RESULT if path.is_dir() else path
    try:
        return SlideResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be read: {error.strerror}; screen the slide again"
        ) from error
    except ValidationError as error:
        raise OutputError(
            f"{path}: not a result that this version can read: {_first_line(error)}; "
            "move it away and screen the slide again"
        ) from error


def _first_line(error: ValidationError | PydanticSerializationError) -> str:
    """Return where and what, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    return f"{place}: {first['msg']}"
