"""Counters for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from unicas_edge.serve.registry import Registry


class Metrics:
    """What the service has done, in a registry of its own."""

    def __init__(self, sessions: Registry) -> None:
        self._registry = CollectorRegistry()
        self._sessions = sessions
        self.tiles = Counter(
            "unicas_edge_tiles",
            "Tiles taken in, by what was said of them.",
            ["kind"],
            registry=self._registry,
        )
        self.refused = Counter(
            "unicas_edge_refused",
            "Requests that were refused, by HTTP status.",
            ["status"],
            registry=self._registry,
        )
        self._live = Gauge(
            "unicas_edge_sessions",
            "Sessions that are kept, by state.",
            ["state"],
            registry=self._registry,
        )

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        for state, count in self._sessions.count().items():
            self._live.labels(state).set(count)
        return generate_latest(self._registry)
