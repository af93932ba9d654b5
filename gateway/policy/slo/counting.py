"""What is counted on the path of every request: plain numbers, which the ledger folds into its windows later."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gateway.policy.slo.objective import Objective, Sli, Target
from gateway.policy.slo.windows import Windows

_ITL: Final = Sli.ITL

SubjectWindows = Mapping[Sli, Sequence[Windows]]
"""The windows of one subject by SLI: first those of all prompts, then one for each class of prompt lengths."""


class Cell:
    """Good and bad events of one kind since the start, and the windows that they are folded into."""

    __slots__ = ("_bad", "_good", "_windows", "bad", "good", "prompt_tokens", "sli")

    def __init__(self, sli: Sli, prompt_tokens: str, windows: Sequence[Windows]) -> None:
        self.sli = sli
        self.prompt_tokens = prompt_tokens
        self.good = self.bad = 0
        self._good = self._bad = 0
        self._windows = windows

    def __repr__(self) -> str:
        return f"<Cell {self.sli} {self.prompt_tokens} {self.good} good {self.bad} bad>"

    def go_on_from(self, known: "Cell") -> None:
        """Take over the counts of a cell that has been folded."""
        self.good = self._good = known.good
        self.bad = self._bad = known.bad

    def fold(self, folded: list[Windows]) -> None:
        """Add what was counted since the last call to every window, and those to `folded`."""
        good, bad = self.good - self._good, self.bad - self._bad
        if good or bad:
            self._good, self._bad = self.good, self.bad
            for windows in self._windows:
                windows.good += good
                windows.bad += bad
                folded.append(windows)


class ObjectiveCounts:
    """What requests, or attempts, did that are held to one objective, since the start.

    `met` counts requests that met every target, `tokens` their output; `missed` counts the others that were judged.
    Iterating gives every cell: one for each SLI, or for each of its classes of prompt lengths.
    """

    __slots__ = ("_cells", "_counted", "_is_counted", "_subjects", "_targets", "met", "missed", "objective", "tokens")

    def __init__(
        self,
        objective: Objective,
        subjects: Sequence[SubjectWindows],
        known: "ObjectiveCounts | None",
        counted: "list[ObjectiveCounts]",
    ) -> None:
        """Count for these subjects, and go on from what was counted under other routes.

        Its first count since it was last folded adds it to `counted`.
        """
        self.objective = objective
        self._counted = counted
        self._is_counted = False
        self.met = self.missed = self.tokens = 0
        self._cells: dict[str, list[Cell]] = {sli: _cells(objective, sli, subjects) for sli in objective.targets}
        self._targets: dict[str, Target] = dict(objective.targets.items())
        self._subjects = subjects
        self.go_on_from(known)

    def go_on_from(self, known: "ObjectiveCounts | None") -> None:
        """Take over what another one has counted, and folded, of what this one counts."""
        if known is None or known is self:
            return
        self.met, self.missed, self.tokens = known.met, known.missed, known.tokens
        cells = {(cell.sli, cell.prompt_tokens): cell for cell in known}
        for cell in self:
            if (cell.sli, cell.prompt_tokens) in cells:
                cell.go_on_from(cells[cell.sli, cell.prompt_tokens])

    def counts_for(self, objective: Objective, subjects: Sequence[SubjectWindows]) -> bool:
        """Whether it does what another one would do that is made for these."""
        return self.objective == objective and list(self._subjects) == list(subjects)

    def __iter__(self) -> Iterator[Cell]:
        for cells in self._cells.values():
            yield from cells

    def __repr__(self) -> str:
        return f"<ObjectiveCounts {self.objective.name} {self.met} met {self.missed} missed>"

    def fold(self, folded: list[Windows]) -> None:
        """Fold every cell, and add to `folded` the windows that have something to advance with now."""
        self._is_counted = False
        for cell in self:
            cell.fold(folded)

    def count(self, judged: dict[str, bool], gaps: tuple[int, int], prompt_tokens: int) -> bool:
        """Count what was judged of one answer to a prompt of this length; return whether every target was met.

        `judged` says by SLI whether it was good, `gaps` how many gaps between its tokens were good, and how many bad.
        """
        met, all_cells = True, self._cells
        if not self._is_counted:
            self._is_counted = True
            self._counted.append(self)
        for sli, good in judged.items():
            cells = all_cells[sli]
            cell = cells[0] if len(cells) == 1 else cells[self._targets[sli].step(prompt_tokens)]
            if good:
                cell.good += 1
            else:
                cell.bad += 1
                met = False
        good_gaps, bad_gaps = gaps
        if good_gaps or bad_gaps:
            cell = all_cells[_ITL][0]
            cell.good += good_gaps
            cell.bad += bad_gaps
        return met and not bad_gaps

    def count_request(
        self, judged: dict[str, bool], gaps: tuple[int, int], prompt_tokens: int, output_tokens: int
    ) -> None:
        """Count a settled request, and its goodput."""
        if self.count(judged, gaps, prompt_tokens):
            self.met += 1
            self.tokens += output_tokens
        else:
            self.missed += 1


def _cells(objective: Objective, sli: Sli, subjects: Sequence[SubjectWindows]) -> list[Cell]:
    found = [subject[sli] for subject in subjects]
    if all(len(windows) == 1 for windows in found):
        return [Cell(sli, "", [windows[0] for windows in found])]
    return [
        Cell(sli, name, [each for windows in found for each in (windows[0], windows[step])])
        for step, (name, _) in enumerate(objective.targets[sli].prompt_classes, 1)
    ]
