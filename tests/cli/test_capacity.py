"""`tidegate capacity` says in words what a pool wants beside the numbers of its table."""

from typing import Any

import pytest

from gateway.cli.capacity import notes

KNOWN: dict[str, Any] = {
    "pool": "gpu",
    "unit": "pods",
    "target": 6,
    "proposed": 9,
    "inputs": {"burn": 16.25, "queue_wait": None, "queued": 3, "limit": 64},
    "rails": [],
    "awaits": None,
    "approved": None,
    "rejected": None,
}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, ["gpu: burn 16.25, queued 3"]),
        ({"target": None}, []),
        (
            {"inputs": {}, "rails": ["approval", "dead_band"], "awaits": 9},
            [
                "gpu: the rule asks for 9 pods, bounded by approval, dead_band",
                "gpu: 9 pods wait for approval: `tidegate capacity approve gpu`",
            ],
        ),
        ({"inputs": {}, "approved": 9}, ["gpu: up to 9 pods are approved"]),
        ({"inputs": {}, "rejected": 9}, ["gpu: 9 pods were rejected"]),
    ],
)
def test_what_is_to_be_known_stands_below_the_table(more: dict[str, Any], said: list[str]) -> None:
    assert list(notes(KNOWN | more)) == said
