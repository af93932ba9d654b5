"""What a mistyped name may have meant."""

import difflib

import pytest

from gateway.proxy import similar as module
from gateway.proxy.similar import similar


@pytest.mark.parametrize(
    ("typed", "meant"), [("lama-3.1-8b", "llama-3.1-8b"), ("org/model-77x-chat", "org/model-77-chat")]
)
def test_the_name_that_was_meant_is_found_among_many(typed: str, meant: str) -> None:
    names = [f"org/model-{number}-chat" for number in range(1000)]
    assert meant in similar(typed, [*names, "llama-3.1-8b", "other"])


def test_a_name_like_none_gets_none() -> None:
    assert similar("x" * 5000, ["llama", "qwen"]) == []


def test_few_names_are_compared_closely_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def watched(word: str, names: list[str], n: int) -> list[str]:
        compared.append(len(names))
        return difflib.get_close_matches(word, names, n=n)

    monkeypatch.setattr(module, "get_close_matches", watched)
    similar("org/model-77x-chat", [f"org/model-{number}-chat" for number in range(1000)])
    assert compared == [8]
