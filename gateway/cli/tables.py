"""Plain tables, which leave out what matters least where the terminal is too narrow for all of it."""

import textwrap
from collections.abc import Sequence
from itertools import compress

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

_GAP = 2
_FOLDED, _SENTENCE = 24, 12
"""A longer cell is continued on the line below, in as many columns of the terminal if there are, else in fewer."""


class PlainTable(Table):
    """A table without lines, whose cells are texts.

    On a terminal on which it does not fit, columns are left out until it does: those of `least`, the first one first.
    A file, or another program, gets all of them.
    """

    def __init__(self, columns: Sequence[str], least: Sequence[str] = ()) -> None:
        super().__init__(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        self._least = least
        for column in columns:
            self.add_column(column, overflow="fold")

    def row(self, *cells: str) -> None:
        """Add a row."""
        self.add_row(*map(Text, cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what is shown."""
        is_narrow = console.is_terminal and self.__rich_measure__(console, options).maximum > options.max_width
        return self._fitted(options.max_width) if is_narrow else super().__rich_console__(console, options)

    def _fitted(self, width: int) -> RenderResult:
        """Yield a table that fits into so many columns of the terminal, if one does, and what it lacks."""
        needs = [_need(column) for column in self.columns]
        names = [str(column.header) for column in self.columns]
        shown, left_out = [True] * len(needs), []
        for name in self._least:
            if sum(compress(needs, shown)) + _GAP * (sum(shown) - 1) <= width:
                break
            if name in names:
                shown[names.index(name)] = False
                left_out.append(name)
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        columns = list(compress(self.columns, shown))
        whole = _kept_whole(columns, width)
        for column in columns:
            header = textwrap.fill(str(column.header), _need(column))
            table.add_column(header, overflow="fold", no_wrap=column in whole)
        for cells in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*cells)
        yield table
        if left_out:
            yield Text(f"not shown on a terminal as narrow as this: {', '.join(left_out)}", style="dim")


def _kept_whole(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns whose cells stay on one line, if that leaves enough for those with longer cells."""
    whole = [column for column in columns if _longest(column) <= _FOLDED]
    left = width - sum(map(_need, whole)) - _GAP * (len(columns) - 1)
    return whole if left >= _SENTENCE * (len(columns) - len(whole)) else []


def _need(column: Column) -> int:
    """Return how wide a column has to be; its header may have two lines, and a long cell any number."""
    header = str(column.header)
    words = max(map(len, header.split()), default=0)
    while len(textwrap.wrap(header, words)) > 2:
        words += 1
    return max(words, min(_longest(column), _FOLDED))


def _longest(column: Column) -> int:
    return max((cell.cell_len for cell in column.cells if isinstance(cell, Text)), default=0)
