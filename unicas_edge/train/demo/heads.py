"""The region heads of the default bundle, each judged on cells that its encoder never saw."""

from __future__ import annotations

from collections.abc import Sequence

from unicas_edge.bundle.manifest import TileSpec
from unicas_edge.core.arrays import Float32
from unicas_edge.heads.images import to_view
from unicas_edge.train.cells.dataset import Indices, Regions
from unicas_edge.train.demo.data import DemoData
from unicas_edge.train.demo.job import Job
from unicas_edge.train.encoder.tokens import TileEncoder
from unicas_edge.train.heads.cross_validate import cross_validate
from unicas_edge.train.heads.make import Made, Protocol, finish_head
from unicas_edge.train.heads.probe import Probing

#: Of each fold's encoder, and of the one that ships.
Tokens = tuple[Sequence[Float32], Float32]

#: All classes but the first, which is the normal one.
_ABNORMAL = ("*",)
#: Head -> source and the classes that it tells from all others; () keeps the source's classes.
HEADS: dict[str, tuple[str, tuple[str, ...]]] = {
    "abnormality": ("cric", _ABNORMAL),
    "grade": ("cric", ()),
    "cell_type": ("sipakmed", ()),
    "candidiasis": ("comparison", ("candida",)),
    "cluecell": ("comparison", ("flora",)),
}


def made_heads(
    data: DemoData,
    folds: Sequence[TileEncoder],
    shipped: TileEncoder,
    tile: TileSpec,
    probing: Probing,
    steps: int,
    job: Job,
) -> list[Made]:
    """Return the heads for the encoder `shipped`, judged with those of `folds`.

    `steps` is how long encoders are adapted, for the protocol.
    """
    made = []
    tokens: dict[str, Tokens] = {}
    for name, (source, positive) in HEADS.items():
        cells = data.cells[source]
        if source not in tokens:
            job.tell(f"tokens of {cells.name}")
            found = [_tokens(cells, encoder, tile) for encoder in (*folds, shipped)]
            tokens[source] = (found[:-1], found[-1])
        job.tell(f"head {name}")
        chosen = cells.classes[1:] if positive == _ABNORMAL else positive
        labelled = cells.against_rest(chosen, called=name) if chosen else cells
        text = _protocol(labelled, source, probing, len(folds), steps)
        made.append(_made(name, labelled, data.folds[source], tokens[source], probing, text, job))
    return made


def _tokens(cells: Regions, encoder: TileEncoder, tile: TileSpec) -> Float32:
    return encoder(to_view(image, tile, "cell") for image in cells.images())


def _made(
    name: str, cells: Regions, folds: Indices, tokens: Tokens, probing: Probing, text: str, job: Job
) -> Made:
    per_fold, shipped = tokens
    tested = cross_validate(per_fold, cells, folds, probing, None, job.tell)
    protocol = Protocol(folds=len(per_fold), probing=probing)
    return finish_head(name, cells, protocol, tested, shipped, text=text, tell=job.tell)


def _protocol(cells: Regions, source: str, probing: Probing, folds: int, steps: int) -> str:
    unit = "crop, as their fields are not known" if source == "comparison" else "field"
    return (
        f"{cells.name}: {folds}-fold cross-validation by {unit}: for each fold an encoder was "
        f"adapted ({steps} steps) and a head trained without it (two layers, hidden "
        f"{probing.hidden}, Adam, batch {probing.batch}, learning rate {probing.lr:g}, at most "
        f"{probing.epochs} epochs, early stopping by a fifth of the training groups); view cell. "
        "The shipped encoder was adapted so to all folds"
    )
