"""One fault is one incident: what is seen from nearer or farther, or weighs less, belongs to what people know of."""

from dataclasses import replace

import pytest

from gateway.policy.slo.alerts import FASTEST, PAIRS, Reading, Severity
from gateway.policy.slo.burn import Counts
from gateway.policy.slo.incidents import NARROW_WAIT, Firing, Handling, handling

OUTAGE, WELL = Counts(0, 500), Counts(5000, 0)


def firing(
    long: Counts = OUTAGE, *, version: str = "", prompts: str = "", severity: Severity = Severity.PAGE
) -> Firing:
    pair = next(pair for pair in PAIRS if pair.severity is severity)
    reading = Reading(pair, pair.factor(28 * 86_400.0), 0.001, long, long, 1.0, speaks=True)
    counts = {length: long for pair in PAIRS for length in (pair.long, pair.short)}
    return Firing("m", version, "o", "ttft", prompts, severity, 1000.0, (reading,), counts)


MODEL, VERSION, LONG_PROMPTS = firing(), firing(version="v1"), firing(prompts="4096+")


def test_what_is_new_is_told() -> None:
    assert handling(MODEL, [], 0.0, 1000.0) is Handling.TOLD
    other = replace(MODEL, sli="tpot")
    assert handling(MODEL, [other], 0.0, 1000.0) is Handling.TOLD


@pytest.mark.parametrize("narrow", [VERSION, LONG_PROMPTS], ids=["version", "long prompts"])
def test_a_part_belongs_to_the_whole_and_waits_for_it(narrow: Firing) -> None:
    assert handling(narrow, [MODEL], 0.0, 9000.0) is Handling.BELONGS
    assert handling(narrow, [], 0.0, 1000.0 + NARROW_WAIT - 1) is Handling.WAITS
    assert handling(narrow, [], 0.0, 1000.0 + NARROW_WAIT) is Handling.TOLD


def test_one_version_does_not_speak_for_another() -> None:
    assert handling(firing(version="v2"), [VERSION], 0.0, 9000.0) is Handling.TOLD


def test_a_class_of_prompt_lengths_belongs_to_whatever_they_know_of_the_same_target() -> None:
    for known in (MODEL, VERSION, firing(prompts="<4096"), firing(prompts="<4096", version="v1")):
        assert handling(LONG_PROMPTS, [known], 0.0, 9000.0) is Handling.BELONGS
    assert handling(LONG_PROMPTS, [replace(MODEL, sli="e2e")], 0.0, 9000.0) is Handling.TOLD
    assert handling(firing(prompts="4096+", version="v2"), [VERSION], 0.0, 9000.0) is Handling.TOLD


def test_the_whole_belongs_to_a_part_unless_it_burns_without_it() -> None:
    whole = firing(OUTAGE + WELL)
    assert handling(whole, [VERSION], 0.0, 1000.0) is Handling.BELONGS
    assert handling(firing(OUTAGE + OUTAGE), [VERSION], 0.0, 1000.0) is Handling.TOLD
    assert handling(firing(OUTAGE + OUTAGE), [VERSION], 900.0, 1000.0) is Handling.TOLD
    few = firing(OUTAGE + Counts(0, 4))
    assert handling(few, [VERSION], 0.0, 1000.0) is Handling.BELONGS


def test_a_ticket_belongs_to_a_page_and_a_page_to_no_ticket() -> None:
    ticket = firing(severity=Severity.TICKET)
    assert handling(ticket, [MODEL], 0.0, 1000.0) is Handling.BELONGS
    assert handling(MODEL, [ticket], 0.0, 1000.0) is Handling.TOLD
    assert handling(replace(VERSION, severity=Severity.TICKET), [ticket], 0.0, 9000.0) is Handling.BELONGS
    assert handling(ticket, [replace(VERSION, counts=dict.fromkeys(VERSION.counts, WELL))], 0.0, 1.0) is Handling.TOLD


def test_what_outlives_that_is_told_once_it_goes_on_for_a_whole_short_window() -> None:
    ended = 5000.0
    assert handling(MODEL, [], ended, ended + FASTEST.short) is Handling.WAITS
    assert handling(MODEL, [], ended, ended + FASTEST.short + 1) is Handling.TOLD
    over = replace(MODEL, counts=dict.fromkeys(MODEL.counts, WELL))
    assert handling(over, [], ended, ended + 10 * FASTEST.short) is Handling.WAITS
