"""A fault is as it should be when clients saw, and the gateway counted, what must follow; anything else is said."""

from collections import Counter
from pathlib import Path

import pytest

from loadtest.real.engine import Installed, NoEngine
from loadtest.real.faults import FAULTS, Fault, Seen


def fault(*, varies: bool = False) -> Fault:
    return Fault(
        "a fault", lambda *_: [], ("200 [DONE]", "503 busy"), {"requests": {"ok": 1, "shed": 1}}, varies=varies
    )


def test_what_is_expected_is_right() -> None:
    seen = [Seen(200, done=True), Seen(503, "busy")]
    assert fault().mismatches(seen, {"requests": {"shed": 1, "ok": 1}}) == []


def test_each_mismatch_is_told() -> None:
    wrong = fault().mismatches([Seen(200, "broken", cut=True)], {"requests": {"truncated": 1}})
    assert wrong == [
        "clients saw 200 broken cut, not 200 [DONE], 503 busy",
        "requests were {'truncated': 1}, not {'ok': 1, 'shed': 1}",
    ]


def test_a_request_that_is_not_counted_is_told() -> None:
    seen = [Seen(200, done=True), Seen(503, "busy"), Seen(503, "busy")]
    wrong = fault(varies=True).mismatches(seen, {"requests": {"shed": 1, "ok": 1}})
    assert wrong == ["2 requests were counted, not 3"]


def test_where_it_varies_how_many_does_not_matter_but_what_does() -> None:
    done = [Seen(200, done=True)] * 3
    assert fault(varies=True).mismatches(done, {"requests": {"ok": 3}}) == []
    assert fault(varies=True).mismatches([*done, Seen(200, cut=True)], {"requests": {"ok": 3, "truncated": 1}}) != []


def test_an_answer_that_is_cut_after_its_end_is_not_a_good_one() -> None:
    assert str(Seen(200, done=True, cut=True)) != str(Seen(200, done=True))


DOWN = Seen(503, "no_ready_backend", retry_after=True)
CUT = Seen(200, "stream_broken", cut=True)
TERMINATED: dict[str, tuple[list[Seen], list[str], list[str]]] = {
    "it aborts both": (
        [CUT, Seen(502, "backend_error"), DOWN],
        ["truncated", "backend_error", "no_backend"],
        ["truncated", "truncated"],
    ),
    "it says nothing": (
        [CUT, Seen(504, "first_token_timeout"), DOWN],
        ["truncated", "timeout", "no_backend"],
        ["stalled", "first_token_timeout"],
    ),
    "it says nothing, and closes its connections": (
        [CUT, Seen(502, "backend_error"), DOWN],
        ["truncated", "backend_error", "no_backend"],
        ["truncated", "closed_early"],
    ),
    "it answers 500": (
        [Seen(200, "500", cut=True), Seen(500, "500"), DOWN],
        ["truncated", "backend_error", "no_backend"],
        ["error_event", "server_error"],
    ),
    "it aborts one and answers the other with 500, and its port refuses the third": (
        [CUT, Seen(500, "500"), DOWN],
        ["truncated", "backend_error", "no_backend"],
        ["truncated", "server_error", "connect_failed"],
    ),
}


def sigterm() -> Fault:
    return next(each for each in FAULTS if each.name.startswith("SIGTERM under a stream"))


def counted(requests: list[str], attempts: list[str]) -> dict[str, dict[str, int]]:
    """Return what is counted where each request and each attempt failed."""
    users, backend = {"bad": len(requests)}, {"bad": len(attempts)}
    return {"requests": Counter(requests), "attempts": Counter(attempts), "users": users, "backend": backend}


@pytest.mark.parametrize("way", TERMINATED)
def test_an_engine_may_end_in_each_of_its_ways_on_sigterm(way: str) -> None:
    seen, requests, attempts = TERMINATED[way]
    assert sigterm().mismatches(seen, counted(requests, attempts)) == []


@pytest.mark.parametrize(
    "more",
    [
        {"users": {"bad": 2}},
        {"users": {"bad": 3, "good": 1}},
        {"backend": {"bad": 1}},
        {"backend": {"bad": 2, "good": 1}},
        {"requests": {"truncated": 1, "ok": 1, "no_backend": 1}},
        {"attempts": {"truncated": 1, "first_token_timeout": 1}},
        {"attempts": {"truncated": 3}},
    ],
)
def test_each_request_that_fails_on_sigterm_is_bad_once_and_nothing_else_is(more: dict[str, dict[str, int]]) -> None:
    seen, requests, attempts = TERMINATED["it aborts both"]
    (wrong,) = sigterm().mismatches(seen, counted(requests, attempts) | more)
    assert wrong.startswith("clients saw 200 stream_broken cut, 502 backend_error, 503 no_ready_backend Retry-After, ")


def test_a_stream_that_ends_as_if_it_were_whole_is_no_way_to_end_on_sigterm() -> None:
    _, *rest = TERMINATED["it aborts both"][0]
    all_counted = counted(["ok", "backend_error", "no_backend"], ["ok", "truncated"])
    assert sigterm().mismatches([Seen(200, done=True), *rest], all_counted) == [
        "client 1 saw 200 [DONE], not 200 stream_broken cut or 200 500 cut"
    ]
    assert sigterm().mismatches(rest, all_counted) == ["2 clients were answered, not 3"]


def test_faults_that_end_the_engine_come_last() -> None:
    assert [each.fatal for each in FAULTS] == sorted(each.fatal for each in FAULTS)


def test_an_engine_that_is_missing_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_REAL", str(tmp_path))
    with pytest.raises(NoEngine, match=r"^\S+/vllm/bin/vllm is missing; docs/real-engines.md says .*$"):
        Installed.found()
