"""The traces of requests, and the values that they must never hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sandkasten.errors import SandkastenAPIError, SandkastenConnectionError
from sandkasten.testing import FakeDaemon, faults
from sandkasten_sync import SandboxClient

KEY = "a-key-that-nobody-may-see"


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon(api_key=KEY) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # which can be done once in a process
    yield exporter
    provider.shutdown()  # so that it keeps no span of the tests that follow
    exporter.clear()


def use(daemon: FakeDaemon) -> None:
    with SandboxClient(base_url=daemon.url, api_key=KEY) as client, client.create_session() as session:
        session.write("secret-name", "secret content")
        session.read("secret-name", max_bytes=100)
        session.exec("echo secret command")


def test_each_request_is_a_line_that_holds_no_key_name_command_or_content(
    daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sandkasten")
    use(daemon)
    lines = [record.getMessage() for record in caplog.records if record.name == "sandkasten"]
    assert any(line.startswith("POST /v1/sessions/{id}/exec: 200 in ") for line in lines)
    assert len(lines) >= 5
    assert not any("secret" in line or KEY in line for line in lines)


def test_an_attempt_that_is_made_again_is_told(daemon: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sandkasten")
    daemon.fail_next(faults.status(503))
    with SandboxClient(base_url=daemon.url, api_key=KEY) as client:
        client.list_sessions()
    assert "GET /v1/sessions failed and is tried again: SandkastenAPIError" in caplog.messages


def test_an_attempt_that_is_made_again_says_nothing_to_who_set_up_no_logs(
    daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]
) -> None:
    daemon.fail_next(faults.status(503))
    with SandboxClient(base_url=daemon.url, api_key=KEY) as client:
        client.list_sessions()
    assert capfd.readouterr() == ("", "")


def test_every_request_is_a_span(daemon: FakeDaemon, exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    use(daemon)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    span = spans["POST /v1/sessions/{id}/exec"]
    assert span.kind is trace.SpanKind.CLIENT
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["sandkasten.request_id"]
    assert not any("secret" in str(span.attributes) or KEY in str(span.attributes) for span in spans.values())


def test_a_failure_is_an_error_of_its_span(daemon: FakeDaemon, exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    daemon.fail_next(faults.reset())
    client = SandboxClient(base_url=daemon.url, api_key=KEY, max_retries=0)
    with client, pytest.raises(SandkastenConnectionError) as caught:
        client.list_sessions()
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["sandkasten.request_id"] == caught.value.request_id


def test_errors_name_the_request(daemon: FakeDaemon) -> None:
    client = SandboxClient(base_url=daemon.url, api_key=KEY, max_retries=0)
    with client, pytest.raises(SandkastenAPIError) as caught:
        client.get_session("00000000-000")
    asked = daemon.requests[-1]
    assert caught.value.request_id
    assert asked.path.endswith("00000000-000")
