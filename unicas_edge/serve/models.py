"""What all sessions of the service share: loaded once."""

from __future__ import annotations

from dataclasses import dataclass

from unicas_edge.adequacy.knowledge import Knowledge, load_knowledge
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.engines import Encoder, EngineOptions, open_encoder


@dataclass(frozen=True)
class Models:
    """A bundle, open."""

    bundle: Bundle
    encoder: Encoder
    aggregator: Aggregator
    knowledge: Knowledge | None

    @classmethod
    def load(cls, bundle: Bundle, options: EngineOptions) -> Models:
        """Return the models of a bundle; errors are those of opening each."""
        return cls(
            bundle,
            open_encoder(bundle, options),
            Aggregator.load(bundle),
            load_knowledge(bundle),
        )

    def close(self) -> None:
        """Free the encoder."""
        self.encoder.close()
