"""One pass over a JSON request body: what routing must know, and where it stands, so that rewriting splices.

The prompt is never decoded: top-level values stay raw slices. A rewrite replaces the few bytes that differ and copies
the rest as it came. A body of up to 64 KiB is read in one go, a longer one in slices, and never joined.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from gateway.errors import InvalidJson, InvalidRequest
from gateway.exchange import Dialect
from gateway.wire.media import images_in, media_in, media_size
from gateway.wire.numbers import flag, whole_number
from gateway.wire.rope import Edit, Rope, Span
from gateway.wire.scan import MAX_KEYS, check_depth, items_in, repeated_key, too_many_keys, top_level
from gateway.wire.slices import Work, finish
from gateway.wire.walk import COMPILED, Walk

MAX_CHOICES: Final = 8
MAX_LOGPROBS: Final = 20

_top_level: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_CLIENT_TOOLS: Final = frozenset(("function", "custom"))
"""Tools that the client runs; all others run on the server."""
_KEY: Final = re.compile(rb'[ \t\r\n]*+[,{][ \t\r\n]*+"((?:[^"\\]|\\.)*+)"[ \t\r\n]*+:[ \t\r\n]*+')
_END: Final = re.compile(rb"[ \t\r\n]*+\}[ \t\r\n]*+")
_IMAGE: Final = re.compile(rb'"type"\s*:\s*"(?:image|image_url|input_image)"')

_BOUNDS: Final = MappingProxyType(
    {"n": MAX_CHOICES, "best_of": MAX_CHOICES, "logprobs": MAX_LOGPROBS, "top_logprobs": MAX_LOGPROBS}
)
_MAX_TOKENS: Final[Mapping[Dialect, tuple[str, ...]]] = MappingProxyType(
    {
        Dialect.CHAT: ("max_completion_tokens", "max_tokens"),
        Dialect.COMPLETIONS: ("max_tokens",),
        Dialect.RESPONSES: ("max_output_tokens",),
        Dialect.MESSAGES: ("max_tokens",),
        Dialect.PLAIN: (),
    }
)
"""What bounds an answer, as vLLM reads it: the first that is given holds, and others mean nothing there."""
_HAVE_CHOICES: Final = frozenset((Dialect.CHAT, Dialect.COMPLETIONS))
_PROMPTS: Final[tuple[str, ...]] = ("prompt", "prompt_embeds")
_FLAG: Final = re.compile(rb'(?i:"?(?:true|false|yes|no|on|off|[tfyn])"?)')
_NULL: Final = msgspec.Raw(b"null")
_MAX_VALUE: Final = 1024
"""Bytes of a value that says something about the request; a name or a number is shorter."""
_MAX_OPTIONS: Final = 64 * 1024
_MAX_TOOLS: Final = 256 * 1024
_ASKS_FOR_USAGE: Final = b'"stream_options":{"include_usage":true}'
_FIRST_OPTION: Final[Edit | None] = (1, 1, _ASKS_FOR_USAGE + b",")
"""How to ask in a body without spaces, which begins with its first key: its values need not be located."""
_TOLD: Final = frozenset((*_BOUNDS, *(name for names in _MAX_TOKENS.values() for name in names), "model", "stream"))


class _Tool(msgspec.Struct):
    type: str = "function"


_decode_tools: Final = msgspec.json.Decoder(list[_Tool]).decode


class Body:
    """What a request says about itself.

    `choices` is how many answers come of its `prompts`, `generated` how many the engine makes to choose them from.
    `max_tokens` bounds the output of each; None leaves it to the engine. `media` is how many bytes of it are images,
    audio or files, and no text. `values` are the top-level values of a body in JSON (of a long one
    only those that say something about it), none in other bodies; `spans` are where they all stand, as far as that is
    known yet. `images` tells whether messages hold some, None where that was not looked for.
    """

    __slots__ = (
        "_images",
        "_spans",
        "choices",
        "generated",
        "max_tokens",
        "media",
        "model",
        "prompts",
        "raw",
        "stream",
        "usage_added",
        "values",
    )

    def __init__(
        self,
        raw: bytes | Rope,
        model: str,
        *,
        stream: bool,
        prompts: int = 1,
        choices: int = 1,
        generated: int = 1,
        max_tokens: int | None = None,
        media: int = 0,
        values: Mapping[str, msgspec.Raw] = MappingProxyType({}),
        spans: Mapping[str, Span] | None = None,
        images: bool | None = None,
    ) -> None:
        self.raw = raw
        self.model = model
        self.stream = stream
        self.prompts = prompts
        self.choices = choices
        self.generated = generated
        self.max_tokens = max_tokens
        self.media = media
        self.values = values
        self._spans = spans
        self._images = images
        self.usage_added = False

    @property
    def spans(self) -> Mapping[str, Span]:
        """Where the values stand in the bytes; only a rewrite wants to know."""
        if self._spans is None:
            self._spans = _placed(self.values)
        return self._spans

    def value(self, key: str, most: int = _MAX_OPTIONS) -> bytes | None:
        """Return a top-level value as it stands in the body, `most` bytes of it; None where there is none, or null."""
        if isinstance(self.raw, Rope):
            start, end = self.spans.get(key, (0, 0)) if self.values else (0, 0)
            value = self.raw.read(start, min(end, start + most))
        else:
            given = self.values.get(key)
            if given is None:
                return None
            value = bytes(given)
            if len(value) > most:
                value = value[:most]
        return None if value == b"" or value == b"null" else value  # noqa: PLR1714 - a set would be asked by hash

    @property
    def has_tools(self) -> bool:
        """Whether the model is offered tools."""
        tools = self.value("tools")
        return tools is not None and b"{" in tools

    @property
    def has_images(self) -> bool:
        """Whether messages hold images: parts whose type says so, in any of the dialects."""
        if self._images is None:
            values = (self.value(key) for key in ("messages", "input"))
            self._images = any(value is not None and _IMAGE.search(value) is not None for value in values)
        return self._images

    @property
    def keeps_state(self) -> bool:
        """Whether the engine does more than answer: it goes on in the background, keeps a conversation, runs tools."""
        if self.value("conversation") is not None or self.value("background") not in {None, b"false"}:
            return True
        tools = self.value("tools", _MAX_TOOLS + 1) or b"[]"
        if len(tools) > _MAX_TOOLS:
            return True  # too many to look through; what may have an effect is sent once
        try:
            return any(tool.type not in _CLIENT_TOOLS for tool in _decode_tools(tools))
        except (ValueError, RecursionError):
            return False  # the engine words that complaint better

    def rewritten(self, served_model: bytes | None, add_usage: bool, priority: int | None = None) -> bytes | Rope:
        """Return the body as the engine shall see it.

        `served_model` is the engine's name for the model as it stands in this kind of body (quoted for JSON), None to
        keep the client's. `add_usage` asks for the usage chunk of a stream unless the client did; `usage_added` then
        says whether that chunk has to be taken out again. `priority` is told to an engine that schedules by it.
        """
        edits: list[Edit] = []
        if served_model is not None:
            edits.append((*self.spans["model"], served_model))
        if add_usage and self.values:
            edit = _FIRST_OPTION
            if self._spans is not None or "stream_options" in self.values:
                edit = _usage_edit(self.spans, self.value("stream_options", _MAX_OPTIONS + 1))
            self.usage_added = edit is not None
            if edit is not None:
                edits.append(edit)
        if priority is not None and self.values:
            edits.append(_priority_edit(self.spans, priority))
        if not edits:
            return self.raw
        return self.raw.spliced(edits) if isinstance(self.raw, Rope) else splice(self.raw, edits)


def _priority_edit(spans: Mapping[str, Span], priority: int) -> Edit:
    if "priority" in spans:
        return (*spans["priority"], b"%d" % priority)
    end = spans["model"][1]
    return (end, end, b',"priority":%d' % priority)


def splice(raw: bytes, edits: list[Edit]) -> bytes:
    """Return `raw` with non-overlapping edits applied, in whatever order they are given."""
    if len(edits) == 1:
        start, end, replacement = edits[0]
        return b"".join([raw[:start], replacement, raw[end:]])
    parts: list[bytes | memoryview] = []
    view = memoryview(raw)
    at = 0
    for start, end, replacement in sorted(edits):
        parts += (view[at:start], replacement)
        at = end
    parts.append(view[at:])
    return b"".join(parts)


def read_json(raw: bytes, dialect: Dialect = Dialect.CHAT) -> Body:
    """Find what routing needs in a JSON body of a dialect.

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
    if len(values) > MAX_KEYS:
        raise too_many_keys()
    if "model" not in values:
        raise _no_model()
    spans = None if _compact(raw, values) else _walked(raw, values)
    prompts = 1
    if dialect is Dialect.COMPLETIONS and any(bytes(values.get(key, b"")).startswith(b"[") for key in _PROMPTS):
        ropes = [Rope((bytes(values[key]),)) for key in _PROMPTS if key in values]
        prompts = max(1, sum(finish(items_in(rope, (0, len(rope)))) for rope in ropes))
    return _understood(raw, values, spans, dialect, prompts=prompts, media=media_size(raw))


