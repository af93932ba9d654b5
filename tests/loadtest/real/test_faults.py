"""A fault is as it should be when clients saw, and the gateway counted, what must follow; anything else is said."""

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


def test_faults_that_end_the_engine_come_last() -> None:
    assert [each.fatal for each in FAULTS] == sorted(each.fatal for each in FAULTS)


def test_an_engine_that_is_missing_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_REAL", str(tmp_path))
    with pytest.raises(NoEngine, match=r"^\S+/vllm/bin/vllm is missing; docs/real-engines.md says .*$"):
        Installed.found()
