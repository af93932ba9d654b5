"""How large the gateway of `loadtest.scale` is, and the routes that make it so."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

_AT_ONCE = 2_000
"""Entries of one route file, none of which may be larger than 1 MiB."""


@dataclass(frozen=True, slots=True)
class Size:
    """The numbers that the gateway has to bear at once; backends are shared out among `pools`, and models too."""

    backends: int = 256
    models: int = 1_000
    tenants: int = 10_000
    streams: int = 10_000
    pools: int = 1

    def __str__(self) -> str:
        return (
            f"{self.backends:,} backends in {self.pools:,} pools, {self.models:,} models, {self.tenants:,} tenants,"
            f" {self.streams:,} streams"
        )


def model_name(number: int) -> str:
    return f"team-{number % 50:02}/model-{number:05}"


def tenant_name(number: int) -> str:
    return f"tenant-{number:06}"


def key(number: int) -> str:
    return f"key-of-{tenant_name(number)}"


def write(size: Size, engines: int, folder: Path, *, changed: bool = False) -> None:
    """Write the routes into a folder; the file that matters least comes last, and with it all of a change."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, section in _files(size, engines, changed=changed):
        # JSON is YAML too, and quicker to write; the gateway reads it as any other route file.
        (folder / f"{name}.new").write_bytes(msgspec.json.format(msgspec.json.encode(section), indent=1))
        (folder / f"{name}.new").rename(folder / f"{name}.yaml")


def _files(size: Size, engines: int, *, changed: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    urls = [f"http://127.0.0.1:{engines}/engine-{each}" for each in range(size.backends)]
    pools = {f"pool-{each}": {"backends": urls[each :: size.pools]} for each in range(size.pools)}
    seconds = {"target": 99, "under": "3s" if changed else "2s"}
    yield "pools", {"pools": pools}
    yield "objectives", {"objectives": {"chat": {"availability": {"target": 99.9}, "ttft": seconds, "tpot": seconds}}}
    for first in range(0, size.models, _AT_ONCE):
        yield (
            f"models-{first:06}",
            {
                "models": {
                    model_name(each): {
                        "objective": "chat",
                        "versions": {"v1": {"pools": [f"pool-{each % size.pools}"]}},
                    }
                    for each in range(first, min(first + _AT_ONCE, size.models))
                }
            },
        )
    for first in range(0, size.tenants, _AT_ONCE):
        yield f"tenants-{first:06}", {"tenants": dict(_tenants(range(first, min(first + _AT_ONCE, size.tenants))))}


def _tenants(numbers: range) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in numbers:
        digest = sha256(key(each).encode()).hexdigest()
        yield tenant_name(each), {"key_sha256": digest, "limits": {"requests_per_minute": 600, "concurrent": 1000}}
