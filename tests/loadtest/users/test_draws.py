from itertools import pairwise
from random import Random

import pytest

from gateway.sim.profiles import GPU
from gateway.sim.prompts import chat_prompt
from gateway.sim.text import prefix_hashes
from loadtest.traces.formats import Arrival, read_trace, repeated
from loadtest.users.options import SAMPLE, command, keys
from loadtest.users.prompts import Spread, prompt_of, text
from loadtest.users.shapes import SHAPES, events, users


def test_spreads_are_read_and_drawn() -> None:
    rng = Random(0)
    assert Spread.parse("200").whole(rng) == 200
    assert all(50 <= Spread.parse("50-400").draw(rng) <= 400 for _ in range(200))
    drawn = sorted(Spread.parse("lognormal:200,0.5").draw(rng) for _ in range(2001))
    assert drawn[1000] == pytest.approx(200, rel=0.1)
    assert Spread.parse("0").whole(rng) == 1


@pytest.mark.parametrize("wrong", ["", "many", "5-", "-5", "9-3", "lognormal:5", "1e3"])
def test_a_wrong_spread_is_refused_in_words(wrong: str) -> None:
    with pytest.raises(ValueError, match="right"):
        Spread.parse(wrong)


def test_a_prompt_has_a_word_for_each_token() -> None:
    assert len(text(321, Random(0)).split()) == 321
    assert text(50, Random(1)) == text(50, Random(1)) != text(50, Random(2))


def test_blocks_with_the_same_number_are_the_same_text() -> None:
    first, longer, other = ((0, 1), (0, 1, 2), (3, 1))
    prompts = [
        prompt_of(Arrival(0.0, tokens, 1, blocks), 0, 7)
        for tokens, blocks in ((600, first), (1100, longer), (600, other))
    ]
    assert [len(prompt.split()) for prompt in prompts] == [600, 1100, 600]
    assert prompts[1].startswith(prompts[0])
    assert prompts[2].split()[512:] == prompts[0].split()[512:]
    assert prompts[2][:2000] != prompts[0][:2000]
    assert prompt_of(Arrival(0.0, 600, 1, first), 5, 7) == prompts[0] != prompt_of(Arrival(0.0, 600, 1, first), 0, 8)


def test_a_simulated_engine_finds_what_the_trace_repeats() -> None:
    trace = read_trace(SAMPLE.with_name("mooncake-sample.jsonl"))
    seen: set[bytes] = set()
    found = total = 0
    for number, arrival in enumerate(trace):
        prompt = chat_prompt([{"role": "user", "content": prompt_of(arrival, number, 0)}])
        hashes = prefix_hashes(prompt.data, GPU.block_size)
        found += GPU.block_size * sum(each in seen for each in hashes)
        total += prompt.tokens
        seen.update(hashes)
    assert total == pytest.approx(sum(arrival.prompt_tokens for arrival in trace), rel=0.01)
    assert found / total == pytest.approx(repeated(trace), abs=0.01)


def test_keys_have_tenants_and_stay_secret() -> None:
    found = keys("acme=s3cret,other=x=y")
    assert [(key.tenant, key.secret) for key in found] == [("acme", "s3cret"), ("other", "x=y")]
    assert "s3cret" not in repr(found)
    assert keys("bare")[0].tenant == ""
    with pytest.raises(ValueError, match="key 2 is empty") as caught:
        keys("acme=s3cret,other=")
    assert "s3cret" not in str(caught.value)


def test_the_command_that_is_recorded_has_no_keys() -> None:
    told = command(["/x/locust", "--api-key", "a=s3cret", "--api-key=b=s3cret", "--users", "3"])
    assert told == "locust --api-key ... --api-key=... --users 3"


def test_a_flash_crowd_is_ten_times_as_many_at_once() -> None:
    before, crowd, after = (users("flash", at, 100, 50) for at in (39.9, 40, 70))
    assert (before, crowd, after) == (5, 50, 5)
    assert [event.at for event in events("flash", 100, 50)] == [40, 70]


def test_every_shape_reaches_its_peak_and_stays_within() -> None:
    for shape in SHAPES:
        counts = [users(shape, at / 10, 60, 40) for at in range(600)]
        assert max(counts) == 40
        assert min(counts) >= 1


def test_a_day_has_its_noon_in_the_middle_and_bursts_come_five_times() -> None:
    assert [users("diurnal", at, 24, 100) for at in (0, 12, 24)] == [20, 100, 20]
    counts = [users("burst", at, 100, 40) for at in range(100)]
    assert sum(now > before for before, now in pairwise(counts)) == 5
    assert len(list(events("burst", 100, 40))) == 5
