"""What the compiler is told of a class, which runs without the compiler too."""

from typing import Any

try:
    from mypy_extensions import mypyc_attr as mypyc_attr  # noqa: PLC0414 - other modules import it from here
except ImportError:  # only the compiler needs it

    def mypyc_attr(*_attrs: str, **_kwattrs: object) -> Any:  # type: ignore[misc]
        """Mark a class for the compiler."""
        return lambda marked: marked
