import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sim.profiles import GPU
from gateway.sim.prompts import chat_prompt, join_tokens, split_tokens, text_prompts
from gateway.sim.text import Channel, Tool, Wish, compose, count_tokens, example, merged, natural_length, prefix_hashes

WEATHER = Tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}})


def rng() -> random.Random:
    return random.Random(7)


def test_an_answer_is_as_long_as_the_limit_when_the_model_would_go_on() -> None:
    script = compose(Wish(limit=5, natural=100), rng())
    assert (len(script.pieces), script.finish) == (5, "length")


def test_an_answer_ends_early_with_a_silent_token() -> None:
    script = compose(Wish(limit=100, natural=5), rng())
    assert (len(script.pieces), script.finish, script.stop_reason) == (5, "stop", None)
    assert script.pieces[-1] == (Channel.CONTENT, "")


def test_ignore_eos_goes_on_to_the_limit() -> None:
    script = compose(Wish(limit=100, natural=5, ignore_eos=True), rng())
    assert (len(script.pieces), script.finish) == (100, "length")


def test_one_seed_says_one_thing_and_others_something_else() -> None:
    wish = Wish(limit=50, natural=100)
    assert compose(wish, rng()) == compose(wish, rng())
    assert compose(wish, rng()) != compose(wish, random.Random(8))


def test_some_tokens_show_their_text_together_with_the_next() -> None:
    script = compose(Wish(limit=1000, natural=2000), rng())
    silent = sum(not text for _, text in script.pieces)
    assert 30 < silent < 120
    assert script.pieces[-1][1]


def test_a_stop_string_ends_the_text_before_it() -> None:
    whole = compose(Wish(limit=200, natural=300), rng()).text(Channel.CONTENT)
    stop = whole[90:97]
    script = compose(Wish(limit=200, natural=300, stop=(stop, "never said")), rng())
    assert (script.finish, script.stop_reason) == ("stop", stop)
    assert script.text(Channel.CONTENT) == whole[: whole.index(stop)]
    assert len(script.pieces) < 200


def test_thoughts_come_before_content() -> None:
    script = compose(Wish(limit=20, natural=30, reasoning=5), rng())
    assert [channel for channel, _ in script.pieces] == [Channel.REASONING] * 5 + [Channel.CONTENT] * 15


def test_a_tool_call_has_arguments_of_the_right_form() -> None:
    script = compose(Wish(limit=200, natural=5, tool=WEATHER), rng())
    assert script.finish == "tool_calls"
    assert script.text(Channel.TOOL_NAME) == "get_weather"
    assert list(json.loads(script.text(Channel.TOOL_ARGUMENTS))) == ["city"]


def test_a_tool_call_may_be_broken_off_by_the_limit() -> None:
    script = compose(Wish(limit=3, natural=5, tool=WEATHER), rng())
    assert (len(script.pieces), script.finish) == (3, "length")


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, str),
        ({"type": "integer"}, int),
        ({"type": "number"}, float),
        ({"type": "boolean"}, bool),
        ({"type": ["null", "string"]}, type(None)),
        ({"type": "array", "items": {"type": "integer"}}, list),
        ({"const": 3}, int),
        ({"enum": ["a", "b"]}, str),
        ({"anyOf": [{"type": "integer"}]}, int),
        ({"$ref": "#/$defs/Name", "$defs": {"Name": {"type": "string"}}}, str),
        ({"$ref": "#/$defs/Loop", "$defs": {"Loop": {"$ref": "#/$defs/Loop"}}}, type(None)),
    ],
)
def test_examples_fit_their_schema(schema: dict[str, Any], kind: type) -> None:
    assert type(example(schema, rng())) is kind


def test_natural_lengths_lie_around_the_median_of_the_profile() -> None:
    chance = rng()
    lengths = sorted(natural_length(GPU, chance) for _ in range(1001))
    assert lengths[500] == pytest.approx(GPU.median_output_tokens, rel=0.15)
    assert lengths[0] >= 1


def test_merging_joins_neighbours_of_one_channel_and_drops_silence() -> None:
    pieces = [(Channel.REASONING, "a"), (Channel.CONTENT, ""), (Channel.CONTENT, "b"), (Channel.CONTENT, "c")]
    assert list(merged(pieces)) == [(Channel.REASONING, "a"), (Channel.CONTENT, "bc")]


def test_four_bytes_are_a_token_and_sixteen_tokens_a_block() -> None:
    assert [count_tokens(b"x" * length) for length in (0, 1, 4, 5)] == [1, 1, 1, 2]
    assert len(prefix_hashes(b"x" * 200, 16)) == 3


@given(st.text(max_size=80).filter(lambda text: not text.endswith("\0")))
def test_tokens_can_be_turned_back_into_their_text(text: str) -> None:
    assert join_tokens(split_tokens(text.encode())).rstrip(b"\0").decode() == text


def test_a_conversation_that_goes_on_begins_like_before() -> None:
    first: dict[str, Any] = {"role": "user", "content": "How deep is the harbour?"}
    more = [
        first,
        {"role": "assistant", "content": "Deep."},
        {"role": "user", "content": [{"type": "text", "text": "?"}]},
    ]
    start = chat_prompt([first]).data
    assert chat_prompt(more).data.startswith(start)


def test_an_image_counts_as_256_tokens_whatever_its_size() -> None:
    def tokens(parts: list[dict[str, Any]]) -> int:
        return chat_prompt([{"role": "user", "content": parts}]).tokens

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    assert tokens([image]) - tokens([]) == 256


@pytest.mark.parametrize(
    ("given_prompt", "sizes"),
    [("abcdefgh", [2]), ([1, 2, 3], [3]), (["abcd", "abcdefgh"], [1, 2]), ([[1, 2], [3]], [2, 1]), ([], [])],
)
def test_prompts_come_as_texts_or_token_ids_one_or_many(given_prompt: Any, sizes: list[int]) -> None:
    assert [prompt.tokens for prompt in text_prompts(given_prompt)] == sizes
