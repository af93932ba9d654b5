"""The requests of a scenario: the same for every gateway, drawn from one seed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import exp, log
from random import Random

from loadtest.scenarios.code_trace import code_assistant, part
from loadtest.scenarios.scenario import Scenario, Stream
from loadtest.traces.formats import Arrival as Traced

MODEL = "llama"
BYTES_PER_TOKEN = 4
"""What one prompt token of a simulated engine is made of."""
_ALPHABET = "abcdefghijklmnopqrstuvwxyz      "


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to be sent `at` seconds after the start of the load; `body` is its JSON."""

    at: float
    stream: Stream
    session: str
    prompt_tokens: int
    output_tokens: int
    text_at: int


class Traffic:
    """All requests of one scenario and seed, in the order in which they are due.

    Streams with a `trace_speed` play a part of `trace`, or of a synthetic one where that is empty.
    """

    def __init__(self, scenario: Scenario, seed: int, trace: Sequence[Traced] = ()) -> None:
        rng = Random(f"{scenario.name} {seed}")
        self._trace = trace
        longest = max(stream.prompt_tokens[1] for stream in scenario.load) * BYTES_PER_TOKEN
        self._text = "".join(rng.choices(_ALPHABET, k=2 * longest + 65_536))
        self._room = len(self._text) - longest
        found = [each for stream in scenario.load for each in self._stream(stream, scenario.seconds, rng)]
        self.arrivals = sorted(found, key=lambda each: each.at)

    def _stream(self, stream: Stream, seconds: float, rng: Random) -> Iterator[Arrival]:
        until = min(seconds, stream.until if stream.until is not None else seconds)
        for at, prompt_tokens, output_tokens in self._due(stream, until, rng):
            session = f"session-{rng.randrange(stream.sessions)}" if stream.sessions else ""
            yield Arrival(at, stream, session, prompt_tokens, output_tokens, rng.randrange(self._room))

    def _due(self, stream: Stream, until: float, rng: Random) -> Iterator[tuple[float, int, int]]:
        at = stream.start
        if not stream.trace_speed:
            while (at := at + rng.expovariate(stream.rate)) < until:
                yield at, _log_uniform(stream.prompt_tokens, rng), _log_uniform(stream.output_tokens, rng)
            return
        span = (until - at) * stream.trace_speed
        for each in part(self._trace, span, rng) if self._trace else code_assistant(span, rng):
            lengths = (
                _within(each.prompt_tokens, stream.prompt_tokens),
                _within(each.output_tokens, stream.output_tokens),
            )
            yield at + each.at / stream.trace_speed, *lengths

    def request(self, arrival: Arrival, host: str) -> bytes:
        """Return the bytes of a request as an OpenAI client sends it."""
        text = self._text[arrival.text_at : arrival.text_at + arrival.prompt_tokens * BYTES_PER_TOKEN]
        body = {
            "model": MODEL,
            "stream": True,
            "max_tokens": arrival.output_tokens,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": text}],
        }
        data = json.dumps(body, separators=(",", ":")).encode()
        fields = {
            "host": host,
            "content-type": "application/json",
            "content-length": str(len(data)),
            "connection": "close",
            "x-session-id": arrival.session,
            "x-gateway-class": arrival.stream.service_class,
            "authorization": f"Bearer {key(arrival.stream.tenant)}" if arrival.stream.tenant else "",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + data


def key(tenant: str) -> str:
    """Return the API key that a tenant uses in scenarios; it opens nothing else."""
    return f"sk-scenario-{tenant}"


def key_sha256(tenant: str) -> str:
    """Return the digest under which route files know that key."""
    return sha256(key(tenant).encode()).hexdigest()


def _log_uniform(span: tuple[int, int], rng: Random) -> int:
    low, high = span
    return round(exp(rng.uniform(log(low), log(high))))


def _within(tokens: int, span: tuple[int, int]) -> int:
    return min(max(tokens, span[0]), span[1])
