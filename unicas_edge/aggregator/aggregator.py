"""Stage 5: a bag of CLS tokens becomes logits per task, and says which tiles carried them.

What UniCAS computes (github.com/peter-fei/UniCAS, slide-level), exactly, but reordered so that most
of it never has to be computed; ``csrc/aggregator`` says how.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from unicas_edge import _native
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.aggregator_file import check_weights, config_in
from unicas_edge.bundle.manifest import AggregatorConfig
from unicas_edge.core.arrays import Float32
from unicas_edge.core.regular_file import read_regular
from unicas_edge.errors import AggregatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_TILES", "PASSES", "Aggregator", "AggregatorConfig", "Bag", "Explanation"]

#: What `Bag.seconds` is divided into; ``ue_aggregator_pass`` in the C header says what each does.
PASSES = ("positions", "queries", "scores", "select", "project", "route", "experts")
#: Tokens that one bag may hold (``UE_MAX_TILES``).
MOST_TILES = 1_000_000
#: Bags that share one reading of the experts' weights; more are done in turns.
_TOGETHER = 16
#: Four times the published weights in fp32.
_MOST_BYTES = 8 << 30


@dataclass(frozen=True)
class Explanation:
    """`logits` float32 [t, classes] and `attention` float32 [t, n].

    `attention[i, j]` is tile j's share of task i's attention mass: the softmax weights p of the m
    patches that each head keeps, averaged over all blocks and heads; a padding row counts for the
    tile it repeats. Every row sums to 1, and a tile no head ever kept has 0.
    """

    logits: Float32
    attention: Float32


class Aggregator:
    """The multi-task aggregator for one set of weights; read-only, so share it freely.

    `weights` maps the published checkpoint's keys (``model.blocks.0...``) to float arrays. A
    missing, unexpected or mis-shaped key is an `AggregatorError` that names it. `threads` None is
    one per usable core, `variant` None the best of `_native.aggregator_variants()`. Results do
    not depend on `threads`; variants agree to 1e-5 in every probability. `digests` names the file
    of a bundle that it came from with its SHA-256; empty for weights from elsewhere.
    """

    def __init__(
        self,
        weights: Mapping[str, NDArray[np.floating[Any]]],
        config: AggregatorConfig,
        *,
        threads: int | None = None,
        variant: str | None = None,
    ) -> None:
        metadata = {"config": config.model_dump_json()}
        stored = save(check_weights(weights, config), metadata=metadata)
        self._open(memoryview(stored), config, threads, variant, "weights")

    def _open(
        self,
        data: memoryview,
        config: AggregatorConfig,
        threads: int | None,
        variant: str | None,
        name: str,
    ) -> None:
        self.config = config
        self.digests: dict[str, str] = {}
        with _translated(name):
            self._native = _native.Aggregator(data, threads or 0, variant)
        self._facts = self._native.describe()

    @classmethod
    def load(
        cls,
        source: str | Path | Bundle,
        *,
        threads: int | None = None,
        variant: str | None = None,
    ) -> Aggregator:
        """Return the aggregator of a ``.safetensors`` file, a bundle folder or a `Bundle`.

        The file is read into memory, and a bundle's is hashed there: what runs is what the digest
        names, whoever writes to the file. Its configuration is the JSON under ``config`` in its
        metadata. `AggregatorError` for a file that does not hold what it says; `BundleError` for a
        folder that is no bundle, or a file that changed since the bundle was loaded.
        """
        if not isinstance(source, Bundle) and Path(source).is_dir():
            source = Bundle.load(source)
        path, data = _bytes_of(source)
        aggregator = cls.__new__(cls)
        aggregator._open(data, config_in(data, path), threads, variant, str(path))
        if isinstance(source, Bundle):
            name = source.manifest.aggregator.file
            aggregator.digests = {name: source.manifest.files[name]}
        return aggregator

    @property
    def variant(self) -> str:
        """The instruction set of the kernels in use."""
        return str(self._facts["variant"])

    @property
    def threads(self) -> int:
        """How many threads a call may use, the caller's included."""
        return int(self._facts["threads"])

    @property
    def experts(self) -> str:
        """How the experts' matrices are stored: fp32, fp16, bf16 or int8."""
        return str(self._facts["experts"])

    def logits(self, tokens: NDArray[np.floating[Any]]) -> Float32:
        """Return float32 [t, classes] for `tokens` float32 [n, embed_dim_in], n >= 1.

        Where tasks differ in their number of classes, the shorter rows end in -inf, which a softmax
        turns into probability 0. `AggregatorError` for no tokens, a wrong width or values that are
        not finite (naming the first bad tile).
        """
        return self._filled(tokens).finish()

    def explain(self, tokens: NDArray[np.floating[Any]]) -> Explanation:
        """Return the logits, as `logits` does, and each tile's share of the attention mass."""
        bag = self._filled(tokens)
        return Explanation(bag.finish(), bag.attention())

    def logits_many(self, bags: Iterable[NDArray[np.floating[Any]]]) -> list[Float32]:
        """Return the logits of several slides, one pass over the experts' weights for up to 16.

        The same numbers as `logits` gives one by one, to the bit.
        """
        filled: list[Bag] = []
        found: list[Float32] = []
        for tokens in bags:
            filled.append(self._filled(tokens))
            if len(filled) == _TOGETHER:
                found += finish_many(filled)
                filled = []
        return found + (finish_many(filled) if filled else [])

    def bag(self, capacity: int) -> Bag:
        """Return an empty bag for up to `capacity` tokens, for tokens that arrive bit by bit."""
        return Bag(self, capacity)

    def _filled(self, tokens: NDArray[np.floating[Any]]) -> Bag:
        checked = self._checked(tokens)
        if not len(checked):
            raise AggregatorError("no tokens: a bag needs at least one tile; check the tile plan")
        bag = Bag(self, len(checked))
        bag.push(0, checked)
        bag.arrange(np.arange(len(checked)))
        return bag

    def _checked(self, tokens: NDArray[np.floating[Any]]) -> Float32:
        width = self.config.embed_dim_in
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or tokens.shape[1] != width or tokens.dtype.kind != "f":
            raise AggregatorError(
                f"tokens must be float32 [n, {width}], not {tokens.dtype} {list(tokens.shape)}: "
                "use the encoder that the aggregator was trained with"
            )
        with np.errstate(over="ignore"):  # of float64; infinity is refused by name
            return np.ascontiguousarray(tokens, dtype=np.float32)


