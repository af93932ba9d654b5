"""Clients as people use them, asked the same at the engine and through the gateway."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from loadtest.real.answers import differences, reduced
from loadtest.real.engine import KEY

_HERE = Path(__file__).parent / "clients"
_WITHIN = 600.0
_MORE_ROUNDS = 2
CLIENTS = {
    "openai (Python)": "openai_python.py",
    "openai (Node)": "openai",
    "anthropic (Python)": "anthropic_python.py",
    "anthropic (Node)": "anthropic",
    "langchain": "langchain_python.py",
    "litellm": "litellm_python.py",
    "ai-sdk": "ai-sdk",
    "httpx (odd bodies)": "odd_bodies.py",
}
"""Scripts of Python clients, and what Node's script calls the others."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A difference that is meant: patterns (fnmatch) of the question and of the path in its answer."""

    ask: str
    path: str
    reason: str


_OWN_WORDS = "error.[!cs]*", "error.code"
"""Paths of an error that are not its class and its status, which clients act on."""

_READ = ("chat, max_tokens*", "chat, top_logprobs*", "chat, model*", "no JSON", "an empty body", "a list", "not UTF-8")

ALLOWED: tuple[Allowed, ...] = (
    Allowed("*", "answer*.headers.x-request-id", "every answer can be found in the access log"),
    Allowed("*", "answer*.headers.cache-control", "no proxy on the way may keep or change a stream"),
    Allowed("*", "answer*.headers.x-accel-buffering", "no nginx on the way may hold a stream back"),
    Allowed(
        "n=2, stream", "answer*.system_fingerprint", "known from the usage chunk alone, so only the last choice has it"
    ),
    Allowed("models", "answer*", "the list is the routes', not one engine's; it has no permissions"),
    Allowed("one model", "*", "this engine has no such endpoint, the gateway has"),
    *(Allowed("embeddings", path, "an engine's unknown path has no OpenAI shape") for path in _OWN_WORDS),
    *(Allowed("unknown model*", path, "answered from the routes; `code` as OpenAI's") for path in _OWN_WORDS),
    *(Allowed("wrong key*", path, "an engine's 401 has no OpenAI or Anthropic shape") for path in _OWN_WORDS),
    Allowed("chat, model null", "*", "of several models one has to be named; this engine takes its only one"),
    Allowed('chat, model ""', "*", "of several models one has to be named; this engine takes its only one"),
    Allowed("chat without model", "*", "of several models one has to be named; this engine takes its only one"),
    *(Allowed(ask, "answer.body.*", "the gateway reads this itself, and says so in its own words") for ask in _READ),
    *(Allowed("bad type", path, "the gateway reads `max_tokens`, which it charges, itself") for path in _OWN_WORDS),
)

OF_TRANSFORMERS: tuple[Allowed, ...] = (
    *ALLOWED,
    Allowed("responses", "answer", "it streams unasked, and the client hands on the events as a text, with their ids"),
    Allowed("unknown model*", "error.*", "its status is 400, the gateway's 404, as OpenAI's"),
    Allowed("bad type", "error.*", "it breaks the connection; the gateway reads `max_tokens` itself"),
    Allowed("wrong key*", "*", "it knows no keys"),
)
"""Of transformers serve."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One question of one client: how many fields were compared, what differs, and what of that is not meant."""

    client: str
    ask: str
    failed: bool
    fields: int
    meant: tuple[Allowed, ...]
    differs: Mapping[str, tuple[Any, Any]]


def compare(
    client: str, engine_url: str, gateway_url: str, folder: Path, meant: Sequence[Allowed] = ALLOWED
) -> list[Compared]:
    """Ask everything at both; raises RuntimeError where a client does not run.

    Where something differs, all is asked again: an engine may put its last piece of text into the chunk that ends a
    stream or before it, as it comes. What the gateway changes differs each time.
    """
    results = _once(client, engine_url, gateway_url, folder, meant)
    for _ in range(_MORE_ROUNDS):
        if not any(each.differs for each in results):
            break
        again = {each.ask: each.differs for each in _once(client, engine_url, gateway_url, folder, meant)}
        results = [replace(each, differs=_both(each.differs, again[each.ask])) for each in results]
    return results


def _both(one: Mapping[str, tuple[Any, Any]], other: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    return {path: pair for path, pair in one.items() if path in other}


def _once(
    client: str, engine_url: str, gateway_url: str, folder: Path, may_differ: Sequence[Allowed]
) -> list[Compared]:
    direct = _asked(client, engine_url, folder)
    through = _asked(client, gateway_url, folder)
    results = []
    for ask, answer in direct.items():
        one, other = reduced(answer), reduced(through.get(ask))
        found = differences(one, other)
        meant = {path: cause for path in found if (cause := allowed(ask, path, may_differ)) is not None}
        left = {path: pair for path, pair in found.items() if path not in meant}
        results.append(
            Compared(client, ask, "error" in answer, len(one | other), tuple(dict.fromkeys(meant.values())), left)
        )
    return results


def allowed(ask: str, path: str, meant: Sequence[Allowed] = ALLOWED) -> Allowed | None:
    return next((each for each in meant if fnmatch(ask, each.ask) and fnmatch(path, each.path)), None)


def _asked(client: str, url: str, folder: Path) -> dict[str, Any]:
    script = CLIENTS[client]
    command: list[str | Path]
    if script.endswith(".py"):
        command, place = [folder.absolute() / "py/bin/python", _HERE.absolute() / script], folder
    else:
        command, place = ["node", _HERE.absolute() / "node.mjs", script], folder / "node"
    done = subprocess.run(
        [*command, f"{url}/v1"],
        cwd=place,
        env=os.environ | {"REAL_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        timeout=_WITHIN,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{client} did not run:\n{done.stderr[-2000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line.pop("ask"): line for line in lines}
