"""The service keeps to its own OpenAPI document, whatever is sent to it."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi

from tests.support.fake_encoder import FakeEncoder
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.errors import EngineError
from unicas_edge.serve.app import make_app
from unicas_edge.serve.models import Models
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.settings import Limits

pytestmark = pytest.mark.slow
WRONG = GenerationMode.NEGATIVE
CHECKS = [
    checks.not_a_server_error,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
    openapi.status_code_conformance,
]


@schemathesis.serializer("application/vnd.unicas-edge.tiles", "multipart/related")
def as_it_is(_, value):
    """Bodies that are bytes: whatever schemathesis makes of them."""
    return value if isinstance(value, bytes) else str(value).encode()


class Nobody:
    """Who screens nothing of DICOMweb."""

    def ready(self):
        raise EngineError("there is no engine")

    def close(self):
        """Have nothing to end."""


@pytest.fixture(scope="module")
def service(untrained_bundle: Bundle):
    encoder = FakeEncoder(untrained_bundle.manifest.encoder.width, batch_size=4)
    models = Models(untrained_bundle, encoder, Aggregator.load(untrained_bundle), None)
    registry = Registry(models, Limits(sessions=2, idle_seconds=0))
    yield schemathesis.openapi.from_asgi("/openapi.json", make_app(registry, None, Nobody()))
    registry.close()


def test_any_request_is_answered_as_described(service):
    operations = [found.ok() for found in service.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:
        answered(operation)


def answered(operation) -> None:
    """Send what its description allows, and what it forbids."""

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(operation.as_strategy(), operation.as_strategy(generation_mode=WRONG)))
    def ask(case):
        case.call_and_validate(checks=CHECKS, timeout=60)

    ask()
