"""Requests that nobody should send: valid ones with something odd in any place, seeded."""

import json
from random import Random
from typing import Any

from gateway.wire.endpoints import FORWARDED, LOCAL
from tests.wire.forms import FILE, MODEL, form

_STRANGE_TEXT = [
    "",
    " ",
    "m",
    "m\x00",
    "é\ud800",
    "\u2028",
    "9" * 5000,
    "-1",
    "nan",
    "inf",
    "1e999",
    "0x10",
    "²",
    "true",
    "null",
    "%s%n",
    "../m",
    "x" * 3000,
]
_STRANGE: list[Any] = [
    *_STRANGE_TEXT,
    None,
    True,
    False,
    0,
    -1,
    9.0,
    1e4,
    2**63,
    -(2**70),
    10**400,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [None],
    {"": {}},
    [{"type": 5}],
    [{"type": "function", "function": None}],
    {"include_usage": "maybe", "continuous_usage_stats": []},
    {"include_usage": 1.0},
    {"include_usage": True, "include_usage\u0000": 1},
    [[[[[[1]]]]]] * 50,
]
_KEYS = [
    *("model", "stream", "stream_options", "n", "best_of", "logprobs", "top_logprobs", "max_tokens"),
    *("max_completion_tokens", "max_output_tokens", "messages", "input", "prompt", "tools", "user", "priority"),
    *("background", "conversation", "previous_response_id", "request_id", "system", "", "\ud800", "Model"),
]
_HEADERS = [
    *(b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade", b"content-type"),
    *(b"content-encoding", b"authorization", b"x-api-key", b"api-key", b"cookie", b"x-request-id", b"traceparent"),
    *(b"tracestate", b"x-request-timeout", b"x-session-id", b"x-gateway-class", b"x-gateway-model-version"),
    *(
        b"x-gateway-hops",
        b"x-forwarded-for",
        b"origin",
        b"te",
        b"trailer",
        b"keep-alive",
        b"accept",
        b"",
        b"x y",
        b"\xff",
    ),
]
_VALUES = [
    *(b"", b" ", b"\xff\xfe", b"close", b"keep-alive, upgrade", b"h2c", b"chunked", b"gzip, chunked", b"identity"),
    *(b"100-continue", b"nan", b"inf", b"-1", b"1e999", b"\xb2", b"9" * 30, b"9" * 5000, b"+5", b"0x5", b"5, 5", b"0"),
    *(b"Bearer", b"Bearer \xff", b"Bearer " + b"k" * 3000, b"Basic Og==", b"a" * 200, b"batch", b"default", b'=;,"'),
    *(b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary="b', b"text/plain"),
    *(b"multipart/form-data; boundary=b0; charset*=x''%ff", b"application/json; charset=\xff", b"a:b;c=1,d;e=2"),
    *(b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01", b"00-" + b"f" * 31 + b"-zz-01", b"cc-%b-" % (b"a" * 40)),
]
_TARGETS = [
    *(b"*", b"/", b"//", b"/v1/models/", b"/v1/models/%ff%00", b"/v1/models/\xff", b"/v1/models/" + b"a" * 5000),
    *(b"http://a/v1/models", b"/v1/models?x=\xff", b"/v1/../metrics", b"/v1/chat/completions/", b"/v1/responses/x"),
    *(b"/v1/responses/x/cancel", b"/v1/responses/x?stream=1&starting_after=\xff", b"/v1/responses/x?stream=true&a=%00"),
]
_TOKENS = [
    b"\r\n",
    b"\0",
    b"\xff",
    b'"',
    b"{",
    b"[",
    b"\\",
    b"\\u",
    b"\\ud800",
    b":",
    b",",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"-" * 9,
]
_DISPOSITIONS = [
    *(
        'name="model"',
        'name="stream"',
        'name="model"; filename="x"',
        "name=model",
        'name="mo\\"del"',
        "name*=UTF-8''%ff",
    ),
    *('name="model"; name="x"', "", 'name="' + "x" * 3000 + '"', "filename*=x", 'name="\x7f"', 'name="model"\r\nx: y'),
]


def request(rng: Random) -> bytes:
    """Return the bytes of one to three requests."""
    return b"".join(_one(rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def _one(rng: Random) -> bytes:
    targets = [*list(FORWARDED) * 6, *list(LOCAL) * 3, *_TARGETS]
    target = rng.choice(targets)
    endpoint = FORWARDED.get(target)
    is_form = endpoint is not None and "audio" in endpoint.path
    body = _form(rng) if is_form else _document(rng)
    method = b"POST" if endpoint is not None else b"GET"
    if rng.random() < 0.03:
        method = rng.choice((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"TRACE", b"CONNECT", b"P\xff", b""))
    kind = b"multipart/form-data; boundary=b0" if is_form else b"application/json"
    fields = [(b"host", b"a"), (b"content-type", kind), (b"authorization", b"Bearer sk-fuzz")]
    if rng.random() < 0.3:
        size = rng.choice((1, 7, 1000, len(body) or 1))
        chunks = [body[at : at + size] for at in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        fields.append((b"transfer-encoding", b"chunked"))
    else:
        fields.append((b"content-length", b"%d" % len(body)))
    for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2))):
        field = (rng.choice(_HEADERS), rng.choice(_VALUES))
        if rng.random() < 0.5:
            fields = [each for each in fields if each[0] != field[0]]
        fields.insert(rng.randint(0, len(fields)), field)
    head = b"%b %b HTTP/%b\r\n" % (method, target, rng.choice((b"1.1",) * 60 + (b"1.0", b"2.0", b"9.9")))
    data = head + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n" + body
    return _mutated(rng, data) if rng.random() < 0.15 else data


def _document(rng: Random) -> bytes:
    value: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": rng.random() < 0.5,
    }
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        value[rng.choice(_KEYS)] = rng.choice(_STRANGE)
    if rng.random() < 0.15:
        value["padding"] = rng.choice(["x" * 70_000, [[]] * 30_000, ['\\"'] * 20_000, {str(i): 1 for i in range(9000)}])
    ascii_only, indent = rng.random() < 0.5, rng.choice((None, None, 1))
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")
    if rng.random() < 0.1:
        data = rng.choice(
            (b"", b"[]", b"null", b"\xef\xbb\xbf" + data, data.decode(errors="replace").encode("utf-16"), data * 2)
        )
    return _mutated(rng, data) if rng.random() < 0.2 else data


def _form(rng: Random) -> bytes:
    parts = [MODEL, FILE] if rng.random() < 0.8 else []
    for _ in range(rng.choice((0, 1, 3))):
        value = rng.choice(_STRANGE_TEXT).encode(errors="surrogatepass") * rng.choice((1, 1, 30))
        parts.append((rng.choice(_DISPOSITIONS), value))
    rng.shuffle(parts)
    data = form(*parts, end=rng.random() < 0.9)
    return _mutated(rng, data) if rng.random() < 0.3 else data


def _mutated(rng: Random, data: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randint(0, len(data))
        match rng.randint(0, 3):
            case 0:
                data = data[:at] + rng.choice(_TOKENS) + data[at:]
            case 1:
                data = data[:at] + rng.randbytes(1) + data[at + 1 :]
            case 2:
                data = data[:at] + data[at + rng.randint(1, 30) :]
            case _:
                data = data[:at] + data[max(0, at - 50) : at] + data[at:]
    return data
