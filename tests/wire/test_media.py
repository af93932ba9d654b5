"""What of a body is base64, which is no text, however it is written and cut."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.body import read_json, read_long_json
from gateway.wire.media import SMALL, images_in, media_in, media_size
from gateway.wire.rope import Rope
from gateway.wire.scan import WINDOW, top_level
from gateway.wire.slices import finish
from gateway.wire.walk import Walk
from tests.wire.ropes import rope

BASE64 = b64encode(bytes(range(256)) * 200)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,%s"}},
        {"type": "input_image", "image_url": "data:image/png;base64,%s"},
        {"type": "input_audio", "input_audio": {"data": "%s", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,%s"}},
        {"type": "file", "file": {"file_data": "%s"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%s"}},
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_images_audio_and_files_are_not_text(part: Any, separators: tuple[str, str]) -> None:
    text = json.dumps({"model": "m", "messages": [{"content": [part, part, {"text": "hi"}]}]}, separators=separators)
    raw = text.replace("%s", BASE64.decode()).encode()
    assert media_size(raw) == read_json(raw).media == 2 * len(BASE64)


@given(st.text(alphabet='data";base64, :\\{}x', max_size=200))
def test_text_that_speaks_of_data_is_text(text: str) -> None:
    raw = json.dumps({"model": "m", "messages": [{"content": text + " word" * SMALL}]}).encode()
    assert media_size(raw) == 0


def test_base64_is_measured_across_windows() -> None:
    image = "A" * (3 * WINDOW + 17)
    parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image[:size]}"}} for size in (70, -1)]
    for space in range(0, 600, 37):
        content = [{"text": "x" * (WINDOW - space)}, *parts, {"data": image}]
        raw = json.dumps({"model": "m", "messages": [{"content": content}]}).encode()
        expected = 70 + 2 * len(image) - 1
        assert finish(media_in(rope(raw, *range(0, len(raw), 1000)))) == media_size(raw) == expected
        for by_bytes in (False, True):
            body = finish(read_long_json(rope(raw, *range(0, len(raw), 1000)), by_bytes=by_bytes))
            assert (body.has_images, body.media) == (True, expected)


@pytest.mark.parametrize("kind", ["image", "image_url", "text"])
def test_keys_and_types_are_seen_across_windows(kind: str) -> None:
    for space in range(190, 260):
        part = {"type": kind, "a_key_that_is_rather_long_and_ends_in_data": "A" * 70}
        raw = json.dumps({"model": "m", "messages": [{"content": ["x" * space, part]}]}).encode()
        body = finish(read_long_json(Rope((raw,)), by_bytes=True))
        assert (body.media, body.has_images) == (70, kind != "text")


def test_a_short_body_is_all_text() -> None:
    short = b'{"model":"m","messages":[{"content":[{"image_url":{"url":"data:image/png;base64,%b"}}]}]}' % (b"A" * 1000)
    assert media_size(short) == 0


@pytest.mark.parametrize(
    ("kind", "found"), [("image", True), ("image_url", True), ("input_image", True), ("text", False), ("file", False)]
)
@pytest.mark.parametrize("key", ["messages", "input"])
@pytest.mark.parametrize("before", [0, WINDOW - 3])
def test_images_are_parts_of_messages_whose_type_says_so(kind: str, found: bool, key: str, before: int) -> None:
    body = Rope((json.dumps({"model": "m", key: [{"content": ["x" * before, {"type": kind}]}]}).encode(),))
    assert finish(images_in(body, finish(top_level(body, Walk())))) is found


def test_what_is_no_message_holds_no_images() -> None:
    body = Rope((b'{"model":"m","tools":[{"type":"image"}]}',))
    assert not finish(images_in(body, finish(top_level(body, Walk()))))
