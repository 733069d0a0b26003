"""The C functions of ``csrc/include/unicas_edge.h``, which states their arithmetic.

All release the GIL.

`pixels` is uint8 RGB [height, width, 3]; rows may lie any number of bytes apart (a crop, a flip),
but are contiguous themselves. `variant` is one of `variants()`; None is the fastest for the job.
Whatever does not fit raises ValueError (TypeError, BufferError where it is no such buffer at all).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def version() -> tuple[int, int, int]:
    """Return the version that the C library was built as: major, minor, patch."""

def usable_cores() -> int:
    """Return how many cores this process may keep busy, as ``ue_usable_cores`` counts them."""

def isa(root: str = "") -> str:
    """Return the processor's instruction class, as the files under `root` tell it.

    "" is the running system, as for the two functions below.
    """

def processor(root: str = "") -> str:
    """Return the processor's name as the system gives it, or the machine's."""

def available_bytes(root: str = "") -> int | None:
    """Return the memory this process may still take without swapping; None where unknown."""

def variants() -> tuple[str, ...]:
    """Return the variants that this processor can run, best first, "portable" last."""

def active() -> str:
    """Return the first of `variants()`; some kernels take another: see the two below."""

def normalise_variant(affine: NDArray[np.float32], out: NDArray[np.generic]) -> str:
    """Return the variant that `normalise` takes for None, for this map and an output like `out`."""

def measure_variant() -> str:
    """Return the variant that `measure` takes for None."""

def normalise(
    pixels: NDArray[np.uint8],
    affine: NDArray[np.float32],
    out: NDArray[np.generic],
    variant: str | None = None,
) -> None:
    """Write the affine map (float32 [12], row-major [3, 4]) of every pixel to `out`.

    `out` is C-contiguous [3, height, width] float32, float16 (rounded to nearest even) or uint8
    (likewise, and saturated), and must not overlap `pixels`. Coefficients lie inside +-1e30.
    """

def measure(
    pixels: NDArray[np.uint8],
    cellular_below: int,
    dark_below: int,
    variant: str | None = None,
) -> tuple[int, int, int, int, int, int, int, int]:
    """Return exact counts and sums over the pixels, thresholds 0 to 255.

    In this order: pixels with min(R, G, B) < `cellular_below`; pixels with max(R, G, B) <
    `dark_below`; the sums of R, G and B; and of the Laplacian of G ([0 1 0; 1 -4 1; 0 1 0],
    interior pixels only): its sum, the sum of its squares, and how many pixels it was taken at.
    """

def content_score(pixels: NDArray[np.uint8], variant: str | None = None) -> float:
    """Return the content score of `pixels`, which may have any strides."""

def aggregator_variants() -> tuple[str, ...]:
    """Return the variants of the aggregator's kernels that this processor can run, best first."""

class Aggregator:
    """`ue_aggregator`: weights from a path (bytes) or from a buffer that holds the file."""

    depth: int
    tasks: int
    classes: int
    width: int

    def __init__(
        self, source: bytes | memoryview, threads: int, variant: str | None = None
    ) -> None: ...
    def describe(self) -> dict[str, int | str]:
        """Return depth, tasks, classes, width, threads, variant, experts, and sizes in bytes."""

class Bag:
    """`ue_bag`; MemoryError where its arena cannot be had."""

    aggregator: Aggregator
    nbytes: int
    n: int

    def __init__(self, aggregator: Aggregator, capacity: int) -> None: ...
    def push(self, first: int, tokens: NDArray[np.float32]) -> None:
        """Take in C-contiguous float32 [k, embed_dim_in]."""

    def arrange(self, order: NDArray[np.uintp]) -> None:
        """Take [n] indices of pushed tokens, in canonical order."""

    def explain(self, attention: NDArray[np.float32]) -> None:
        """Write [tasks, n]."""

    def task_tokens(self, tokens: NDArray[np.float32]) -> None:
        """Write [depth, tasks, width]."""

def finish_bags(bags: list[Bag], logits: NDArray[np.float32], seconds: NDArray[np.float64]) -> None:
    """Write [bags, tasks, classes] and add to [passes] seconds; at most 16 bags."""

def must_be(found: list[int], wanted: list[int]) -> None:
    """Raise ValueError where two shapes differ."""

