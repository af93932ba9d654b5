"""A request as engines read it: rewritten as little as its version asks for, and forgotten once it is answered."""

import json

from gateway.wire.body import read_json
from gateway.wire.rope import Rope
from tests.control.tables import models
from tests.proxy.front import Opened
from tests.proxy.routed import routed_to
from tests.proxy.test_finding import routed

CHAT = "/v1/chat/completions"


def test_it_is_written_for_its_backend() -> None:
    request, backend = routed_to(CHAT)
    message = request.message
    message.fields, message.body = b"x-mine: 1\r\n", b"{}"
    head, rest = message.written_for(backend)
    assert rest is None
    assert head.startswith(b"POST %b/v1/chat/completions HTTP/1.1\r\n" % backend.base_path)
    assert head.endswith(b"\r\nx-mine: 1\r\nx-request-id: r1\r\ncontent-length: 2\r\n\r\n{}")


def test_a_long_body_follows_its_head() -> None:
    request, backend = routed_to(CHAT)
    request.message.body = Rope((b"a", b"b"))
    head, rest = request.message.written_for(backend)
    assert rest is request.message.body
    assert head.endswith(b"content-length: 2\r\n\r\n")


def test_the_model_in_its_body_is_the_one_that_engines_serve() -> None:
    request, _ = routed_to(CHAT, stream=True)
    message = request.message
    message.write(read_json(b'{"model":"alias","stream":true,"messages":[]}'), request.version)
    assert isinstance(message.body, bytes)
    assert json.loads(message.body)["model"] == request.version.served_model


def test_the_counts_of_a_stream_are_asked_for_and_taken_out_where_the_client_did_not_ask(opened: Opened) -> None:
    request = routed(opened(models("http://127.0.0.1:8001")))
    request.message.write(read_json(b'{"model":"m","stream":true,"messages":[]}'), request.version)
    assert isinstance(request.message.body, bytes)
    assert json.loads(request.message.body)["stream_options"] == {"include_usage": True}
    assert request.message.strip_usage
    asked = read_json(b'{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}')
    request.message.write(asked, request.version)
    assert not request.message.strip_usage


def test_an_engine_that_schedules_by_priority_is_told_the_classs_own() -> None:
    request, backend = routed_to(CHAT)
    request.version.by_priority = True
    request.message.write(read_json(b'{"model":"m","messages":[]}'), request.version)
    assert isinstance(request.message.urgent_body, bytes)
    assert json.loads(request.message.urgent_body)["priority"] == request.spec.service_class.priority
    head, _ = request.message.written_for(backend)
    assert b"priority" not in head, "this one does not"


def test_once_it_is_answered_what_another_attempt_would_need_is_let_go_of() -> None:
    request, _ = routed_to(CHAT)
    message = request.message
    message.write(read_json(b'{"model":"alias","messages":[]}'), request.version)
    message.forget()
    assert (message.body, message.fields, message.given, message.urgent_body) == (b"", b"", None, None)
