"""Finding a stored response of which is not known who keeps it: backends are asked, a few at a time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from gateway.errors import Unavailable
from gateway.proxy.answers import length
from gateway.proxy.stored import Keeper, no_response
from gateway.wire.answer import AnswerHead, Loss, Sink
from gateway.wire.upstream import Upstream

AT_ONCE: Final = 8
SECONDS = 5.0
"""For how long all of them together are asked."""
MOST = 32
"""Searches at once: each asks every backend that may know."""
_LONGEST: Final = 64 * 1024
_REQUEST: Final = b"GET %b/v1/responses/%b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b\r\n"


class Searches:
    """The searches in progress; calling it begins one."""

    def __init__(self) -> None:
        self.running: set[Search] = set()

    def __repr__(self) -> str:
        return f"<Searches {len(self.running)} running>"

    def begin(
        self,
        response: str,
        keepers: Sequence[Keeper],
        found: Callable[[Keeper], None],
        failed: Callable[[Exception], None],
    ) -> "Search":
        """Ask `keepers` for a response: the first that has it is `found`. Raises Unavailable for a search too many."""
        if len(self.running) >= MOST:
            raise Unavailable("too many responses are being looked for; retry in 1 s")
        return Search(self, response, keepers, found, failed)


class Search:
    """One search, which ends by one call of `found` or `failed`, or without a word by `cancel`."""

    def __init__(
        self,
        searches: Searches,
        response: str,
        keepers: Sequence[Keeper],
        found: Callable[[Keeper], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._searches = searches
        self._response = response
        self._left = list(reversed(keepers))
        self._found = found
        self._failed = failed
        self._asked: set[_Question] = set()
        self._silent = False
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._late)
        searches.running.add(self)
        for _ in range(AT_ONCE):
            self._ask()

    def __repr__(self) -> str:
        return f"<Search for {self._response}, {len(self._asked)} asked, {len(self._left)} left>"

    def cancel(self) -> None:
        """Ask no more."""
        self._timer.cancel()
        self._searches.running.discard(self)
        self._left.clear()
        asked, self._asked = self._asked, set()
        for question in asked:
            question.cancel()

    def answered(self, question: "_Question", *, has: bool = False, silent: bool = False) -> None:
        """Learn whether a backend has the response; one that is `silent` cannot be told of."""
        if question not in self._asked:
            return
        self._asked.discard(question)
        self._silent |= silent
        if has:
            self.cancel()
            self._found(question.keeper)
            return
        self._ask()
        if not self._asked:
            self.cancel()
            self._failed(_unanswered() if self._silent else no_response(self._response))

    def _ask(self) -> None:
        if self._left:
            question = _Question(self, self._left.pop(), self._response)
            self._asked.add(question)
            question.ask()

    def _late(self) -> None:
        self.cancel()
        self._failed(_unanswered())


class _Question(Sink):
    """One backend asked: a stored response is there, or it is not."""

    def __init__(self, search: Search, keeper: Keeper, response: str) -> None:
        self.keeper = keeper
        self._search = search
        self._response = response
        self._upstream: Upstream | None = None
        self._size = 0
        self._over = False

    def ask(self) -> None:
        """Ask on a connection of its own: one that was idle may be closed already."""
        self.keeper.backend.pool.connect(self, self.keeper.model.timeouts.connect)

    def cancel(self) -> None:
        """Wait for no answer."""
        self._over = True
        if self._upstream is not None and self._upstream.busy:
            self._upstream.cancel()

    def connected(self, upstream: Upstream) -> bool:
        """Send the question."""
        if self._over:
            return False
        backend, self._upstream = self.keeper.backend, upstream
        response = self._response.encode()
        fields = backend.base_path, response, backend.authority, backend.authorization
        upstream.start(self, _REQUEST % fields)
        return True

    def connect_failed(self, _detail: str) -> None:
        """Take a backend that cannot be reached for one that keeps nothing."""
        self._search.answered(self)

    def head(self, head: AnswerHead) -> Sink | None:
        """Read the answer; it is read away where that says no, so that the connection stays of use."""
        if not 200 <= head.status < 300:
            return self
        self._end()
        self._search.answered(self, has=True)
        return None

    def data(self, pieces: list[bytes]) -> None:
        """Skip them, bounded: a refusal needs few words."""
        self._size += length(pieces)
        if self._size > _LONGEST:
            self._end()
            self._search.answered(self)

    def last(self, _pieces: list[bytes]) -> None:
        """Learn that the backend keeps no such response."""
        self._search.answered(self)

    def lost(self, _loss: Loss, _detail: str) -> None:
        """Learn that the backend did not answer."""
        self._search.answered(self, silent=True)

    def _end(self) -> None:
        if self._upstream is not None:
            self._upstream.cancel()


def _unanswered() -> Unavailable:
    return Unavailable("not every backend that may keep this response has answered; retry in 1 s")
