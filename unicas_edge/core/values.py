"""The kinds of value that manifests are made of, and the rule that they are literal."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=5_000)]
#: Letters of what a tile shows, which the tile table has room for.
KIND_LETTERS = 32
Kind = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", min_length=1, max_length=KIND_LETTERS)
]
#: POSIX, in characters that every file system takes; `Bundle.path` refuses ``..`` and links out.
RelativePath = Annotated[
    str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=65_536)]
Share = Annotated[float, Field(ge=0, le=1)]
#: A count; C reads no larger one.
Natural = Annotated[int, Field(ge=0, lt=2**64 - 1)]
Triple = tuple[float, float, float]
Scale = tuple[
    Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
]


#: What a later key says where it is not needed.
_NOTHING: tuple[Any, ...] = (None, False, [], ())


class Frozen(BaseModel):
    """What is not changed once it is made; an unknown key or a NaN is an error.

    The base of all that is read from or written into JSON.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Strict(Frozen):
    """Literal as well, for files that others write: a string for a number is an error."""

    model_config = ConfigDict(strict=True)


class Sparse(Strict):
    """One that leaves the keys named in `SPARSE` out of its JSON while they say nothing.

    So a manifest that needs none of the later keys keeps its bytes, and its hash.
    """

    SPARSE: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_nothing(self, default: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = default(self)
        return {k: v for k, v in written.items() if k not in self.SPARSE or v not in _NOTHING}


class Calibration(Strict):
    """Logits are divided by `temperature` before the softmax; 1 leaves them alone."""

    temperature: Annotated[float, Field(gt=0, le=1_000)]
