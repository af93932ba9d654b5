"""Every request has a name of its own, the client's where that is sane."""

import pytest

from gateway.proxy.request_ids import MAX_ID, RequestIds, sane


@pytest.mark.parametrize("given", [b"a", b"req_1.2-3", b"A" * MAX_ID])
def test_a_sane_name_is_kept(given: bytes) -> None:
    assert RequestIds().of(given) == sane(given) == given.decode()


@pytest.mark.parametrize("given", [None, b"", b"a b", b"a\n", "ä".encode(), b"A" * (MAX_ID + 1), b"a/b"])
def test_any_other_is_replaced_by_a_new_one(given: bytes | None) -> None:
    ids = RequestIds()
    assert sane(given) is None
    made = [ids.of(given) for _ in range(3)]
    assert len(set(made)) == 3
    assert all(sane(each.encode()) == each for each in made)


def test_two_processes_make_different_names() -> None:
    assert RequestIds().of(None) != RequestIds().of(None)


def test_while_a_name_is_on_its_way_another_request_gets_a_number_behind_it() -> None:
    ids = RequestIds()
    assert [ids.take("a") for _ in range(3)] == ["a", "a-2", "a-3"]
    ids.give_back("a")
    assert ids.take("a") == "a"
    ids.give_back("a-2")
    ids.give_back("never taken")
    assert len(ids) == 2
