"""Goes through the steps of the tour and says what happens."""

from collections.abc import Callable, Sequence

from gateway.cli.demo.tour.findings import Finding
from gateway.cli.demo.tour.steps import Step
from gateway.cli.demo.watch import Watch

_PAUSE = 3.0
"""Seconds between two steps, to read what was said."""


class Telling:
    """The steps one after the other, as `watch` sees them; `head` is given titles, `say` all else."""

    def __init__(
        self, steps: Sequence[Step], watch: Watch, *, head: Callable[[str], None], say: Callable[[str], None]
    ) -> None:
        self._steps = steps
        self._watch = watch
        self._head = head
        self._say = say
        self._told = 0
        self._missing: list[str] = []

    def __repr__(self) -> str:
        return f"<Telling {self._told} of {len(self._steps)} steps>"

    async def tell(self) -> None:
        """Go through all steps."""
        await self._watch.next()
        for number, step in enumerate(self._steps, 1):
            self._head(f"{number}/{len(self._steps)}  {step.title}")
            self._say(step.words)
            await self._go_through(step)
            self._told = number
            await self._pause()
        self._head(self.problem() or f"All {self._told} steps happened as told.")

    def problem(self, *, interrupted: bool = False) -> str:
        """Return what did not happen as told, "" for nothing. Steps that an interruption cut off are not missed."""
        words = []
        if self._missing:
            words.append(f"did not happen as told: {', '.join(self._missing)}")
        if self._told < len(self._steps) and not interrupted:
            title = self._steps[self._told].title
            words.append(
                f"the time was over in step {self._told + 1} of {len(self._steps)} ({title}): the tour takes about two "
                "minutes, and --quiet leaves it out"
            )
        return "; ".join(words)

    async def _go_through(self, step: Step) -> None:
        moments = [self._watch.now]
        await step.begin()
        finding = Finding(happened=False, words="")
        while not finding.happened and moments[-1].at - moments[0].at < step.within:
            moments.append(await self._watch.next())
            finding = step.look(moments)
        await step.end()
        seconds = f"{moments[-1].at - moments[0].at:.0f} s"
        if finding.happened:
            self._say(f"After {seconds}: {finding.words}")
        else:
            self._missing.append(step.title)
            self._say(f"This did not happen within {seconds}: {finding.words}")

    async def _pause(self) -> None:
        until = self._watch.now.at + _PAUSE
        while self._watch.now.at < until:
            await self._watch.next()
