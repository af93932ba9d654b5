"""What the simulated model says: prompts measured, answers composed, all of it decided by a seed."""

import hashlib
import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any

from gateway.sim.profiles import Profile

BYTES_PER_TOKEN = 4
HELD_BACK = 0.07
"""Share of tokens whose text leaves together with the next one, as seen from vLLM (1900 tokens in 1758 chunks)."""

_MAX_SCHEMA_DEPTH = 8
_TALK = (
    "the of and to a in is that it was for on are as with his they at be this have from or one had by word but not "
    "what all were we when your can said there use an each which she do how their if will up other about out many "
    "then them these so some her would make like him into time has look two more write go see number no way could "
    "people my than first water been call who oil its now find long down day did get come made may part tide gate "
    "river harbour wave moon shore current ebb flow deep anchor sail naïve façade 日本 潮 🌊 \n ."
)
_WORDS = tuple(_TALK.split(" "))


class Channel(Enum):
    """What a piece of output belongs to."""

    REASONING = "reasoning"
    CONTENT = "content"
    TOOL_NAME = "tool_name"
    TOOL_ARGUMENTS = "tool_arguments"


Piece = tuple[Channel, str]
"""The text of one token; empty when the token shows nothing of its own."""

_SPOKEN: tuple[Piece, ...] = tuple((Channel.CONTENT, f" {word}") for word in _WORDS)
_THOUGHT: tuple[Piece, ...] = tuple((Channel.REASONING, f" {word}") for word in _WORDS)
_END: Piece = (Channel.CONTENT, "")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the answer calls: its name and the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What shapes an answer. `natural` is the length in tokens at which the model would end by itself."""

    limit: int
    natural: int
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    reasoning: int = 0
    tool: Tool | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """A composed answer: one piece for each token, and how it ends (`stop`, `length` or `tool_calls`)."""

    pieces: list[Piece]
    finish: str
    stop_reason: str | None = None

    def text(self, channel: Channel) -> str:
        """All the text of one channel."""
        return "".join(text for where, text in self.pieces if where is channel)


def compose(wish: Wish, rng: random.Random) -> Script:
    """Write an answer that fits the wish; the same seed writes the same answer."""
    fixed = _fixed_pieces(wish, rng)
    if fixed is None:
        return _compose_words(wish, rng)
    thought = rng.choices(_THOUGHT, k=wish.reasoning)
    pieces = [*thought, *fixed, _END]
    if len(pieces) > wish.limit:
        return Script(pieces[: wish.limit], "length")
    return Script(pieces, "tool_calls" if wish.tool else "stop")


def natural_length(profile: Profile, rng: random.Random) -> int:
    """How many tokens the model would say by itself: log-normal around the profile's median."""
    return max(1, round(rng.lognormvariate(math.log(profile.median_output_tokens), 0.6)))


def merged(pieces: Iterable[Piece]) -> Iterable[Piece]:
    """Neighbouring pieces of one channel joined, silent ones left out."""
    for channel, group in groupby(pieces, key=lambda piece: piece[0]):
        text = "".join(piece[1] for piece in group)
        if text:
            yield channel, text


def count_tokens(prompt: bytes) -> int:
    """Tokens in a prompt: four bytes each, at least one."""
    return max(1, -(-len(prompt) // BYTES_PER_TOKEN))


def prefix_hashes(prompt: bytes, block_size: int) -> tuple[bytes, ...]:
    """One hash for each full block of the prompt, each covering everything before it."""
    width = block_size * BYTES_PER_TOKEN
    hashes = []
    last = b""
    for start in range(0, len(prompt) - width + 1, width):
        last = hashlib.blake2b(last + prompt[start : start + width], digest_size=8).digest()
        hashes.append(last)
    return tuple(hashes)


def example(schema: Mapping[str, Any], rng: random.Random) -> Any:
    """Return a small value that fits a JSON schema, with every named property filled in."""
    return _example(schema, rng, schema.get("$defs", {}), 0)


def _compose_words(wish: Wish, rng: random.Random) -> Script:
    early = not wish.ignore_eos and wish.natural < wish.limit
    length = wish.natural if early else wish.limit
    thought = min(wish.reasoning, length - 1)
    pieces = rng.choices(_THOUGHT, k=thought) + rng.choices(_SPOKEN, k=length - thought - early)
    script = _until_stop(pieces, wish.stop)
    if script is None:
        script = Script([*pieces, _END] if early else pieces, "stop" if early else "length")
    _hold_back(script.pieces, rng)
    return script


def _until_stop(pieces: list[Piece], stops: tuple[str, ...]) -> Script | None:
    """Return the answer up to the first stop string in its content, without that string; None if there is none."""
    if not stops:
        return None
    said = "".join(text for channel, text in pieces if channel is Channel.CONTENT)
    found = [(said.find(stop), stop) for stop in stops if stop in said]
    if not found:
        return None
    start, stop = min(found)
    kept: list[Piece] = []
    position = 0
    for channel, text in pieces:
        if channel is Channel.CONTENT:
            kept.append((channel, text[: max(0, start - position)]))
            position += len(text)
        else:
            kept.append((channel, text))
        if position >= start + len(stop):
            break
    return Script(kept, "stop", stop)


def _hold_back(pieces: list[Piece], rng: random.Random) -> None:
    for index in range(len(pieces) - 1):
        channel, text = pieces[index]
        follower, more = pieces[index + 1]
        if channel is follower and more and rng.random() < HELD_BACK:
            pieces[index] = (channel, "")
            pieces[index + 1] = (channel, text + more)


def _fixed_pieces(wish: Wish, rng: random.Random) -> list[Piece] | None:
    if wish.tool is not None:
        arguments = _tokens(Channel.TOOL_ARGUMENTS, example(wish.tool.parameters, rng))
        return [(Channel.TOOL_NAME, wish.tool.name), *arguments]
    if wish.schema is not None:
        return _tokens(Channel.CONTENT, example(wish.schema, rng))
    return None


def _tokens(channel: Channel, document: Any) -> list[Piece]:
    text = json.dumps(document, ensure_ascii=False)
    return [(channel, text[start : start + BYTES_PER_TOKEN]) for start in range(0, len(text), BYTES_PER_TOKEN)]


def _example(schema: Mapping[str, Any], rng: random.Random, definitions: Mapping[str, Any], depth: int) -> Any:
    if depth > _MAX_SCHEMA_DEPTH:
        return None
    if "$ref" in schema:
        target = definitions.get(str(schema["$ref"]).rpartition("/")[2], {})
        return _example(target, rng, definitions, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return rng.choice(schema["enum"])
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return _example(schema[union][0], rng, definitions, depth + 1)
    return _example_of_type(schema, rng, definitions, depth)


def _example_of_type(schema: Mapping[str, Any], rng: random.Random, definitions: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type", "object")
    value: Any = None
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "string":
            value = rng.choice(_WORDS[:100])
        case "integer":
            value = rng.randrange(100)
        case "number":
            value = rng.randrange(1000) / 10
        case "boolean":
            value = rng.random() < 0.5
        case "array":
            value = [_example(schema.get("items", {"type": "string"}), rng, definitions, depth + 1)]
        case "object":
            fields = schema.get("properties", {})
            value = {name: _example(field, rng, definitions, depth + 1) for name, field in fields.items()}
    return value
