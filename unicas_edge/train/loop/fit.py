"""The one training loop: seeded, resumable bit for bit, on one processor or many GPUs.

What is trained says how a batch becomes a loss (`Trainable`); the loop does the rest. Everything
random is seeded anew for each step from (seed, step, rank), so that the state of a run is its
modules, its optimiser and its step, and a killed and resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unicas_edge.core.files import output_errors, remove_partial
from unicas_edge.errors import TrainingError
from unicas_edge.train.loop import checkpoints, curves, feed
from unicas_edge.train.loop.processes import device_of, first_says, mean_of_all, process_group
from unicas_edge.train.loop.settings import Settings, optimiser_of, schedule
from unicas_edge.train.loop.trainable import Trainable

__all__ = ["BEST", "LAST", "History", "Settings", "Trainable", "fit"]

LAST, BEST = "last.pt", "best.safetensors"


@dataclass
class History:
    """What a run did: `steps` taken, figures of its `validations` by step, the `best` one kept.

    `records` reads every step from the log in `folder`.
    """

    folder: Path
    steps: int = 0
    validations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    best: tuple[int, float] | None = None

    def records(self) -> Iterator[curves.Record]:
        """Yield the log's records: ``{"step", "loss", ...}`` or ``{"step", "validation"}``."""
        return curves.read_log(self.folder)


def fit(
    trainable: Trainable,
    batches: Callable[[int], Any],
    settings: Settings,
    folder: Path,
    *,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
    device: str = "cpu",
    workers: int = 0,
    title: str = "training",
) -> History:
    """Train, leaving `LAST`, `BEST`, the log and its curves in `folder`; return what happened.

    ``batches(step)`` gives a step's batch, tensors in containers, from the step alone and from the
    global random generators, which are seeded for it; with `workers` > 0 so many processes make
    batches ahead (it must pickle). Under ``torchrun`` (`processes.place`) every process gives its
    own part of the batch. `resume` goes on from `LAST` if it is there. `identity` holds what else a
    checkpoint depends on: another one is refused.

    `TrainingError` for a loss or gradient that is not finite (`LAST` is then as it was last saved),
    a checkpoint that does not fit, or a folder in use; `OutputError` where the disk is full.
    """
    where = device_of(device)
    with process_group(where) as here:
        run = _Run(trainable, settings, folder, where, here.rank, here.world, identity or {})
        with run.claimed():
            run.begin(resume=resume)
            run.train(batches, workers)
            if run.first:
                curves.write_curves(folder, title)
    return run.history


class _Whole(nn.Module):
    """The trainable as one module, so that `DistributedDataParallel` sees one forward a step."""

    def __init__(self, trainable: Trainable) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(trainable.modules)
        self.compute = trainable.loss

    def forward(self, batch: Any, step: int) -> dict[str, Tensor]:  # noqa: ANN401
        return self.compute(batch, step)


def _due(done: int, every: int, steps: int) -> bool:
    return done == steps or (every > 0 and done % every == 0)


