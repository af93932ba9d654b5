"""A request passes a few gateways, and none of them twice."""

import pytest

from gateway.errors import LoopDetected
from gateway.proxy.hops import MOST, Hops


def value(field: bytes) -> bytes:
    """Return the value of a field that is written as in a head."""
    name, _, rest = field.partition(b": ")
    assert name == b"x-gateway-hops"
    return rest.removesuffix(b"\r\n")


def test_each_gateway_adds_its_name_to_those_before() -> None:
    first, second = Hops(), Hops()
    assert first.name != second.name
    passed = value(first.first)
    second.check(passed)
    assert value(second.field(passed)) == first.name + b", " + second.name


def test_what_comes_back_is_refused() -> None:
    first, second = Hops(), Hops()
    for passed in (value(first.first), value(second.field(value(first.first)))):
        with pytest.raises(LoopDetected, match="has come back"):
            first.check(passed)


def test_a_chain_has_a_length() -> None:
    gateways, passed = [Hops() for _ in range(MOST)], b""
    for gateway in gateways:
        if passed:
            gateway.check(passed)
        passed = value(gateway.field(passed) if passed else gateway.first)
    with pytest.raises(LoopDetected, match="has passed 4 gateways"):
        Hops().check(passed)


def test_what_others_write_there_is_no_reason_to_break() -> None:
    Hops().check(b",, \xff")