def read_long_json(rope: Rope, dialect: Dialect = Dialect.CHAT, *, by_bytes: bool = COMPILED) -> Work[Body]:
    """Find what routing needs in a long JSON body, a slice at a time; raises as `read_json`.

    What stands inside nested values need not be JSON; the engine says so if it is not. `by_bytes` says how they are
    looked at, which is a matter of speed alone.
    """
    walk = Walk(by_bytes)
    spans = yield from top_level(rope, walk)
    for key, (start, end) in spans.items():
        if key in _TOLD and end - start > _MAX_VALUE:
            raise InvalidRequest(f"`{key}` is over {_MAX_VALUE} bytes", param=key)
    if "model" not in spans:
        raise _no_model()
    values = {key: msgspec.Raw(rope.read(*spans[key])) for key in spans if key in _TOLD}
    media = yield from media_in(rope, may_have_data=walk.data)
    images = walk.images
    if images:
        images = yield from images_in(rope, spans)
    prompts = 0
    for key in _PROMPTS:
        if dialect is Dialect.COMPLETIONS and key in spans:
            prompts += yield from items_in(rope, spans[key])
    return _understood(rope, values, spans, dialect, prompts=max(1, prompts), media=media, images=images)


def _understood(
    raw: bytes | Rope,
    values: dict[str, msgspec.Raw],
    spans: dict[str, Span] | None,
    dialect: Dialect,
    *,
    prompts: int,
    media: int,
    images: bool | None = None,
) -> Body:
    n, best_of = _checked_choices(values)
    if dialect not in _HAVE_CHOICES:
        n = best_of = 1
    return Body(
        raw,
        _model(values),
        stream="stream" in values and _stream(values["stream"]),
        prompts=prompts,
        choices=prompts * n,
        generated=prompts * max(n, best_of),
        max_tokens=_max_tokens(values, _MAX_TOKENS[dialect]),
        media=media,
        values=values,
        spans=spans,
        images=images,
    )


