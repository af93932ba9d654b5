"""Says in a route file's own terms what pydantic found wrong with it."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from gateway.config.addresses import looks_like_url
from gateway.config.document import Document, MappingNode, ScalarNode, SequenceNode
from gateway.config.kinds import KEY_DIGEST, NAME_RULES
from gateway.config.problems import InvalidValueError, KeyPath, Problem, closest, suggest
from gateway.config.schema import fields_at
from gateway.config.variables import SECRET_KEYS

_KEY_MARK = "[key]"
_LONGEST_SHOWN = 80
# What stands where a digest should may be the key itself.
_HIDDEN = SECRET_KEYS | {"key_sha256"}
# The path of a webhook's URL often is all that it takes to use it.
_WEBHOOK = ("wake",)
_EXPECTED = {
    "int": "is not a whole number",
    "float": "is not a number",
    "finite": "is not a finite number",
    "string": "is not a single value",
    "list": "is not a list",
    "dict": "is not a mapping",
    "model": "is not a mapping",
    "bool": "is neither true nor false",
}
_PLACES: dict[str, KeyPath] = {
    "a backend (`{url: http://host:8000, ...}`)": ("pools", "p", "backends", 0),
    "a pool": ("pools", "p"),
    "the capacity of a pool": ("pools", "p", "capacity"),
    "a pool's `scale_from_zero`": ("pools", "p", "scale_from_zero"),
    "a model": ("models", "m"),
    "a version": ("models", "m", "versions", "v"),
    "the timeouts of a model": ("models", "m", "timeouts"),
    "a rule's `when`": ("models", "m", "rules", 0, "when"),
    "a canary": ("models", "m", "canary"),
    "an objective": ("objectives", "o"),
    "a class": ("classes", "c"),
    "a tenant": ("tenants", "t"),
    "the top of a route file": (),
}
"""What keys belong to, for one that stands elsewhere."""
_BOUNDS = {
    "greater_than_equal": ("is too small", "at least {ge:g}"),
    "greater_than": ("is too small", "above {gt:g}"),
    "less_than": ("is too large", "below {lt:g}"),
    "less_than_equal": ("is too large", "at most {le:,.15g}"),
    "too_short": ("is empty", ""),
    "string_too_short": ("is empty", ""),
    "string_too_long": ("is too long", "at most {max_length} characters"),
}


def explain(error: ValidationError, document: Document, known: Iterable[KeyPath]) -> Iterator[Problem]:
    """One Problem for each thing that pydantic found, but at the paths `known` to be wrong already."""
    skipped = set(known)
    details = error.errors(include_url=False, include_input=False)
    misspelt = {_meant(document, detail["loc"]) for detail in details if detail["type"] == "extra_forbidden"}
    for detail in details:
        if detail["type"] == "missing" and (*document.lookup(detail["loc"])[0], detail["loc"][-1]) in misspelt:
            continue  # it is there, under a name that is wrong
        where = tuple(part for part in detail["loc"] if part != _KEY_MARK)
        path = document.lookup(where)[0]
        if path not in skipped:
            yield _explain(
                document, path, where, detail["type"], detail.get("ctx", {}), is_key=detail["loc"][-1] == _KEY_MARK
            )


def _meant(document: Document, where: KeyPath) -> KeyPath:
    """Return the path of the key that was meant by an unknown one, if one is close to it."""
    path = document.lookup(where)[0]
    meant = closest(str(path[-1]), sorted(fields_at(path[:-1])))
    return (*path[:-1], meant) if meant else ()


def shown(document: Document, path: KeyPath) -> str:
    """Return the value as the file writes it, with variables not expanded and possible passwords hidden."""
    match document.lookup(path)[2]:
        case MappingNode():
            return "this mapping"
        case SequenceNode():
            return "this list"
        case ScalarNode() if not _HIDDEN.isdisjoint(path[-2:]):
            return "the secret"
        case ScalarNode(text=text) if path[-1:] == _WEBHOOK and looks_like_url(text):
            return "the value"
        case ScalarNode(text=""):
            return "this value"
        case ScalarNode(text=text):
            without_password = re.sub(r"(?s)^(\w+://)?.*@", r"\1***@", text)
            return _quote(re.sub(r"(?s)[?#].*", "?***", without_password))


def _explain(
    document: Document, path: KeyPath, where: KeyPath, kind: str, context: dict[str, Any], *, is_key: bool
) -> Problem:
    if kind == "missing":
        return document.problem(path, f"`{where[-1]}` is missing", _example(where))
    if kind == "extra_forbidden":
        hint = suggest(str(path[-1]), fields_at(path[:-1]), "known keys here")
        if not hint.startswith("did you mean"):
            hint = _belongs(str(path[-1])) + hint
        return document.problem(path, "unknown key", hint, at_key=True)
    subject = _quote(str(path[-1])) if is_key else shown(document, path)
    message, hint = _predicate(document, path, kind, context)
    return document.problem(path, f"{subject} {message}", hint.replace("{shown}", subject.strip("`")), at_key=is_key)


def _belongs(key: str) -> str:
    """Say to what a key belongs that stands in the wrong place; "" of one that exists nowhere."""
    places = [name for name, path in _PLACES.items() if key in fields_at(path)]
    return f"`{key}` belongs to {' or '.join(places)}; " if places else ""


def _predicate(document: Document, path: KeyPath, kind: str, context: dict[str, Any]) -> tuple[str, str]:
    error = context.get("error")
    if isinstance(error, InvalidValueError):
        return error.message, error.hint
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return "is not a SHA-256 digest" if pattern == KEY_DIGEST else "is not a valid name", NAME_RULES[pattern]
    if kind == "literal_error":
        return "is not a known value", f"one of {context['expected']}".replace("'", "`")
    if kind in _BOUNDS:
        message, hint = _BOUNDS[kind]
        return message, hint.format(**context) or _example(path)
    message = _EXPECTED.get(kind.split("_", maxsplit=1)[0], "cannot be used")
    node = document.lookup(path)[2]
    if kind == "list_type" and isinstance(node, ScalarNode | MappingNode):
        item = f"{{{next(iter(node.entries), 'url')}: ...}}" if isinstance(node, MappingNode) else "{shown}"
        return message, f"write `{path[-1]}: [{item}]`"
    return message, _example(path)


def _example(path: KeyPath) -> str:
    """How the key at `path`, or the nearest around it, may look, from the schema's own examples."""
    for end in range(len(path), 0, -1):
        field = fields_at(path[: end - 1]).get(str(path[end - 1]))
        if field is not None and field.examples:
            return f"for example `{path[end - 1]}: {_flow(field.examples[0])}`"
    return ""


def _flow(value: object) -> str:
    """Write a value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"[{', '.join(map(_flow, value))}]" if isinstance(value, list) else str(value)


def _quote(text: str) -> str:
    return f"`{text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + '...'}`"
