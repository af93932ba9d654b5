"""Reading and splicing request bodies."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError, InvalidJson, InvalidRequest
from gateway.exchange import Dialect
from gateway.wire.body import read_json, read_long_json
from gateway.wire.rope import Rope
from gateway.wire.slices import finish
from gateway.wire.walk import MAX_DEPTH

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
READ = {"n", "best_of", "logprobs", "top_logprobs", "max_tokens", "max_completion_tokens", "max_output_tokens"}
"""What is held against bounds; other tests see to that."""
WRITTEN = {"model", "messages", "stream", "stream_options"}
"""What `bodies` writes itself: a key that comes twice is refused."""
names = st.text(max_size=10).filter(lambda name: name not in READ | WRITTEN)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """A request and one way of writing it: any order of keys, any spacing, any escaping."""
    entries = list(draw(st.dictionaries(names, values, max_size=5)).items())
    entries.append(("model", draw(st.text(max_size=12))))
    entries.append(("messages", [{"content": draw(st.sampled_from(['"model":"x"', '\\"model\\"', "model", "}{"]))}]))
    if draw(st.booleans()):
        entries.append(("stream", draw(st.booleans())))
    if draw(st.booleans()):
        options = st.none() | st.fixed_dictionaries({}, optional={"include_usage": st.booleans(), "x": st.integers()})
        entries.append(("stream_options", draw(options)))
    entries = draw(st.permutations(entries))
    space, ascii_only = draw(st.sampled_from(["", " ", "\n\t"])), draw(st.booleans())
    pairs = (
        f"{space}{json.dumps(key, ensure_ascii=ascii_only)}{space}:{space}{json.dumps(value, ensure_ascii=ascii_only)}"
        for key, value in entries
    )
    text = "{" + f"{space},".join(pairs) + space + "}" + space
    return dict(entries), text.encode(errors="surrogatepass")


def sound(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(bodies(), st.text(max_size=20), st.booleans())
def test_a_body_is_read_and_rewritten_as_json_would_be(
    made: tuple[dict[str, Any], bytes], to: str, usage: bool
) -> None:
    value, raw = made
    if not sound(raw) or not sound(to.encode(errors="surrogatepass")):
        return
    body = read_json(raw)
    assert (body.model, body.stream) == (value["model"], value.get("stream") is True)
    out = body.rewritten(json.dumps(to).encode(), add_usage=usage and body.stream)
    expected = {**value, "model": to}
    if usage and body.stream:
        expected["stream_options"] = {**(value.get("stream_options") or {}), "include_usage": True}
        asked = (value.get("stream_options") or {}).get("include_usage") is True
        assert body.usage_added is not asked
    assert isinstance(out, bytes)
    assert json.loads(out) == expected
    start, end = body.spans["model"]
    assert out[:start] == raw[:start] if not usage else True
    assert json.loads(raw[start:end]) == value["model"]


@given(bodies())
def test_without_a_change_the_very_bytes_go_on(made: tuple[dict[str, Any], bytes]) -> None:
    raw = made[1]
    if sound(raw):
        assert read_json(raw).rewritten(None, add_usage=False) is raw


@given(bodies())
def test_values_stand_where_a_walk_over_the_keys_finds_them(made: tuple[dict[str, Any], bytes]) -> None:
    """A space in front makes the walk necessary; a body without any is located by its lengths."""
    compact = json.dumps(made[0], separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
    for raw in (made[1], compact):
        if sound(raw):
            spans, walked = read_json(raw).spans, read_json(b" " + raw).spans
            assert spans is not None
            assert walked is not None
            assert spans == {key: (start - 1, end - 1) for key, (start, end) in walked.items()}
            assert {key: json.loads(raw[start:end]) for key, (start, end) in spans.items()} == made[0]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","x":1,"model":"a"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"model":"a","stream":true,"stream":false}',
        b'{"model":"a","pad":"' + b"x" * 50 + b'","model":"' + b"b" * 20 + b'"}',
        b'{"model":"aa","pad":",\\"model2\\":1","model":"aaaaaaaaaaaaaa"}',
    ],
)
def test_a_key_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        read_json(raw)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_has_a_bound(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"

    def nested(depth: int) -> bytes:
        return b'{"model":"m","x":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"

    assert read_json(nested(MAX_DEPTH)).model == "m"
    with pytest.raises(InvalidRequest, match="deeper"):
        read_json(nested(MAX_DEPTH + 1))
    with pytest.raises(GatewayError):
        read_json(b'{"model":"m","x":' + opening * 100_000)


def test_brackets_in_text_are_not_nesting() -> None:
    text = '[[[{{{"\\' * 50
    assert read_json(json.dumps({"model": "m", "messages": text}).encode()).model == "m"
    assert read_json(json.dumps({"model": "m", "x": [[]] * 500}).encode()).model == "m"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"model":}', b"nope", b'{"model":"a"} x', b'{"a":NaN,"model":"m"}', b"\xff"]
)
def test_what_is_not_json_is_told_so(raw: bytes) -> None:
    with pytest.raises(InvalidJson):
        read_json(raw)


@pytest.mark.parametrize(
    "raw",
    [b"[]", b"1", b'"x"', b"null", b"{}", b'{"x": 1}', b'{"model":1}', b'{"model": "\xed\xa0\x80"}', b'{"model":null}'],
)
def test_json_that_is_no_request_is_told_so(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_json(raw)


@pytest.mark.parametrize(("n", "choices"), [("2", 2), ("0", 1), ("-3", 1), ('"2"', 2), ("null", 1)])
def test_choices(n: str, choices: int) -> None:
    assert read_json(f'{{"model":"m","n":{n}}}'.encode()).choices == choices


PROMPTS = {
    '"a"': 1,
    '["a"]': 1,
    '["a","b"]': 2,
    r'[ "a,\"b\\" , "[\"," ]': 2,
    "[1,2,3]": 1,
    "[[1,2],[3],[ ]]": 3,
    "[]": 1,
    "null": 1,
    '{"a":[[1],[2]]}': 1,
    '"a","prompt_embeds":["x","y"]': 3,
    'null,"prompt_embeds":["x","y"]': 2,
    '"","prompt_embeds":"x"': 1,
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_of_a_completion_are_counted(prompt: str) -> None:
    raw = f'{{"model":"m","n":3,"best_of":4,"prompt":{prompt}}}'.encode()
    for body in (read_json(raw, Dialect.COMPLETIONS), finish(read_long_json(Rope((raw,)), Dialect.COMPLETIONS))):
        prompts = PROMPTS[prompt]
        assert (body.prompts, body.choices, body.generated) == (prompts, 3 * prompts, 4 * prompts)
    assert read_json(raw, Dialect.CHAT).choices == 3, "a chat has one prompt"
    assert read_json(raw, Dialect.MESSAGES).generated == 1, "and this dialect one answer"


@pytest.mark.parametrize("item", ['"x,\\\\"', '"[\\","', "[1,2,3]"])
def test_prompts_of_a_long_body_are_counted_wherever_it_is_cut(item: str) -> None:
    count = 40_000 // len(item)
    raw = f'{{"model":"m","prompt":[{", ".join([item] * count)}]}}'.encode()
    blocks = [raw[at : at + 4999] for at in range(0, len(raw), 4999)]
    assert finish(read_long_json(Rope(blocks), Dialect.COMPLETIONS)).prompts == count


@pytest.mark.parametrize(
    ("dialect", "most"),
    [
        (Dialect.CHAT, 2),
        (Dialect.COMPLETIONS, 3),
        (Dialect.RESPONSES, 4),
        (Dialect.MESSAGES, 3),
        (Dialect.PLAIN, None),
    ],
)
def test_what_bounds_an_answer_is_read_as_the_dialect_has_it(dialect: Dialect, most: int | None) -> None:
    raw = b'{"model":"m","max_completion_tokens":2,"max_tokens":3,"max_output_tokens":4}'
    assert read_json(raw, dialect).max_tokens == most


def test_continuous_usage_is_not_switched_on_by_our_asking() -> None:
    body = read_json(b'{"model":"m","stream":true,"stream_options":{"continuous_usage_stats":true}}')
    out = body.rewritten(None, add_usage=True)
    assert isinstance(out, bytes)
    assert json.loads(out)["stream_options"] == {"include_usage": True}


def test_nonsense_in_stream_options_is_left_to_the_engine() -> None:
    raw = b'{"model":"m","stream":true,"stream_options":"yes"}'
    body = read_json(raw)
    assert body.rewritten(None, add_usage=True) == raw
    assert not body.usage_added
