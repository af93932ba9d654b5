"""Whether a backend may be sent requests, as far as probes, connects and people say."""

from collections.abc import Mapping
from typing import Final

from gateway.policy.routing.readiness import Changes, Readiness, State

_NO_MODELS: Final[Mapping[str, int | None]] = {}


class Availability:
    """What probes and connects found (`readiness`), the `models` that it lists, and whether it is `drained`.

    `models` maps names to context lengths in tokens, and is None while the engine has not told. `silent_since` is when
    the first of the latest probes had no answer (seconds). One may have to list its models before it serves any. While
    it is `leaving`, those who told of it want it to get no new requests. While it is `asleep` a request could kill it.
    While it is `warming` others go first: users would meet its cold start.
    """

    __slots__ = (
        "_changes",
        "_eligible",
        "_must_list",
        "_must_pass",
        "asleep",
        "drained",
        "leaving",
        "models",
        "readiness",
        "silent_since",
        "warming",
    )

    def __init__(self, changes: Changes | None = None) -> None:
        """Take what counts changes of what it may be sent, of its whole pool."""
        self.readiness = Readiness()
        self._must_list = self._must_pass = False
        self.models: Mapping[str, int | None] | None = None
        self.drained = False
        self.leaving = False
        self.asleep = self.warming = False
        self.silent_since = 0.0
        self._eligible = self.readiness.eligible
        self._changes = changes if changes is not None else Changes()

    def __repr__(self) -> str:
        words = f"{' drained' if self.drained else ''}{' leaving' if self.leaving else ''}"
        return f"<Availability {self.readiness.state}{words}>"

    def learn(self, found: Readiness, now: float) -> bool:
        """Take what a probe or a connect found; return whether its state is another."""
        before, self.readiness = self.readiness, found
        self._reckon()
        if found.silent and not before.silent:
            self.silent_since = now
        return found.state is not before.state

    def list_models(self, models: Mapping[str, int | None] | None) -> None:
        """Take the models that the engine lists, None where it does not tell."""
        listed = _NO_MODELS if models is None and self._must_list else models
        if listed != self.models:
            self._changes.note()
        self.models = listed

    def require_list(self, *, required: bool) -> None:
        """Have it serve no model before it lists that, or take it at its health's word where it lists none."""
        self._must_list = required
        self.list_models(None if self.models is _NO_MODELS else self.models)

    def require_probe(self, *, required: bool) -> None:
        """Have it be sent nothing before a probe has passed, or try it before the first."""
        if required is not self._must_pass:
            self._must_pass = required
            self._reckon()

    def sleep(self, *, asleep: bool) -> bool:
        """Take whether the engine sleeps; return whether that is new."""
        if asleep is self.asleep:
            return False
        self.asleep = asleep
        self._reckon()
        return True

    def warm(self, *, warming: bool) -> None:
        """Have others go first while it is being warmed, or send it its share."""
        self.warming = warming
        self._reckon()

    @property
    def eligible(self) -> bool:
        """Whether it may be sent requests at all."""
        return self._eligible

    def drain(self, *, drained: bool) -> None:
        """Send it no new requests, or send it some again."""
        self.drained = drained
        self._reckon()

    def leave(self, *, leaving: bool) -> None:
        """Send it no new requests, because it is about to go, or some again, because it stays."""
        self.leaving = leaving
        self._reckon()

    def take_over(self, known: "Availability") -> None:
        """Begin with what is known of the same engine under other routes."""
        self.readiness, self.silent_since, self.asleep = known.readiness, known.silent_since, known.asleep
        self.list_models(known.models)
        self._reckon()

    def serves(self, served_model: str) -> bool:
        """Whether a request for this model may be sent here."""
        return self._eligible and (self.models is None or served_model in self.models)

    def may_serve(self, served_model: str) -> bool:
        """Whether nothing is known against it but that it does not answer probes in time."""
        if self.is_withheld or not (self.readiness.eligible or self.readiness.silent):
            return False
        return self.models is None or served_model in self.models

    def context(self, served_model: str) -> int | None:
        """Return how many tokens a prompt of this model and its answer may have together; None while unknown."""
        return self.models.get(served_model) if self.models is not None else None

    @property
    def is_withheld(self) -> bool:
        """Whether it gets no requests for another reason than its readiness."""
        if self._must_pass and self.readiness.state is State.UNKNOWN:
            return True
        return self.drained or self.leaving or self.asleep

    def _reckon(self) -> None:
        """See whether it may be sent requests at all."""
        eligible = self.readiness.eligible and not (self.warming or self.is_withheld)
        if eligible is not self._eligible:
            self._changes.note()
        self._eligible = eligible
