"""What ``bundle.json`` may say: the one definition behind validation and the published schema."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from unicas_edge.bundle.encoder import EncoderSpec, Verification
from unicas_edge.bundle.heads import HeadSpec
from unicas_edge.bundle.knowledge import ConformalSpec, KnowledgeSpec
from unicas_edge.core.values import (
    Calibration,
    Count,
    Name,
    Natural,
    RelativePath,
    Scale,
    Sha256,
    Share,
    Sparse,
    Strict,
    Text,
    Triple,
)

SCHEMA_VERSION = 1


class AggregatorConfig(Strict):
    """The shape of a multi-task aggregator; the upper bounds stop absurd files early.

    `embed_dim_in` is the encoder's width D, `embed_dim` the inner width C, `depth` the number of
    blocks L, `classes` the logits of each task, `top_m` the tiles a task's head attends to.
    """

    embed_dim_in: Count
    embed_dim: Count
    depth: Annotated[int, Field(ge=1, le=256)]
    num_heads: Annotated[int, Field(ge=1, le=256)]
    mlp_ratio: Annotated[float, Field(gt=0, le=64)]
    qkv_bias: bool = True
    num_tasks: Annotated[int, Field(ge=1, le=64)]
    classes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=64)
    ]
    num_experts: Annotated[int, Field(ge=1, le=1024)]
    slots_per_expert: Annotated[int, Field(ge=1, le=64)] = 1
    top_m: Annotated[int, Field(ge=1, le=1_000_000)]
    norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-6
    layer1_norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-5

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not num_heads times a whole number")
        if len(self.classes) != self.num_tasks:
            raise ValueError(f"classes lists {len(self.classes)} tasks, num_tasks {self.num_tasks}")
        if self.hidden_dim < 1:
            raise ValueError(f"mlp_ratio {self.mlp_ratio} leaves the experts no hidden unit")
        return self

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.embed_dim // self.num_heads

    @property
    def hidden_dim(self) -> int:
        """Hidden units of one expert."""
        return int(self.embed_dim * self.mlp_ratio)


class TileSpec(Strict):
    """Which tiles the encoder was made for: sizes in pixels at `um_px` micrometres a pixel.

    `field_tiles` is the side of a ranking field in tiles, `max_tiles` the cap of a bag.
    """

    size_px: Annotated[int, Field(ge=16, le=4096)]
    crop_px: Annotated[int, Field(ge=16, le=4096)]
    um_px: Annotated[float, Field(ge=0.01, le=100)]
    field_tiles: Annotated[int, Field(ge=1, le=64)]
    max_tiles: Annotated[int, Field(ge=1, le=1_000_000)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.crop_px > self.size_px:
            raise ValueError(f"crop_px {self.crop_px} exceeds size_px {self.size_px}")
        return self


class InputSpec(Strict):
    """How pixels in [0, 1] enter the encoder: (pixel - mean) / std a channel, in RGB order.

    With `dtype` uint8 the model takes grey levels and holds mean and std itself.
    """

    layout: Literal["NCHW"]
    dtype: Literal["float32", "float16", "uint8"]
    mean: Triple
    std: Scale


class LabTarget(Strict):
    """CIELAB statistics of tissue pixels that `reinhard` brings a slide to."""

    mean: Triple
    std: Scale


class ColourSpec(Strict):
    """The colour correction used unless the user asks for another, and its target."""

    default: Literal["none", "white-balance", "reinhard"]
    target: LabTarget | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.default == "reinhard" and self.target is None:
            raise ValueError("the default mode reinhard needs a target")
        return self


class ExpertStorage(Strict):
    """How the aggregator's experts are stored, and what converting them changed, measured on bags.

    `source_sha256` names the weights converted from, `bags` and `tiles` count what was measured on.
    A change is the absolute difference of a task's probability on one bag, a changed decision one
    that falls on the other side of the task's threshold; without bags these are null.
    """

    experts: Literal["fp32", "fp16", "bf16", "int8"]
    source_sha256: Sha256
    bags: Annotated[int, Field(ge=0, le=1_000_000)]
    tiles: Natural
    max_probability_change: Share | None
    mean_probability_change: Share | None
    changed_decisions: Natural | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        figures = (
            self.max_probability_change,
            self.mean_probability_change,
            self.changed_decisions,
        )
        if any((figure is None) != (self.bags == 0) for figure in figures):
            raise ValueError("give the three figures if there are bags, and null if there are none")
        return self


class AggregatorSpec(Sparse):
    """The aggregator's safetensors file; `config` equals the one in the file's metadata.

    `storage` is there for converted weights alone (`unicas-edge bundle convert`).
    """

    SPARSE = ("storage",)

    file: RelativePath
    config: AggregatorConfig
    storage: ExpertStorage | None = None


class Task(Sparse):
    """One diagnosis: `positive` is the index of the class whose probability is reported.

    At or above `threshold` the slide is called positive. `conformal` says which classes are left
    at which probability, with stated coverage.
    """

    SPARSE = ("conformal",)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=1024)]
    positive: Annotated[int, Field(ge=0)]
    threshold: Share
    calibration: Calibration
    conformal: ConformalSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.positive >= len(self.classes):
            raise ValueError(f"positive {self.positive} is not one of {len(self.classes)} classes")
        return self


class AdequacySpec(Strict):
    """Below any of these a slide is `unsatisfactory`, never `negative`.

    `min_coverage` is the share of planned tiles that must be readable, `min_cellular_tiles` a
    count, `min_in_focus_share` of the cellular tiles, `focus_floor` the Laplacian variance of the
    green plane (8-bit grey levels squared) per share of cellular pixels below which a tile is out
    of focus on any slide.
    """

    min_coverage: Share
    min_cellular_tiles: Annotated[int, Field(ge=0, le=1_000_000)]
    min_in_focus_share: Share
    focus_floor: Annotated[float, Field(ge=0)]


class TrainingData(Strict):
    """A data set the weights were trained on; `count` items of it."""

    name: Name
    licence: Name
    count: Natural


class Evaluation(Strict):
    """A figure with its confidence interval and how it was obtained."""

    task: Name
    metric: Name
    value: float
    ci_low: float
    ci_high: float
    protocol: Text


class Manifest(Sparse):
    """``bundle.json``. `files` maps every file of the bundle (POSIX path) to its SHA-256.

    `demonstration` is said of weights that were trained, but on too little to be used on anyone.
    Without `knowledge`, adequacy is judged by pixels alone.
    """

    SPARSE = ("demonstration", "verification", "heads", "knowledge")

    schema_version: Literal[1]
    name: Name
    version: Name
    licence: Name
    intended_use: Text
    trained: bool
    demonstration: bool = False
    tile: TileSpec
    input: InputSpec
    colour: ColourSpec
    encoder: EncoderSpec
    aggregator: AggregatorSpec
    tasks: Annotated[tuple[Task, ...], Field(min_length=1, max_length=64)]
    detector: None
    adequacy: AdequacySpec
    training_data: Annotated[tuple[TrainingData, ...], Field(max_length=1_000)]
    evaluation: Annotated[tuple[Evaluation, ...], Field(max_length=1_000)]
    files: Annotated[dict[RelativePath, Sha256], Field(min_length=1, max_length=64)]
    verification: Verification | None = None
    heads: Annotated[tuple[HeadSpec, ...], Field(max_length=64)] = ()
    knowledge: KnowledgeSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.demonstration and not self.trained:
            raise ValueError("demonstration can only be true if trained is true")
        config = self.aggregator.config
        if self.encoder.width != config.embed_dim_in:
            raise ValueError(
                f"encoder.width is {self.encoder.width}, but "
                f"aggregator.config.embed_dim_in is {config.embed_dim_in}"
            )
        if tuple(len(task.classes) for task in self.tasks) != config.classes:
            raise ValueError(
                f"tasks: {[len(task.classes) for task in self.tasks]} classes, but "
                f"aggregator.config.classes is {list(config.classes)}"
            )
        for what, made in (("task", self.tasks), ("head", self.heads)):
            if len({one.name for one in made}) != len(made):
                raise ValueError(f"{what}s: two {what}s have the same name")
        named = {"encoder": self.encoder.file, "aggregator": self.aggregator.file}
        named |= {f"encoder.forms.{i}": form.file for i, form in enumerate(self.encoder.forms)}
        named |= {f"heads.{i}": head.file for i, head in enumerate(self.heads)}
        named |= {"knowledge": self.knowledge.file} if self.knowledge else {}
        for key, file in named.items():
            if file not in self.files:
                raise ValueError(f"{key}.file {file!r} is not listed in files")
        if self.knowledge:
            self.knowledge.check_encoder(self.files[self.encoder.file])
        kinds = [(form.backend, form.precision) for form in self.encoder.forms]
        if len(set(kinds)) != len(kinds):
            raise ValueError("encoder.forms: two have the same backend and precision")
        return self
