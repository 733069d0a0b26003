"""How a kind of machine is best used: ``profiles/*.toml``, one file a device.

A profile fills in what the user left open, and says of every setting where it comes from. It never
changes a result: what an engine and a precision need in order to screen, the bundle decides.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import Backend, Precision
from unicas_edge.core.machine import Device, this_device
from unicas_edge.core.values import Name, Strict, Text
from unicas_edge.engines.choice import choose
from unicas_edge.engines.registry import missing
from unicas_edge.errors import EngineError, ProfileError
from unicas_edge.screening.options import Options

#: The built-in ones, in the order in which `auto` tries them: a device before its processor.
NAMES = (
    "jetson-agx-orin",
    "jetson-orin-nx",
    "jetson-orin-nano",
    "rtx-workstation",
    "x86-cpu-vnni",
    "x86-cpu",
    "arm64-cpu",
)
#: What a profile says of the engine, and of the reading beside it.
_ENGINE = ("backend", "precision", "batch_size", "threads", "memory_mb")
SETTINGS = (*_ENGINE, "readers", "queue_batches")
#: Each `why` begins with one of these: seen by us, said by who makes it, or neither.
ORIGINS = ("measured: ", "vendor: ", "estimate: ")
_MAX_BYTES = 1 << 16
_SHOWN = 4

#: Says why a profile's engine must not be used here; None: it may.
Refusal = Callable[["Profile"], str | None]


class Match(Strict):
    """Which machine a profile is for; all that is said must hold.

    `machine` are names of ``platform.machine()`` in small letters, `any_flag` flags of the
    processor of which one suffices, `board` is part of the device tree's model, `nvidia` asks for
    NVIDIA's driver.
    """

    machine: Annotated[tuple[Name, ...], Field(min_length=1, max_length=8)]
    any_flag: Annotated[tuple[Name, ...], Field(max_length=8)] = ()
    board: Name | None = None
    nvidia: bool = False

    def fits(self, device: Device) -> bool:
        """Whether this is such a machine."""
        return (
            device.machine in self.machine
            and (not self.any_flag or not device.flags.isdisjoint(self.any_flag))
            and (self.board is None or self.board in device.board)
            and (not self.nvidia or device.nvidia)
        )


class Profile(Strict):
    """The settings for one kind of machine, each with the reason for it.

    `threads` counts those that encode, `readers` those that read tiles; `queue_batches` is how many
    batches may wait beside those being encoded; `memory_mb` bounds the engine's activations, and
    with them the batch. "auto" leaves a setting to the engine and the machine.
    """

    device: Text
    match: Match | None = None
    backend: Literal["auto"] | Backend
    precision: Literal["auto"] | Precision
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)]
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)]
    readers: Annotated[int, Field(ge=1, le=64)]
    queue_batches: Annotated[int, Field(ge=1, le=64)]
    memory_mb: Literal["auto"] | Annotated[int, Field(ge=1, le=1 << 20)]
    why: dict[str, Text]

    @model_validator(mode="after")
    def _every_setting_has_a_reason(self) -> Profile:
        missing, foreign = set(SETTINGS) - set(self.why), set(self.why) - set(SETTINGS)
        if missing or foreign:
            problem = "has no reason for" if missing else "gives a reason for an unknown setting:"
            raise ValueError(f"[why] {problem} {', '.join(sorted(missing or foreign))}")
        for setting, reason in self.why.items():
            if not reason.startswith(ORIGINS) or not reason.partition(": ")[2].strip():
                raise ValueError(
                    f"why.{setting} must say where the value comes from and begin with one of "
                    f"{', '.join(map(repr, ORIGINS))}"
                )
        return self


@dataclass(frozen=True)
class Loaded:
    """A profile by its name or path; `passed_over` says why `auto` did not take better fits."""

    name: str
    profile: Profile
    passed_over: tuple[str, ...] = ()


def settle(profile: Profile, user: Options) -> Options:
    """Return what `user` decided of the engine, and what the profile says of the rest.

    A profile's precision is for its engine: where the user names another one, it does not count.
    """
    asked = user.engine
    found = {name: _first(getattr(asked, name), getattr(profile, name)) for name in _ENGINE}
    if asked.backend not in ("auto", profile.backend) and profile.backend != "auto":
        found["precision"] = asked.precision
    return replace(
        user,
        engine=replace(asked, **found),
        readers=profile.readers,
        queue_batches=profile.queue_batches,
    )


def _first(asked: int | str | None, said: int | str) -> Any:  # noqa: ANN401 - of the setting's type
    """Return what the user asked, else what the profile says; "auto" leaves `asked` as it is."""
    return said if asked in ("auto", None) and said != "auto" else asked


def load_profile(
    name: str = "auto", refuses: Refusal | None = None, device: Device | None = None
) -> Loaded:
    """Return a built-in profile by name, one from a file ``*.toml``, or for "auto" what fits best.

    `auto` passes over a profile whose engine `refuses` objects to; by default, one that is not
    installed. `device` None is this machine. `ProfileError` for an unknown name, a file that is no
    profile, and a machine that no built-in profile is for.
    """
    if name == "auto":
        return _fitting(device or this_device(), refuses or not_installed)
    if name in NAMES:
        return Loaded(name, _read(_built_in(name), f"profile {name}"))
    if Path(name).suffix != ".toml":
        raise ProfileError(
            f"unknown profile {name!r}; there are: auto, {', '.join(NAMES)}, or a file named *.toml"
        )
    if not Path(name).is_file():
        raise ProfileError(f"{name}: no such file; the built-in profiles are {', '.join(NAMES)}")
    return Loaded(name, _read(Path(name), name))


def profiled(name: str, bundle: Bundle, user: Options) -> Options:
    """Return the options with what the profile `name` says of those that `user` left open.

    A machine that no built-in profile is for gets none under `auto`. Errors: as `load_profile`.
    """
    try:
        found = load_profile(name, refusal(bundle, user))
    except ProfileError:
        if name != "auto":
            raise
        return user
    return replace(settle(found.profile, user), profile=found.name)


def built_in() -> Iterator[Loaded]:
    """Yield every built-in profile, in the order in which `auto` tries them."""
    yield from (load_profile(name) for name in NAMES)


def refusal(bundle: Bundle, user: Options) -> Refusal:
    """Return what `auto` asks of a profile: whether its engine is there and may run this bundle.

    A profile that leaves the engine open is never refused; one for another engine than the user's
    always is.
    """
    asked = user.engine

    def refuses(profile: Profile) -> str | None:
        if profile.backend in ("auto", asked.backend):
            return None  # it is for the engine itself to say
        if asked.backend != "auto":
            return f"it is for {profile.backend}, not {asked.backend}"
        wanted = settle(profile, user).engine
        try:
            choose(
                bundle,
                wanted.backend,
                wanted.precision,
                allow_unverified=wanted.allow_unverified,
            )
        except EngineError as error:
            return str(error)
        return None

    return refuses


def not_installed(profile: Profile) -> str | None:
    """Return what to install before a profile's engine can run, without starting it; else None."""
    return None if profile.backend == "auto" else missing(profile.backend)


