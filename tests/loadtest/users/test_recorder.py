from types import SimpleNamespace
from typing import Any

from loadtest.report.figures import Distribution
from loadtest.report.recording import Request
from loadtest.users.client import Answer
from loadtest.users.lateness import told
from loadtest.users.recorder import Call, Recorder, bucket
from loadtest.users.streaming import Tokens


class Rows(dict[tuple[str, str], list[float]]):
    """As locust's entries: made when they are asked for."""

    def __getitem__(self, key: tuple[str, str]) -> Any:
        values = self.setdefault(key, [])
        return SimpleNamespace(log=lambda ms, _: values.append(ms))


def recording() -> tuple[Recorder, Rows, list[dict[str, Any]]]:
    fired: list[dict[str, Any]] = []
    rows = Rows()
    request = SimpleNamespace(fire=lambda **event: fired.append(event))
    environment: Any = SimpleNamespace(stats=SimpleNamespace(entries=rows), events=SimpleNamespace(request=request))
    return Recorder(environment, began=100.0), rows, fired


ANSWER = Answer(
    sent=110.0,
    ended=114.0,
    outcome="ok",
    status=200,
    backend="gpu/x",
    version="v1",
    tokens=Tokens(7, 3),
    first=111.0,
    tpot=1.0,
    gaps=((112.0, 1.0), (113.004, 1.004)),
)


def test_rows_count_from_when_a_request_was_sent_and_the_recording_from_when_it_was_due() -> None:
    recorder, rows, fired = recording()
    recorder.settle(Call("replay", "/p", "acme", "batch", due=109.5), ANSWER)
    assert rows == {
        ("replay", "LATE"): [500],
        ("replay", "TTFT"): [1000],
        ("replay", "TPOT"): [1000],
        ("replay", "ITL"): [1000, 1004],
    }
    assert [(event["name"], event["response_time"], event["exception"]) for event in fired] == [("replay", 4000, None)]
    assert recorder.requests == [
        Request(9.5, "replay", "", "acme", "batch", 200, "ok", "gpu/x", "v1", 7, 3, ttft=1.5, tpot=1.0, e2e=4.5)
    ]
    assert recorder.gaps == {(12, 1.0): 1, (13, 1.0): 1}


def test_a_failure_is_one_row_with_its_words_and_no_timings() -> None:
    recorder, rows, fired = recording()
    recorder.settle(Call("chat", "/p"), Answer(110.0, 110.1, "refused", "refused: 429 overloaded", 429))
    assert not rows
    assert fired[0]["response_time"] is None
    assert str(fired[0]["exception"]) == "refused: 429 overloaded"
    assert (recorder.requests[0].outcome, recorder.requests[0].status) == ("refused", 429)


def test_what_workers_report_adds_up() -> None:
    workers = [recording()[0] for _ in range(2)]
    master = recording()[0]
    for worker in workers:
        worker.settle(Call("chat", "/p"), ANSWER)
        worker.left = 1
        master.add(worker.take())
        master.add(worker.take())
    assert len(master.requests) == 2
    assert master.requests[0] == master.requests[1]
    assert master.gaps == {(12, 1.0): 2, (13, 1.0): 2}
    assert master.left == 2


def test_locusts_rows_keep_three_digits_and_short_gaps() -> None:
    assert [bucket(ms) for ms in (0.123, 9.876, 12.6, 147.4, 3432.0, 58760.0)] == [0.12, 9.88, 13, 147, 3430, 58800]


def test_a_busy_load_generator_says_by_how_much_it_was_late() -> None:
    (note,) = told(Distribution.of({0.0: 98, 25.0: 2}))
    assert note.startswith("The load generator was busy: it woke up 25 ms late (p99), 25 ms at most")
    assert list(told(Distribution.of({0.0: 98, 9.0: 2}))) == list(told(Distribution.of({}))) == []
