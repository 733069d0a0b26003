"""From a bundle and what is asked of the engine to an encoder that runs."""

from __future__ import annotations

from unicas_edge.bundle import Bundle
from unicas_edge.engines.base import MAX_BATCH, Candidate, Encoder
from unicas_edge.engines.choice import choose, objection
from unicas_edge.engines.options import EngineOptions
from unicas_edge.engines.registry import engine, require
from unicas_edge.errors import EngineError

_MAX_THREADS = 1024


def open_encoder(bundle: Bundle, options: EngineOptions | None = None) -> Encoder:
    """Return the bundle's encoder, ready to run, in an engine and precision that may screen.

    See `choose` for which that is; `options` None leaves everything open. `EngineError` for an
    unknown backend or precision, one that is not installed or did not pass the bundle's gate, or a
    model it cannot load.
    """
    options = options or EngineOptions()
    candidate = choose(
        bundle, options.backend, options.precision, allow_unverified=options.allow_unverified
    )
    return open_candidate(bundle, candidate, options)


def open_candidate(
    bundle: Bundle, candidate: Candidate, options: EngineOptions | None = None
) -> Encoder:
    """Return the encoder of one candidate of the bundle, whatever its gate says.

    Of `options` only threads, batch size and memory count. Errors: as `open_encoder`.
    """
    options = options or EngineOptions()
    for what, value, most in (
        ("threads", options.threads, _MAX_THREADS),
        ("batch size", options.batch_size, MAX_BATCH),
    ):
        if value is not None and not 1 <= value <= most:
            raise EngineError(f"{what} is {value}; choose 1 to {most}")
    require(candidate.backend)
    encoder: Encoder = engine(candidate.backend).encoder()(bundle, candidate, options)
    encoder.unverified = objection(bundle, candidate)
    return encoder