class Bag:
    """The tokens of one slide, embedded as they come, and all memory that their passes need.

    For one thread at a time. `nbytes` is the size of its arena; `seconds` [len(PASSES)] adds up
    where the time of `finish` went.
    """

    def __init__(self, aggregator: Aggregator, capacity: int) -> None:
        if not 0 < capacity <= MOST_TILES:
            raise AggregatorError(
                f"a bag holds 1 to {MOST_TILES:,} tokens, not {capacity:,}; lower --max-tiles"
            )
        self._aggregator = aggregator
        with _translated():
            self._native = _native.Bag(aggregator._native, capacity)
        self._n = 0
        self.seconds = np.zeros(len(PASSES))

    @property
    def width(self) -> int:
        """Numbers in a token."""
        return self._aggregator.config.embed_dim_in

    @property
    def native(self) -> _native.Bag:
        """The bag that other native code may push into, while nobody else uses this one."""
        return self._native

    @property
    def nbytes(self) -> int:
        """Bytes of the one arena that the passes work in."""
        return int(self._native.nbytes)

    def push(self, first: int, tokens: NDArray[np.floating[Any]]) -> None:
        """Put `tokens` [k, embed_dim_in] at the indices from `first` on, over what was there.

        They pass the first layer at once, so that `finish` has only the blocks to do.
        `AggregatorError` names the first token that is not finite; then none is taken.
        """
        with _translated():
            self._native.push(first, self._aggregator._checked(tokens))

    def arrange(self, order: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        """Say which pushed tokens are the bag, in the canonical order of the tile plan."""
        indices = np.asarray(order)
        if indices.size and (
            indices.dtype.kind not in "iu" or indices.ndim != 1 or indices.min() < 0
        ):
            raise AggregatorError("give the order as a list of whole numbers from 0, one per tile")
        indices = np.ascontiguousarray(indices, dtype=np.uintp)
        with _translated():
            self._native.arrange(indices)
        self._n = len(indices)

    def finish(self) -> Float32:
        """Return the logits float32 [t, classes] of what was arranged; see `Aggregator.logits`."""
        return finish_many([self])[0]

    def attention(self) -> Float32:
        """Return float32 [t, n] after `finish`; see `Explanation`."""
        out = np.empty((self._aggregator.config.num_tasks, self._n), dtype=np.float32)
        with _translated():
            self._native.explain(out)
        return out

    def task_tokens(self) -> Float32:
        """Return the task tokens after each block, float32 [depth, t, C], after `finish`."""
        config = self._aggregator.config
        out = np.empty((config.depth, config.num_tasks, config.embed_dim), dtype=np.float32)
        with _translated():
            self._native.task_tokens(out)
        return out


def finish_many(bags: Sequence[Bag]) -> list[Float32]:
    """Finish up to 16 bags of one aggregator together; return what `Bag.finish` would, for each."""
    if not bags:
        return []
    config = bags[0]._aggregator.config
    logits = np.empty((len(bags), config.num_tasks, max(config.classes)), dtype=np.float32)
    seconds = np.zeros(len(PASSES))
    with _translated():
        _native.finish_bags([bag._native for bag in bags], logits, seconds)
    for bag in bags:
        bag.seconds += seconds / len(bags)
    return list(logits)


def _bytes_of(source: str | Path | Bundle) -> tuple[Path, memoryview]:
    if isinstance(source, Bundle):
        name = source.manifest.aggregator.file
        return source.path(name), source.read(name)
    path = Path(source)
    try:
        return path, read_regular(path, _MOST_BYTES)
    except (OSError, MemoryError) as error:
        cause = getattr(error, "strerror", None) or "it does not fit into memory"
        raise AggregatorError(
            f"{path}: not a readable safetensors file ({cause}); pass a .safetensors file or a "
            "model bundle's folder"
        ) from error


@contextmanager
def _translated(name: str | None = None) -> Iterator[None]:
    """Turn what the native code says into an error of our tree; `name` is what it read."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        text = str(error)
        if name is not None and text.startswith("memory:"):
            text = name + text.removeprefix("memory")
        raise AggregatorError(text) from error
    except MemoryError as error:
        raise AggregatorError(
            f"not enough memory for {error}; lower --max-tiles or free memory"
        ) from error
