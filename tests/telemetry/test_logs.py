"""The access log and the process's own log."""

import io
import json
import logging
import logging.handlers
import os
import sys
import threading
from pathlib import Path
from select import PIPE_BUF
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.table import BackendSpec
from gateway.exchange import AttemptEnd, Exchange, Outcome
from gateway.telemetry import access_log
from gateway.telemetry.access_line import AccessLines
from gateway.telemetry.access_log import MANY_LINES, AccessLog
from gateway.telemetry.alarms import UnauthorizedAlarm
from gateway.telemetry.logs import JsonFormatter, configure
from tests.attempts import attempted
from tests.backends.made import live_backend

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def exchange(request_id: str = "r-1") -> Exchange:
    made = Exchange(request_id, "/v1/chat/completions", 10.0)
    made.model, made.version, made.pool, made.backend = "m", "v1", "gpu", "gpu/e:1"
    made.outcome, made.stream, made.client_status = Outcome.TRUNCATED, True, 200
    made.attempts = [attempted(), attempted()]
    made.first_content, made.last_content, made.ended, made.backend_seconds = 10.25, 11.25, 11.5, 1.4
    made.prompt_tokens, made.output_tokens = 7, 11
    made.queued, made.reason = 0.05, "the stream\nwas \x1b[31mcut"
    return made


def test_a_request_is_one_line_with_the_documented_fields() -> None:
    sink = io.BytesIO()
    log = AccessLog(sink, lambda: 11.5, lambda: 1_790_000_000.25)
    log.on_settled(exchange())
    log.close()
    raw = sink.getvalue()
    assert raw.count(b"\n") == 1
    assert b"\x1b" not in raw
    line = json.loads(raw)
    assert line["time"] == "2026-09-21T14:13:20.250Z"
    assert (line["ttft"], line["tpot"], line["e2e"], line["queue"], line["overhead"]) == (0.25, 0.1, 1.5, 0.05, 0.05)
    documented = DOCS.read_text().split("## Access log")[1]
    assert {name for name in line if f"`{name}`" not in documented} == set()
    assert (line["class"], line["outcome"], line["tokens_in"]) == ("standard", "truncated", 7)


@pytest.mark.parametrize(
    ("endpoint", "asked", "model", "written"),
    [
        ("/v1/completions", "nope", "nope", "/v1/completions"),
        (
            "/v1/completions",
            "\x1b[31m\ud800\u2028" + "n" * 100,
            "\\x1b[31m\\xd800\\x2028" + "n" * 57,
            "/v1/completions",
        ),
        ("/v1/completions", "", "other", "/v1/completions"),
        ("other", "/v1/nope", "other", "/v1/nope"),
        ("other", "", "other", "other"),
    ],
)
def test_what_is_not_served_is_written_as_it_was_asked_for(endpoint: str, asked: str, model: str, written: str) -> None:
    sink = io.BytesIO()
    log = AccessLog(sink)
    refused = Exchange("r", endpoint, 1.0)
    refused.asked = asked
    log.on_settled(refused)
    log.close()
    line = json.loads(sink.getvalue())
    assert (line["model"], line["endpoint"]) == (model, written)


def test_lines_of_many_kinds_say_each_what_is_its_own() -> None:
    sink = io.BytesIO()
    log = AccessLog(sink)
    made = []
    for number in range(2200):  # half of them a second time, when others have been written since
        each = exchange(f"r-{number}")
        each.backend, each.tenant = f'gpu/"{number % 1100}"', "acme" if number % 2 else ""
        each.stream, each.ended = number % 3 == 0, each.received + number / 1000
        each.client_status, each.prompt_tokens = 200 + number % 5, None if number % 7 == 0 else number
        made.append(each)
        log.on_settled(each)
    log.close()
    for each, raw in zip(made, sink.getvalue().splitlines(), strict=True):
        line = json.loads(raw)
        assert (line["request_id"], line["backend"], line["status"]) == (
            each.request_id,
            each.backend,
            each.client_status,
        )
        assert (line.get("tenant", ""), line.get("stream", False)) == (each.tenant, each.stream)
        assert line["e2e"] == pytest.approx(each.e2e, abs=0.00006)
        assert line.get("tokens_in") == each.prompt_tokens
        assert ("ttft" in line) == each.stream
        assert list(line)[:8] == list(DOCUMENTED_FIRST)