class _Run:
    def __init__(
        self,
        trainable: Trainable,
        settings: Settings,
        folder: Path,
        device: torch.device,
        rank: int,
        world: int,
        identity: Mapping[str, Any],
    ) -> None:
        self.trainable, self.settings, self.device = trainable, settings, device
        self.folder, self.rank, self.first = folder, rank, rank == 0
        self.step = self.worse = 0
        self.history = History(folder)
        self.identity = {"settings": asdict(settings), "processes": world, **identity}
        for module in trainable.modules.values():
            module.to(device)
        self.optimiser = optimiser_of(trainable.parameters(), settings)
        self.whole: nn.Module = _Whole(trainable)
        if world > 1:  # a loss need not use every parameter: tasks are masked
            self.whole = DistributedDataParallel(self.whole, find_unused_parameters=True)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder, in the first process: what a killed run left half-written goes."""
        if not self.first:
            yield
            return
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise TrainingError(f"{self.folder}: another run is writing there") from error
        try:
            remove_partial(self.folder)
            yield
        finally:
            lock.release()

    def begin(self, *, resume: bool) -> None:
        path = self.folder / LAST
        there = first_says(path.exists())
        if there and not resume:
            raise TrainingError(f"{path}: a run is there; resume it, or choose another folder")
        if there:
            self._restore(path)
        elif self.first:
            curves.rewind(self.folder, 0)

    def _restore(self, path: Path) -> None:
        state = checkpoints.load_state(path, self.identity)
        try:
            for name, module in self.trainable.modules.items():
                module.load_state_dict(state["modules"][name])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = self.history.steps = int(state["step"])
            self.worse, self.history.best = state["best"]["worse"], state["best"]["found"]
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise TrainingError(
                f"{path}: does not fit the model to train ({checkpoints.line(error)}); has the "
                "code changed? Choose another folder"
            ) from error
        if self.first:
            curves.rewind(self.folder, self.step)
        told = (r for r in self.history.records() if "validation" in r) if self.first else ()
        self.history.validations = first_says([(r["step"], r["validation"]) for r in told])

    def train(self, batches: Callable[[int], Any], workers: int) -> None:
        steps = range(self.step, self.settings.steps)
        loader = feed.batches_from(batches, steps, self.settings.seed, self.rank, workers)
        self._mode()
        with contextlib.ExitStack() as stack:
            log = None
            if self.first:
                log = stack.enter_context((self.folder / curves.LOG).open("ab", buffering=0))
            for batch in loader if not self._finished() else ():
                self._step(batch, log)
                if self._finished():
                    break

    def _finished(self) -> bool:
        patience = self.settings.patience
        return self.step >= self.settings.steps or (patience is not None and self.worse >= patience)

    def _step(self, batch: Any, log: Any) -> None:  # noqa: ANN401
        step, every = self.step, self.settings
        record = self._update(batch)
        self._write(log, {"step": step, **record})
        self.step = self.history.steps = step + 1
        if _due(self.step, every.validate_every, every.steps):
            self._validate(log)
        if _due(self.step, every.save_every, every.steps) or self._finished():
            self._save()

    def _update(self, batch: Any) -> dict[str, float]:  # noqa: ANN401
        step, settings = self.step, self.settings
        feed.seed_all(settings.seed, step, self.rank, feed.LOSS)
        rates = schedule(self.optimiser.param_groups, settings, step)
        with torch.autocast(self.device.type, torch.bfloat16, settings.precision == "bf16"):
            losses = self.whole(feed.moved(batch, self.device), step)
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        limit = math.inf if settings.clip_norm is None else settings.clip_norm
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        values = torch.stack([value.detach().float() for value in [*losses.values(), norm]])
        logged = dict(zip([*losses, "grad_norm"], mean_of_all(values).tolist(), strict=True))
        self._check_finite(logged)
        self.optimiser.step()
        self.trainable.after_step(step)
        return logged | rates

    def _check_finite(self, logged: dict[str, float]) -> None:
        bad = [name for name, value in logged.items() if not math.isfinite(value)]
        if not bad:
            return
        last = self.folder / LAST
        kept = f"{last} is as it was last saved" if last.exists() else "nothing was saved before"
        raise TrainingError(
            f"step {self.step}: {', '.join(bad)} is not finite, so training stopped; {kept}. Lower "
            "the learning rate, clip gradients, or look at the data of this step"
        )

    def _validate(self, log: Any) -> None:  # noqa: ANN401
        feed.seed_all(self.settings.seed, self.step, 0, feed.VALIDATION)
        with torch.no_grad():
            found = first_says(self.trainable.validate())
        self._mode()
        if found:
            self.history.validations.append((self.step - 1, found))
            self._write(log, {"step": self.step - 1, "validation": found})
        if self.settings.keep is not None and self._better(found):
            self._save_best()

    def _better(self, found: dict[str, float]) -> bool:
        name, which = self.settings.keep or ("", "max")
        value = found.get(name, math.nan)
        if math.isnan(value):
            known = ", ".join(found) or "none"
            raise TrainingError(f"validation gave no {name} to keep the best by (it gave: {known})")
        sign, best = (1 if which == "max" else -1), self.history.best
        if best is not None and sign * value <= sign * best[1]:
            self.worse += 1
            return False
        self.worse, self.history.best = 0, (self.step - 1, value)
        return True

    def _mode(self) -> None:
        """Put what is trained into training mode; a teacher stays as it is."""
        for module in self.trainable.modules.values():
            if any(parameter.requires_grad for parameter in module.parameters()):
                module.train()

    def _save(self) -> None:
        if not self.first:
            return
        modules = {name: m.state_dict() for name, m in self.trainable.modules.items()}
        state = {
            "identity": checkpoints.identity_text(self.identity),
            "step": self.step,
            "modules": modules,
            "optimiser": self.optimiser.state_dict(),
            "best": {"found": self.history.best, "worse": self.worse},
        }
        checkpoints.save_state(self.folder / LAST, state)
        if self.settings.keep is None and self._finished():
            self._save_best()

    def _save_best(self) -> None:
        if self.first:
            tensors = checkpoints.tensors_of(self.trainable.modules)
            checkpoints.save_weights(self.folder / BEST, tensors)

    def _write(self, log: Any, record: dict[str, Any]) -> None:  # noqa: ANN401
        if log is not None:
            with output_errors(self.folder / curves.LOG):
                log.write(curves.line_of(record))
