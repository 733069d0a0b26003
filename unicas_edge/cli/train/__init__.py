"""`unicas-edge train`: a file for each family of commands."""

from __future__ import annotations

import typer

from unicas_edge.cli.train.aggregator import aggregator, calibrate
from unicas_edge.cli.train.compose import compose
from unicas_edge.cli.train.demo import demo
from unicas_edge.cli.train.encoders import distil, pretrain
from unicas_edge.cli.train.evaluate import evaluate
from unicas_edge.cli.train.heads import heads

train_app = typer.Typer(
    help="Train encoders, aggregators and heads on your own data.", no_args_is_help=True
)
for _command in (pretrain, distil, compose, aggregator, calibrate, heads, evaluate, demo):
    train_app.command()(_command)