WORDS = st.sampled_from(["", "m", "other", 'a"b', "a\\b", "\x00\n\x1b[31m", "\x7f", "é\u2028😀", "x" * 300])
SECONDS = st.sampled_from([0.0, 4.9e-5, 5e-5, 0.0999, 0.09995, 0.1, 1.23456, 99_999.99995]) | st.floats(0.0, 1000.0)
COUNTS = st.sampled_from([None, 0, 1, 2, 10**12 - 1])
REQUESTS = st.tuples(
    st.tuples(*[WORDS] * 6), st.tuples(*[SECONDS] * 4), COUNTS, COUNTS, st.booleans(), st.integers(0, 3)
)


@given(st.lists(REQUESTS, min_size=1, max_size=5))
def test_a_line_says_what_the_record_says(requests: list[tuple[Any, ...]]) -> None:
    lines = AccessLines()
    for (model, tenant, backend, reason, routing, asked), seconds, tokens_in, tokens_out, stream, attempts in requests:
        made = exchange()
        made.model, made.tenant, made.backend, made.reason, made.routing = model, tenant, backend, reason, routing
        made.asked, made.stream, made.attempts = asked, stream, [attempted()] * attempts
        made.queued, made.backend_seconds, to_first, to_last = seconds
        made.first_content, made.last_content = made.received + to_first, made.received + to_first + to_last
        made.ended, made.prompt_tokens, made.output_tokens = made.last_content, tokens_in, tokens_out
        raw = lines.line(made, 0.0)
        assert not [byte for byte in raw if byte < 0x20]
        line = json.loads(raw)
        assert model == "other" or line["model"] == model
        said = {"tenant": tenant, "backend": backend, "reason": reason, "routing": routing, "attempts": attempts}
        assert {name: line.get(name, type(value)()) for name, value in said.items()} == said
        assert (line.get("tokens_in"), line.get("tokens_out"), line.get("stream", False)) == (
            tokens_in,
            tokens_out,
            stream,
        )
        for name in ("e2e", "overhead", "ttft", "tpot", "queue"):
            value = made.queued or None if name == "queue" else getattr(made, name)
            assert line.get(name) == (None if value is None else pytest.approx(value, rel=1e-9, abs=0.000051))


def test_the_cost_of_a_request_is_that_of_all_its_attempts() -> None:
    made = exchange()
    made.attempts = [attempted(), attempted()]
    assert "cost" not in json.loads(AccessLines().line(made, 0.0))
    made.attempts[0].cost, made.attempts[1].cost = 0.25, 1e-9
    assert json.loads(AccessLines().line(made, 0.0))["cost"] == 0.250000001


DOCUMENTED_FIRST = ("time", "request_id", "model", "endpoint", "outcome", "status", "e2e", "overhead")


def test_what_did_not_happen_is_absent() -> None:
    sink = io.BytesIO()
    log = AccessLog(sink)
    log.on_settled(Exchange("r", "other", 1.0))
    log.close()
    assert {"ttft", "tpot", "queue", "tokens_in", "backend", "reason"}.isdisjoint(json.loads(sink.getvalue()))


