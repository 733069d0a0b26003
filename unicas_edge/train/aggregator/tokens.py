"""What a bag of tokens must look like before a module sees it."""

from __future__ import annotations

from torch import Tensor

from unicas_edge.errors import AggregatorError


def check_tokens(tokens: Tensor, width: int, dimensions: tuple[int, ...] = (2,)) -> None:
    """Raise `AggregatorError` unless `tokens` is floating point [..., n, width] with n >= 1.

    `dimensions` lists the permitted numbers of dimensions: 2 is a bag, 3 a batch of equal bags.
    """
    shape = list(tokens.shape)
    if tokens.ndim not in dimensions or shape[-1] != width or not tokens.is_floating_point():
        raise AggregatorError(
            f"tokens must be floating point [n, {width}], not {tokens.dtype} {shape}: "
            "use the encoder that the module was made for"
        )
    if not tokens.numel():
        raise AggregatorError("no tokens: a bag needs at least one tile; check the tile plan")