class Intake:
    """`ue_intake` of ``csrc/intake/session.h``, which says what each call does.

    A cell is row * columns + column. What a session refuses is a ValueError with its sentence.
    """

    bag: Bag

    def __init__(
        self,
        bag: Bag,
        *,
        capacity: int,
        width: int,
        height: int,
        downsample: float,
        tile: int,
        crop: int,
        field: int,
        max_tiles: int,
        token_width: int,
        batch: int,
        most_ready: int,
        most_held: int,
        most_open: int,
        cellular_below: int,
        dark_below: int,
        background_share: float,
        affine: NDArray[np.float32],
        dtype: str,
        spool: bytes | None,
        spool_key: bytes,
    ) -> None: ...
    def push(self, tile: NDArray[np.uint8], x: int, y: int, score: float, given: bool) -> None:
        """Take in a tile of any strides; `given`: the score is the caller's own."""

    def skip(self, x: int, y: int) -> None: ...
    def fail(self, x: int, y: int, score: float) -> None: ...
    def came(self, x: int, y: int) -> bool: ...
    def room(self, milliseconds: int) -> bool:
        """Return whether another tile may be pushed, waiting so long for it."""

    def end(self) -> None: ...
    def let_go(self) -> None:
        """Close the spool."""

    def drained(self, milliseconds: int) -> bool:
        """Return whether all is encoded, waiting so long for it."""

    def cancel(self) -> None: ...
    def take(
        self, out: NDArray[np.generic], cells: NDArray[np.uint32], milliseconds: int
    ) -> int | None:
        """Return how many tiles were put into `out` and `cells`; None: no more will come."""

    def deliver(self, cells: NDArray[np.uint32], tokens: NDArray[np.float32]) -> int | None:
        """Take the tokens of cells; return the index of one that is not finite."""

    def so_far(self, cells: NDArray[np.uint32], tokens: NDArray[np.float32]) -> int:
        """Write the best cells that have a token, and the tokens; return how many there are."""

    def order(self, cells: NDArray[np.uint32]) -> int:
        """Write the planned cells; return how many they are."""

    def keep(self, cells: NDArray[np.uint32], has: NDArray[np.uint8]) -> None: ...
    def tokens(self, cells: NDArray[np.uint32], tokens: NDArray[np.float32]) -> None: ...
    def places(self, cells: NDArray[np.uint32], places: NDArray[np.uintp]) -> None: ...
    def records(
        self,
        status: NDArray[np.uint8],
        score: NDArray[np.float64],
        cellular: NDArray[np.float32],
        focus: NDArray[np.float32],
        cells: int,
    ) -> None: ...
    def progress(self) -> tuple[int, int, int, int, int]:
        """Return the tiles seen, held, ready, being encoded, and encoded."""

def probability(
    logits: NDArray[np.float32], classes: int, positive: int, temperature: float
) -> float:
    """Return that of class `positive` in softmax(logits [: classes] / temperature)."""

class Knowledge:
    """`ue_knowledge`; `aggregated` uint8 [K] are the kinds that may carry a decision.

    All weights are C-contiguous float64. ValueError for a covariance that cannot be one.
    """

    width: int
    kinds: int

    def __init__(
        self,
        aggregated: NDArray[np.uint8],
        kinds_weight: NDArray[np.float64],
        kinds_bias: NDArray[np.float64],
        mean: NDArray[np.float64],
        covariance: NDArray[np.float64],
        cells_weight: NDArray[np.float64],
        cells_bias: NDArray[np.float64],
        scale_weight: NDArray[np.float64],
        scale_bias: NDArray[np.float64],
    ) -> None: ...
    def read(self, tokens: NDArray[np.float32]) -> TokenReading:
        """Read C-contiguous float32 [n, D]."""

class TokenReading:
    """`ue_reading`: of `count` tokens; figures of the slide are NaN where nothing tells."""

    count: int
    counts: list[int]
    slide_distance: float
    um_px_factor: float

    def copy(
        self,
        kind: NDArray[np.int32],
        aggregated: NDArray[np.uint8],
        distance: NDArray[np.float64],
        cells: NDArray[np.float64],
        octaves: NDArray[np.float64],
    ) -> None:
        """Write what was read of each token."""

class Judge:
    """`ue_judge`: what is known of one slide, piece by piece, and then what it comes to.

    Texts are UTF-8 without NUL. ValueError for a manifest that breaks its schema.
    """

    def __init__(
        self,
        manifest: bytes,
        *,
        width: int,
        height: int,
        downsample: float,
        tile: int,
        field: int,
        um_px: float,
        um_px_source: bytes,
        colour_mode: bytes,
        colour_warnings: list[bytes],
        unverified: bytes | None,
    ) -> None: ...
    def see(
        self,
        planned: NDArray[np.uint32],
        status: NDArray[np.uint8],
        score: NDArray[np.float64],
        cellular: NDArray[np.float32],
        focus: NDArray[np.float32],
        causes: list[bytes | None],
    ) -> None:
        """Take the planned cells, what is known of every cell, and why planned ones failed."""

    def expect(
        self,
        expected: NDArray[np.uint32] | None,
        scored_tiles: int,
        grid_scores: NDArray[np.float64] | None,
    ) -> None:
        """Take the cells that should have come, and content scores of all cells."""

    def read(self, tokens: NDArray[np.float32], reading: TokenReading | None) -> None:
        """Take the tokens of the encoded cells, and what they show."""

    def aggregate(self, logits: NDArray[np.float32], attention: NDArray[np.float32]) -> None:
        """Take what the aggregator made of the cells that it was shown."""

    def judge(
        self, tiles: NDArray[np.uint8], attention: NDArray[np.float32]
    ) -> tuple[str | None, bytes]:
        """Fill `tiles` with a `ue_tile` a planned cell, `attention` [tasks, planned] with shares.

        Return what the pixels contradict, None for nothing, and the verdict as JSON.
        """

class ColourSample:
    """`ue_colour_sample` of ``csrc/include/unicas_edge_colour.h``."""

    def __init__(self) -> None: ...
    def add(self, pixels: NDArray[np.uint8], step: int) -> None:
        """Take in every step-th pixel of uint8 [h, w, 3], along and down."""

    def fit(
        self, mode: str, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> tuple[list[float], int, str | None]:
        """Return the 12 coefficients of [3, 4], on how many pixels they are fitted, a warning."""

def to_lab(rgb: NDArray[np.uint8], lab: NDArray[np.float64]) -> None:
    """Write CIELAB [n, 3] of grey levels [n, 3]."""

def to_rgb(lab: NDArray[np.float64], rgb: NDArray[np.float64]) -> None:
    """Write grey levels [n, 3] of CIELAB [n, 3]."""
