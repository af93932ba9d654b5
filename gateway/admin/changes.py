"""What has changed between two values made of JSON's types, as a list of places and what is there now."""

from collections.abc import Iterator
from typing import Any

Change = tuple[list[str | int], Any]


def changes(before: Any, after: Any, *path: str | int) -> Iterator[Change]:
    """Yield where `after` differs, and its value: within objects of the same keys, and lists of the same length."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        for key, value in after.items():
            yield from changes(before[key], value, *path, key)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, value in enumerate(after):
            yield from changes(before[index], value, *path, index)
    elif before != after:
        yield [*path], after
