"""Names like an unknown one: which model a client may have meant that mistyped its name."""

from collections.abc import Iterable
from difflib import get_close_matches
from heapq import nlargest
from os.path import commonprefix
from typing import Final

from gateway.errors import ModelNotFound

_COMPARED: Final = 8
"""Names that are compared closely, which takes 0.15 ms each: a thousand would hold the event loop for 60 ms."""
_SHOWN: Final = 3


def similar(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of `names` that are much like `name`, the best first.

    Of many, only those are compared closely that begin and end most like it.
    """
    name = name[:128]
    return get_close_matches(name, nlargest(_COMPARED, names, key=lambda other: _ends_alike(name, other)), n=_SHOWN)


def unknown_model(name: str, names: Iterable[str] = ()) -> ModelNotFound:
    """Return what to say of a model that is not there; `names` are the models that the client may know of."""
    close = similar(name, names)
    hint = f"; did you mean {' or '.join(f'`{match}`' for match in close)}?" if close else ""
    return ModelNotFound(f"the model `{name[:128]}` does not exist{hint}", param="model")


def _ends_alike(one: str, other: str) -> int:
    return _begins_alike(one, other) + _begins_alike(one[::-1], other[::-1])


def _begins_alike(one: str, other: str) -> int:
    return len(commonprefix((one, other)))  # noqa: RUF071 - characters are meant, not folders
