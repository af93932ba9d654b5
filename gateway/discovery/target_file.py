"""Files of targets, in the format of Prometheus' `file_sd_configs`: a list of groups with targets and labels."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.config.addresses import authority, parse_address
from gateway.config.problems import InvalidValueError
from gateway.discovery.one_line import one_line
from gateway.discovery.target import Target

MAX_BYTES: Final = 4 << 20
MAX_YAML_BYTES: Final = 256 << 10
"""YAML takes a hundred times as long to read as JSON."""
MOST: Final = 10_000
"""Targets of one file."""
_SCHEME: Final = "__scheme__"
_LONGEST_SHOWN: Final = 80


def read_targets(path: Path) -> tuple[Target, ...]:
    """Return the targets of a file; raises OSError, and ValueError that says what is wrong with its content. Blocks."""
    is_json = path.suffix == ".json"
    most = MAX_BYTES if is_json else MAX_YAML_BYTES
    with path.open("rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"is larger than {most >> 10} KiB{'' if is_json else '; JSON may be larger'}")
    targets = tuple(_targets(_parsed(data, is_json=is_json)))
    if len(targets) > MOST:
        raise ValueError(f"has {len(targets):,} targets; at most {MOST:,} can be used")
    return targets


def _parsed(data: bytes, *, is_json: bool) -> Any:
    try:
        text = data.decode("utf-8-sig")
        return json.loads(text) if is_json else yaml.load(text, Loader=yaml.CSafeLoader)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"is not {'JSON' if is_json else 'YAML'}: {one_line(str(error), _LONGEST_SHOWN)}") from None


def _targets(groups: Any) -> Iterator[Target]:
    if not isinstance(groups, list):
        raise ValueError('is not a list of groups such as {"targets": ["10.0.0.1:8000"], "labels": {}}')
    for place, group in enumerate(groups):
        where = f"[{place}]"
        if not isinstance(group, dict) or not isinstance(group.get("targets"), list):
            raise ValueError(f'{where} is not a group such as {{"targets": ["10.0.0.1:8000"], "labels": {{}}}}')
        labels = _labels(group.get("labels"), where)
        tls = _is_tls(labels, where)
        for number, target in enumerate(group["targets"]):
            yield _target(target, labels, f"{where}.targets[{number}]", tls=tls)


def _labels(labels: Any, where: str) -> tuple[tuple[str, str], ...]:
    if labels is None:
        return ()
    if not isinstance(labels, dict):
        raise ValueError(f"{where}.labels is not a mapping")
    for value in labels.values():
        if not isinstance(value, str | int | float):
            raise ValueError(f"{where}.labels has a value that is not text: {_shown(value)}")
    return tuple(sorted((str(name), str(value)) for name, value in labels.items()))


def _is_tls(labels: tuple[tuple[str, str], ...], where: str) -> bool:
    scheme = dict(labels).get(_SCHEME, "http")
    if scheme not in {"http", "https"}:
        raise ValueError(f"{where}.labels: {_SCHEME} is {_shown(scheme)}, not http or https")
    return scheme == "https"


def _target(text: Any, labels: tuple[tuple[str, str], ...], where: str, *, tls: bool) -> Target:
    if not isinstance(text, str):
        raise ValueError(f"{where} is not text such as `10.0.0.1:8000`")
    try:
        address = parse_address(f"http://{text}")
    except InvalidValueError as error:
        raise ValueError(f"{where}: {_shown(text)} {error.message}; write it as `10.0.0.1:8000`") from None
    if address.base_path or not text.rpartition(":")[2].isdecimal():
        raise ValueError(f"{where}: {_shown(text)} is not a host with a port, such as `10.0.0.1:8000`")
    return Target(authority(address.host, address.port), address.host, address.port, tls, labels=labels)


def _shown(value: Any) -> str:
    return f"`{one_line(str(value), _LONGEST_SHOWN)}`"
