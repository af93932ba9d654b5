"""A sticky key is counted once, however many there are."""

import pytest

from gateway.policy.canary.keys import Keys, hashed


def test_a_key_is_new_once_and_over_restarts() -> None:
    keys = Keys()
    assert keys.is_new(hashed(b"a"))
    assert not keys.is_new(hashed(b"a"))
    news = sum(keys.is_new(hashed(b"%d" % number)) for number in range(50_000))
    assert news > 49_500
    restored = Keys()
    restored.restore(keys.state())
    assert not restored.is_new(hashed(b"a"))
    restored.restore(Keys().state())
    assert restored.is_new(hashed(b"a"))
    assert repr(Keys()) == "<Keys 0.0% full>"


@pytest.mark.parametrize("state", ["AAAA", "eJxjAAAAAQAB"])
def test_what_are_no_keys_is_not_taken_back(state: str) -> None:
    with pytest.raises(ValueError, match="these are"):
        Keys().restore(state)
