"""One pass over a JSON request body: what routing must know, and where it stands, so that rewriting splices.

The prompt is never decoded: top-level values stay raw slices. A rewrite replaces the few bytes that differ and copies
the rest as it came.
"""

import re
from dataclasses import dataclass

import msgspec

from gateway.errors import ClientError, InvalidJson, InvalidRequest

MAX_DEPTH = 64

_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_KEY = re.compile(rb'[ \t\r\n]*+[,{][ \t\r\n]*+"((?:[^"\\]|\\.)*+)"[ \t\r\n]*+:[ \t\r\n]*+')
_STRING = re.compile(rb'"[^"]*+"')
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_PROMPT_KEYS = ("messages", "prompt", "input", "query", "documents", "text")
_OUTPUT_LIMIT_KEYS = ("max_completion_tokens", "max_tokens", "max_output_tokens")

Edit = tuple[int, int, bytes]
"""Replace body[start:end] by these bytes."""


@dataclass(slots=True)
class Body:
    """What a request says about itself. Sizes in bytes, limits in tokens, `spans` of top-level values in the bytes."""

    raw: bytes
    model: str
    model_span: tuple[int, int]
    stream: bool = False
    prompt_bytes: int = 0
    max_tokens: int | None = None
    choices: int = 1
    spans: dict[str, tuple[int, int]] | None = None
    usage_added: bool = False

    def rewritten(self, served_model: bytes | None, add_usage: bool) -> bytes:
        """Return the body as the engine shall see it.

        `served_model` is the engine's name for the model as it stands in this kind of body (quoted for JSON), None to
        keep the client's. `add_usage` asks for the usage chunk of a stream unless the client did; `usage_added` then
        says whether that chunk has to be taken out again.
        """
        edits: list[Edit] = []
        if served_model is not None:
            edits.append((*self.model_span, served_model))
        if add_usage and self.spans is not None:
            edit = _usage_edit(self.raw, self.spans)
            self.usage_added = edit is not None
            if edit is not None:
                edits.append(edit)
        return splice(self.raw, edits) if edits else self.raw


def splice(raw: bytes, edits: list[Edit]) -> bytes:
    """Return `raw` with non-overlapping edits applied, in whatever order they are given."""
    parts: list[bytes | memoryview] = []
    view = memoryview(raw)
    at = 0
    for start, end, replacement in sorted(edits):
        parts += (view[at:start], replacement)
        at = end
    parts.append(view[at:])
    return b"".join(parts)


def read_json(raw: bytes) -> Body:
    """Find what routing needs in a JSON body.

    Raises InvalidJson for anything that is not JSON and InvalidRequest for JSON that cannot be a request: not an
    object, nested deeper than 64 levels, a key twice, `model` missing or not a string.
    """
    check_depth(raw)
    try:
        values = _top_level(raw)
    except msgspec.ValidationError:
        raise InvalidRequest("the body must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    spans = _spans(raw, values)
    model = _model(values)
    stream = values.get("stream")
    body = Body(raw, model, spans["model"], stream is not None and bytes(stream) == b"true", spans=spans)
    for key in _PROMPT_KEYS:
        if key in spans:
            start, end = spans[key]
            body.prompt_bytes += end - start
    for key in _OUTPUT_LIMIT_KEYS:
        if key in values:
            body.max_tokens = _integer(values[key])
            break
    if "n" in values:
        body.choices = max(1, _integer(values["n"]) or 1)
    return body


def _model(values: dict[str, msgspec.Raw]) -> str:
    if "model" not in values:
        raise InvalidRequest("`model` is missing: name one of the models that GET /v1/models lists", param="model")
    try:
        return msgspec.json.decode(values["model"], type=str)
    except msgspec.DecodeError:
        raise InvalidRequest("`model` must be a string", param="model") from None


def _integer(value: msgspec.Raw) -> int | None:
    """Return a whole number, or None for anything else: the engine words its own complaint better than we could."""
    try:
        return msgspec.json.decode(value, type=int)
    except msgspec.DecodeError:
        return None


def _spans(raw: bytes, values: dict[str, msgspec.Raw]) -> dict[str, tuple[int, int]]:
    """Locate every top-level value by walking the keys; values are skipped by the length the decoder found."""
    spans: dict[str, tuple[int, int]] = {}
    at = 0
    for _ in values:
        match = _KEY.match(raw, at)
        key = match[1].decode() if match else ""
        if "\\" in key:
            key = msgspec.json.decode(b'"%b"' % key.encode(), type=str)
        if match is None or key in spans or key not in values:
            raise _repeated_key()
        start = match.end()
        at = start + len(memoryview(values[key]))
        spans[key] = (start, at)
    if raw[at:].strip(b" \t\r\n") != b"}" and values:
        raise _repeated_key()
    return spans


def _repeated_key() -> ClientError:
    return InvalidRequest(
        "a key appears twice at the top of the body: which one holds is anybody's guess, so none does"
    )


def check_depth(raw: bytes) -> None:
    """Raise InvalidRequest where brackets nest deeper than 64: engines parse recursively.

    Counting opening brackets clears nearly every body at the speed of memchr; only a body with more of them than may
    be nested is looked at closely: escapes and strings go, then the innermost pairs go, 64 times.
    """
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    structure = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
    structure = _STRING.sub(b"", structure).replace(b"{", b"[").replace(b"}", b"]")
    for _ in range(MAX_DEPTH):
        structure = structure.replace(b"[]", b"")
    if b"[]" in structure:
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels")


def _usage_edit(raw: bytes, spans: dict[str, tuple[int, int]]) -> Edit | None:
    """Return the edit that adds `include_usage`, or None when the client asks for it, or for nonsense, by itself."""
    if "stream_options" not in spans:
        end = spans["stream"][1]
        return (end, end, b',"stream_options":{"include_usage":true}')
    start, end = spans["stream_options"]
    try:
        options = msgspec.json.decode(raw[start:end], type=dict[str, object] | None) or {}
    except msgspec.DecodeError:
        return None
    if options.get("include_usage") is True:
        return None
    # Usage in every chunk hangs on include_usage: a client that gets none today must get none tomorrow.
    options.pop("continuous_usage_stats", None)
    return (start, end, msgspec.json.encode({**options, "include_usage": True}))