class Noticed(io.BytesIO):
    """A sink that tells when it was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = threading.Event()

    def flush(self) -> None:
        self.flushed.set()


def test_many_lines_are_written_at_once() -> None:
    sink = Noticed()
    log = AccessLog(sink, interval=3600.0)
    for number in range(MANY_LINES):
        log.on_settled(exchange(f"r-{number}"))
    assert sink.flushed.wait(10.0)
    log.close()
    assert sink.getvalue().count(b"\n") == MANY_LINES


def test_a_full_disk_costs_lines_and_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb", buffering=0) as sink:
        log = AccessLog(sink)
        for _ in range(3):
            log.on_settled(exchange())
        log.close()
        assert log.dropped == 3
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_a_sink_that_nobody_reads_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MAX_LINES", 50)
    monkeypatch.setattr(access_log, "_CLOSE_SECONDS", 0.1)
    reader, writer = os.pipe()
    os.set_blocking(writer, True)
    with open(writer, "wb", buffering=0) as sink:
        log = AccessLog(sink)
        for number in range(20_000):
            log.on_settled(exchange(f"r-{number}"))
        assert log.dropped > 0
        log.close()
        os.close(reader)


class Pieces(io.BytesIO):
    """Keeps what each write would hand to the system."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[bytes] = []

    def flush(self) -> None:
        if self.getvalue():
            self.flushed.append(self.getvalue())
            self.seek(0)
            self.truncate()


def test_lines_of_processes_that_share_a_pipe_are_never_mixed() -> None:
    pieces, whole = Pieces(), Pieces()
    logs = AccessLog(pieces, at_once=PIPE_BUF), AccessLog(whole)
    for log in logs:
        for _ in range(50):
            log.on_settled(exchange())
        log.close()
    assert b"".join(pieces.flushed) == b"".join(whole.flushed)
    assert all(len(each) <= PIPE_BUF and each.endswith(b"\n") for each in pieces.flushed)
    assert len(pieces.flushed) > 1


def test_the_process_log_is_json_with_extra_fields_and_exceptions() -> None:
    formatter = JsonFormatter()
    try:
        raise ValueError("boom\n")
    except ValueError:
        record = logging.LogRecord("gateway.x", logging.ERROR, "f", 1, "it %s\x00", ("broke",), sys.exc_info())
    record.backend = "gpu/e:1"
    text = formatter.format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["message"], line["backend"]) == ("error", "it broke\x00", "gpu/e:1")
    assert "ValueError: boom" in line["exception"]
    assert "worker" not in line
    assert json.loads(JsonFormatter(7).format(record))["worker"] == 7


def test_a_rejected_key_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    alarm = UnauthorizedAlarm(lambda: now[0])
    backend = live_backend(BackendSpec("gpu", "http://e:1", "e", 1, api_key="sk-secret"))
    alarm.on_attempt_ended(exchange(), backend, AttemptEnd.OK)
    assert not caplog.records
    for now[0] in (0.0, 30.0, 59.0, 61.0):
        alarm.on_attempt_ended(exchange(), backend, AttemptEnd.UNAUTHORIZED)
    assert len(caplog.records) == 2
    assert "sk-secret" not in caplog.text + repr(backend) + repr(backend.spec)


def test_the_level_says_what_is_written_and_the_dashboard_learns_of_the_rest() -> None:
    gateway, root = logging.getLogger("gateway"), logging.getLogger()
    before, handlers = (gateway.level, root.level), root.handlers[:]
    written, seen = io.StringIO(), logging.handlers.BufferingHandler(9)
    try:
        configure("warning", written)
        gateway.addHandler(seen)
        for name, level in (("gateway.x", logging.INFO), ("gateway.x", logging.WARNING), ("other", logging.WARNING)):
            logging.getLogger(name).log(level, "%s %s", name, level)
    finally:
        gateway.removeHandler(seen)
        root.handlers[:] = handlers
        gateway.setLevel(before[0])
        root.setLevel(before[1])
    assert [json.loads(line)["message"] for line in written.getvalue().splitlines()] == ["gateway.x 30", "other 30"]
    assert [record.levelno for record in seen.buffer] == [logging.INFO, logging.WARNING]
    with pytest.raises(ValueError, match="not `loud`"):
        configure("loud", written)
