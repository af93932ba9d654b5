"""Clients read the name that they asked for."""

import pytest

from gateway.proxy.naming import Naming

NAMING = Naming(b'"alias"', b'"org/model"')


@pytest.mark.parametrize(
    ("beginning", "renaming"),
    [
        (b'{"id":"x","model":"org/model","choices":[', (b'"model":"org/model"', b'"model":"alias"')),
        (b'{"model" : "org/model"', (b'"model" : "org/model"', b'"model" : "alias"')),
        (b'{"model":"org/model-00001"', (b'"model":"org/model-00001"', b'"model":"alias"')),
        (b'{"metadata":{"model":"mine"},"model":"org/model"', (b'"model":"org/model"', b'"model":"alias"')),
        (b'{"metadata":{"model":"alias"},"model":"org/model"', (b'"model":"org/model"', b'"model":"alias"')),
    ],
)
def test_the_engines_name_is_replaced_where_it_stands_as_the_model(
    beginning: bytes, renaming: tuple[bytes, bytes]
) -> None:
    assert NAMING.renaming(beginning) == renaming


@pytest.mark.parametrize(
    "beginning",
    [
        b'{"model":"alias"',
        b'{"metadata":{"model":"mine"}}',
        b'{"text":"the \\"model\\": \\"org/model\\""}',
        b'{"model":7}',
        b'{"model":"org/mod',
        b"",
    ],
)
def test_nothing_else_is(beginning: bytes) -> None:
    assert NAMING.renaming(beginning) is None


def test_a_name_that_is_right_already_is_left_alone() -> None:
    assert Naming(b'"org/model"', b'"org/model"').renaming(b'{"model":"org/model"') is None


def test_quotes_and_escapes_are_part_of_a_name() -> None:
    naming = Naming(b'"b"', b'"a\\"x"')
    assert naming.renaming(b'{"model":"a\\"x"}') == (b'"model":"a\\"x"', b'"model":"b"')
