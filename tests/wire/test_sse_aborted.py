"""An answer that its engine gave up is told from a whole one."""

import pytest

from gateway.exchange import Dialect
from gateway.wire.answer_progress import AnswerAborted
from gateway.wire.sse import Scanner


@pytest.mark.parametrize("spaced", [False, True])
def test_an_aborted_choice_ends_the_answer_however_it_is_split(spaced: bool) -> None:
    colon = b'": ' if spaced else b'":'
    stream = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content%b"%b"},"finish_reason%b%b}]}\n\n'
        % (colon, text, colon, reason)
        for text, reason in ((b"a", b"null"), (b"b", b"null"), (b"", b'"abort"'))
    )
    for at in range(1, len(stream)):
        scanner = Scanner(Dialect.CHAT)
        with pytest.raises(AnswerAborted):
            scanner.feed(stream[:at]), scanner.feed(stream[at:])