def _stream(value: msgspec.Raw) -> bool:
    """Whether a stream is asked for; of nonsense, the engine says what it thinks."""
    try:
        return flag(bytes(value)) is True
    except ValueError:
        return False


def _no_model() -> InvalidRequest:
    return InvalidRequest("`model` is missing: name one of the models that GET /v1/models lists", param="model")


def _model(values: dict[str, msgspec.Raw]) -> str:
    try:
        return _decode_text(values["model"])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("`model` must be a string in UTF-8", param="model") from None


def _checked_choices(values: Mapping[str, msgspec.Raw]) -> tuple[int, int]:
    """Return how many answers are asked for, and of how many; hold what multiplies an engine's work to its bounds."""
    if not ("n" in values or "best_of" in values or "logprobs" in values or "top_logprobs" in values):
        return 1, 1
    for name, most in _BOUNDS.items():
        if name not in values or (name == "logprobs" and _FLAG.fullmatch(bytes(values[name]))):
            continue  # the chat dialect's `logprobs` is a flag
        if (whole_number(name, values[name]) or 0) > most:
            raise InvalidRequest(f"`{name}` may be at most {most} here", param=name)
    n, best_of = (whole_number(name, values[name]) or 1 if name in values else 1 for name in ("n", "best_of"))
    return max(1, n), best_of


def _max_tokens(values: Mapping[str, msgspec.Raw], names: tuple[str, ...]) -> int | None:
    """Return the first limit of the output that is above 0; of one below, the engine says what it thinks."""
    limit = None
    for name in names:
        if name in values:
            asked = whole_number(name, values[name])
            if limit is None and asked is not None and asked > 0:
                limit = asked
    return limit


def _compact(raw: bytes, values: dict[str, msgspec.Raw]) -> bool:
    """Whether a body is exactly as long as its keys, its values and the fewest marks between them.

    It has no room then for a key twice, a space or an escape.
    """
    size = 1
    for key, value in values.items():
        size += len(key) + len(value) + 4
    return size == len(raw)


def _placed(values: Mapping[str, msgspec.Raw]) -> dict[str, Span]:
    """Locate every top-level value of a compact body: they stand where their lengths put them."""
    spans = {}
    at = 1
    for key, value in values.items():
        start = at + len(key) + 3
        end = start + len(value)
        spans[key] = start, end
        at = end + 1
    return spans


def _walked(raw: bytes, values: Mapping[str, msgspec.Raw]) -> dict[str, Span]:
    """Locate every top-level value by walking the keys; values are skipped by the length the decoder found.

    The decoder keeps the last of two equal keys in the place of the first. The walk then meets a key once more, loses
    its step, or ends before the closing brace does.
    """
    spans: dict[bytes, Span] = {}
    at = 0
    for value in values.values():
        match = _KEY.match(raw, at)
        if match is None:
            raise repeated_key()
        start = match.end()
        at = start + len(value)
        spans[match[1]] = (start, at)
    if len(spans) != len(values) or _END.fullmatch(raw, at) is None:
        raise repeated_key()
    located = {_decode_text(b'"%b"' % key) if b"\\" in key else key.decode(): span for key, span in spans.items()}
    start, at = located.get("model", (0, 0))
    if raw[start:at] != bytes(values["model"]):
        raise repeated_key()
    return located


def _usage_edit(spans: Mapping[str, Span], given: bytes | None) -> Edit | None:
    """Return the edit that adds `include_usage`, or None when the client asks for it, or for nonsense, by itself."""
    if "stream_options" not in spans:
        end = spans["stream"][1]
        return (end, end, b"," + _ASKS_FOR_USAGE)
    if given is not None and len(given) > _MAX_OPTIONS:
        return None
    try:
        options = msgspec.json.decode(given or b"{}", type=dict[str, msgspec.Raw])
        if flag(bytes(options.pop("include_usage", _NULL))):
            return None
    except (msgspec.DecodeError, ValueError):
        return None
    # Usage in every chunk hangs on include_usage: a client that gets none today must get none tomorrow.
    options.pop("continuous_usage_stats", None)
    return (*spans["stream_options"], msgspec.json.encode({**options, "include_usage": True}))
