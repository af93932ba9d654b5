"""What answers of DNS mean, whatever their order."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.discovery.dns_answers import ANSWERS, MOST_ANSWERS, NOTHING_FOR, AnswerHistory, until_next, until_retry

ADDRESSES = st.sets(st.sampled_from("abcdef"), min_size=1)


def test_an_address_is_gone_after_three_answers_without_it() -> None:
    history = AnswerHistory[str]()
    assert history.take("ab", 0.0) == {"a", "b"}
    assert history.take("a", 1.0) == {"a", "b"}
    assert history.take("a", 2.0) == {"a", "b"}
    assert history.take("a", 3.0) == {"a"}
    assert repr(history) == "<AnswerHistory of 1 addresses, gone after 3 answers>"


def test_one_that_comes_back_shows_that_answers_hold_a_part() -> None:
    history = AnswerHistory[str]()
    for answer in ("ab", "a", "a", "a", "ab"):
        history.take(answer, 0.0)
    for _ in range(5):
        assert history.take("a", 1.0) == {"a", "b"}
    assert history.take("a", 1.0) == {"a"}
    history.take("b", 1_000.0)
    assert "after 6" in repr(history), "that was long ago"


def test_answers_of_a_few_out_of_many_soon_name_all() -> None:
    """A server that answers each time with another three of twenty: soon none is missing for long."""
    history, all_of_them = AnswerHistory[str](), range(20)
    shown = 0
    for turn in range(400):
        part = [str(all_of_them[(turn * 7 + each * 3) % 20]) for each in range(3)]
        found = history.take(part, float(turn))
        shown += turn >= 100 and len(found) == 20
    assert shown == 300


@given(st.lists(ADDRESSES, min_size=1))
def test_the_last_answers_are_there_and_what_no_answer_had_for_long_is_not(answers: list[set[str]]) -> None:
    history = AnswerHistory[str]()
    for now, answer in enumerate(answers):
        found = history.take(answer, float(now))
        recent = answers[max(0, now - ANSWERS + 1) : now + 1]
        assert set().union(*recent) <= found, "three answers are needed at least"
        assert found <= set().union(*answers[max(0, now - MOST_ANSWERS + 1) : now + 1])


@given(st.lists(st.tuples(st.sampled_from(["nothing", "silence", "answer"]), st.floats(0.0, 40.0))))
def test_nothing_is_believed_after_three_answers_over_thirty_seconds_and_no_sooner(
    events: list[tuple[str, float]],
) -> None:
    history, now = AnswerHistory[str](), 0.0
    nothings: list[float] = []
    history.take("a", now)
    for event, seconds in events:
        now += seconds
        if event == "answer":
            assert history.take("a", now) == {"a"}
            nothings.clear()
        elif event == "nothing":
            nothings.append(now)
            believed = history.take_nothing(now)
            assert believed == (len(nothings) >= ANSWERS and now - nothings[0] >= NOTHING_FOR)
            assert history.addresses == (set() if believed or history.addresses == set() else {"a"})


@given(st.floats(0.0, 1e9), st.integers(1, 1000))
def test_pauses_are_within_their_bounds(ttl: float, failures: int) -> None:
    assert 1.0 <= until_next(ttl) <= 60.0
    assert until_next(ttl) == ttl or ttl < 1.0 or ttl > 60.0
    assert 1.0 <= until_retry(failures) <= until_retry(failures + 1) <= 5.0
