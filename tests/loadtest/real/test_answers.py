"""Answers of two servers are the same when nothing differs but ids, times and where a stream was cut."""

from typing import Any

from loadtest.real.answers import differences, reduced
from loadtest.real.comparison import Allowed, allowed


def chunk(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": "a", "created": 1, "choices": [{"index": index, "delta": {"content": text}}], **more}


def test_ids_and_times_do_not_differ() -> None:
    one, other = {"id": "a", "created": 1, "model": "m"}, {"id": "b", "created": 2, "model": "m"}
    assert differences(reduced(one), reduced(other)) == {}


def test_a_field_that_is_missing_or_of_another_type_differs() -> None:
    found = differences(reduced({"id": "a", "code": "404"}), reduced({"code": 404}))
    assert found == {"id": ("<str>", "absent"), "code": ("404", 404)}


def test_none_is_not_absent() -> None:
    assert differences(reduced({"logprobs": None}), reduced({})) != {}


def test_a_stream_may_be_cut_elsewhere() -> None:
    one = [chunk("He"), chunk("ll"), chunk("o")]
    assert differences(reduced(one), reduced([chunk("Hello")])) == {}


def test_counts_so_far_may_be_told_elsewhere_but_not_the_last_ones() -> None:
    of: dict[str, Any] = {"object": "chat.completion.chunk"}
    one = [chunk("He", usage={"total_tokens": 3}, **of), chunk("llo", usage={"total_tokens": 5}, **of)]
    other = [chunk("Hello", usage={"total_tokens": 5}, **of)]
    assert differences(reduced(one), reduced(other)) == {}
    last, wrong = ({"choices": [], "usage": {"total_tokens": count}, **of} for count in (5, 4))
    assert differences(reduced([*one, last]), reduced([*other, wrong])) != {}


def test_a_stream_with_another_text_differs() -> None:
    found = differences(reduced([chunk("He"), chunk("llo")]), reduced([chunk("He"), chunk("lo")]))
    assert list(found.values()) == [("Hello", "Helo")]


def test_choices_of_a_stream_may_come_in_another_order() -> None:
    one = [chunk("a", 0), chunk("x", 1), chunk("b", 0), chunk("y", 1)]
    other = [chunk("x", 1), chunk("y", 1), chunk("a", 0), chunk("b", 0)]
    assert differences(reduced({"answer": one}), reduced({"answer": other})) == {}


def test_an_event_more_differs() -> None:
    usage = {"id": "a", "created": 1, "choices": [], "usage": {"total_tokens": 3}}
    assert differences(reduced([chunk("a")]), reduced([chunk("a"), usage])) != {}


def test_other_words_for_a_wrong_key_are_meant_but_not_another_class_or_status() -> None:
    assert isinstance(allowed("wrong key", "error.message"), Allowed)
    assert isinstance(allowed("wrong key, stream", "error.body.code"), Allowed)
    assert isinstance(allowed("wrong key", "error.code"), Allowed)
    assert allowed("wrong key", "error.class") is None
    assert allowed("wrong key", "error.status_code") is None
    assert allowed("prompt too long", "error.message") is None
