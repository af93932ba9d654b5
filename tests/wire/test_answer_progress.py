"""What the events of an answer say: that it begins, goes on, fails, or ends, and whether it is whole then."""

import pytest

from gateway.exchange import Dialect
from gateway.wire.answer_progress import DONE, AnswerAborted, AnswerProgress

ROLE = b'{"choices":[{"index":0,"delta":{"role":"assistant"}}]}'
OUTPUT = b'{"choices":[{"index":0,"delta":{"content":"x"}}]}'
LAST = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
ERROR = b'{"error":{"message":"broken","code":503}}'


def after(*events: bytes, dialect: Dialect = Dialect.CHAT, choices: int = 1) -> AnswerProgress:
    progress = AnswerProgress(dialect, choices=choices)
    for event in events:
        progress.look(event)
    return progress


def test_an_answer_goes_from_waiting_to_its_end() -> None:
    progress = AnswerProgress(Dialect.CHAT)
    assert progress.look(ROLE) is None
    assert (progress.begun, repr(progress)) == (False, "<AnswerProgress waiting finished 0 of 1>")
    content = progress.look(OUTPUT)
    assert content is not None
    assert content[0] == b'"content":"'
    assert (progress.begun, progress.complete) == (True, False)
    progress.look(LAST)
    assert (progress.complete, progress.done) == (True, False)
    assert repr(progress) == "<AnswerProgress begun finished 1 of 1>"
    progress.end()
    assert (progress.complete, progress.done) == (True, True)


def test_an_error_ends_it() -> None:
    progress = after(OUTPUT, ERROR)
    assert (progress.error, progress.error_code, progress.done) == (ERROR, 503, True)
    assert not progress.may_follow(DONE)
    assert repr(progress) == "<AnswerProgress failed finished 0 of 1>"


@pytest.mark.parametrize(
    ("dialect", "end"),
    [(Dialect.RESPONSES, b'{"type":"response.completed"}'), (Dialect.MESSAGES, b'{"type":"message_stop"}')],
)
def test_behind_an_end_of_the_dialects_own_only_done_may_follow_and_only_once(dialect: Dialect, end: bytes) -> None:
    progress = after(end, dialect=dialect)
    assert progress.done
    assert not progress.may_follow(end)
    assert progress.may_follow(DONE)
    assert not progress.may_follow(DONE)


def test_nothing_may_follow_the_terminator() -> None:
    progress = AnswerProgress(Dialect.CHAT)
    progress.end()
    assert not progress.may_follow(DONE)


@pytest.mark.parametrize(("begun", "complete"), [(1, True), (2, False)])
def test_of_several_choices_each_that_has_begun_must_finish(begun: int, complete: bool) -> None:
    events = [OUTPUT.replace(b'"index":0', b'"index":%d' % index) for index in range(begun)]
    progress = after(*events, choices=3)
    assert not progress.complete
    progress.look(LAST)
    assert (progress.all_finished, progress.complete) == (False, complete)


def test_of_one_choice_that_says_nothing_yet_nothing_is_complete() -> None:
    assert not after(choices=2).complete


@pytest.mark.parametrize("reason", [b"abort", b"error"])
def test_an_answer_that_the_engine_gives_up_is_none(reason: bytes) -> None:
    with pytest.raises(AnswerAborted):
        after(LAST.replace(b"stop", reason))
    with pytest.raises(AnswerAborted):
        AnswerProgress(Dialect.CHAT).finish(LAST.replace(b"stop", reason))


def test_token_counts_are_gathered() -> None:
    progress = AnswerProgress(Dialect.MESSAGES)
    assert not progress.note_usage(b'{"type":"ping"}')
    assert progress.usage is None
    assert progress.note_usage(b'{"usage":{"input_tokens":7}}')
    assert progress.note_usage(b'{"usage":{"output_tokens":3}}')
    usage = progress.usage
    assert usage is not None
    assert (usage.prompt, usage.output) == (7, 3)


@pytest.mark.parametrize(
    ("dialect", "end"),
    [
        (Dialect.CHAT, b"data: [DONE]\n\n"),
        (Dialect.COMPLETIONS, b"data: [DONE]\n\n"),
        (Dialect.PLAIN, b""),
        (Dialect.RESPONSES, b""),
        (Dialect.MESSAGES, b""),
    ],
)
def test_clients_get_the_end_that_they_wait_for(dialect: Dialect, end: bytes) -> None:
    progress = AnswerProgress(dialect)
    assert progress.missing_end == end
    progress.end()
    assert progress.missing_end == b""


def test_a_stored_answer_may_be_a_broken_one() -> None:
    cancelled = b'{"type":"response.completed","response":{"status":"cancelled"}}'
    with pytest.raises(AnswerAborted):
        after(cancelled, dialect=Dialect.RESPONSES)
    stored = AnswerProgress(Dialect.RESPONSES, stored=True)
    stored.look(cancelled)
    assert stored.complete
