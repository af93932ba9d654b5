"""Text from elsewhere, as it fits in a message."""

from typing import Final

MOST: Final = 200


def one_line(text: str, most: int = MOST) -> str:
    """Return the printable characters of a text from elsewhere, as far as they fit in a line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * most]).split())
    return line if len(line) <= most else f"{line[:most]}..."