def _fitting(device: Device, refuses: Refusal) -> Loaded:
    passed_over: list[str] = []
    for found in built_in():
        if found.profile.match is None or not found.profile.match.fits(device):
            continue
        objection = refuses(found.profile)
        if objection is None:
            return Loaded(found.name, found.profile, tuple(passed_over))
        passed_over.append(f"profile {found.name} was not used: {objection}")
    reasons = "".join(f"; {reason}" for reason in passed_over)
    raise ProfileError(
        f"no built-in profile fits {device.machine or 'this machine'}{reasons}; write one and "
        "give it as --profile FILE.toml"
    )


def _built_in(name: str) -> Traversable:
    return resources.files("unicas_edge.profiles") / f"{name}.toml"


def _read(path: Traversable, name: str) -> Profile:
    """Parse and check a file of at most 64 KiB; `name` is what errors call it."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ProfileError(f"{name}: too large for a profile (over {_MAX_BYTES:,} bytes)")
        content: dict[str, Any] = tomllib.loads(data.decode())
    except OSError as error:
        raise ProfileError(f"{name}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, or no TOML
        raise ProfileError(f"{name}: not a TOML file in UTF-8 ({error}); correct it") from error
    try:
        return Profile.model_validate_json(json.dumps(content, default=str))
    except (ValidationError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise ProfileError(
            f"{name}: {_problems(error)}. Correct it; profiles/x86-cpu.toml shows every key"
        ) from error


def _problems(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    found = [
        f"{'.'.join(map(str, e['loc'])) or 'profile'}: {e['msg'].removeprefix('Value error, ')}"
        for e in error.errors()
    ]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{'; '.join(found[:_SHOWN])}{more}"
