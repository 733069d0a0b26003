"""Train a head that classifies images of cells, and put it into a copy of a bundle.

python examples/train_head.py cells/ --name cells -o with-heads/

`cells/` has one folder per class. Cells of one field of view belong into a folder inside it, so
that they are never split between training and test. Needs the extras `train` and `export`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import unicas_edge
from unicas_edge.train.cells.dataset import folder, readable
from unicas_edge.train.heads.bundle import write_heads
from unicas_edge.train.heads.make import Protocol, make_head
from unicas_edge.train.heads.probe import Probing


def train(args: argparse.Namespace) -> None:
    """Train, print the cross-validated figures, write the bundle."""
    bundle = unicas_edge.Bundle.load(args.bundle)
    data = readable(folder(args.images))  # `TrainingError` if many images cannot be read
    print(f"{len(data)} images: {data.counts}")
    protocol = Protocol(folds=args.folds, probing=Probing(epochs=args.epochs))
    made = make_head(args.name, data, bundle, protocol, tell=print)
    for figure in made.head.evaluation:
        interval = f"({figure.ci_low:.3f} to {figure.ci_high:.3f})"
        print(f"{figure.metric:<20} {figure.value:.3f} {interval}")
    write_heads(bundle, args.output, [made.head])
    print(f"next: unicas-edge classify IMAGE --bundle {args.output} --head {args.name}")


def main() -> int:
    """Return 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description="Train a head on a folder of images.")
    parser.add_argument("images", type=Path, help="folder with one folder per class")
    parser.add_argument("--name", default="cells", help="name of the head")
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder of the new bundle")
    parser.add_argument("--bundle", type=Path, help="bundle to copy (default: the embedded one)")
    parser.add_argument("--folds", type=int, default=5, help="folds of the cross-validation")
    parser.add_argument("--epochs", type=int, default=30, help="epochs at most")
    args = parser.parse_args()
    if args.output.exists():
        parser.error(f"{args.output} exists; choose another folder with --output")
    try:
        train(args)
    except unicas_edge.UnicasError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
