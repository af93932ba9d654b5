"""The grid of `harm`: its shares, and what one cell tells."""

import pytest

from loadtest.admission.harm import SEEDS, Share, cells, measure


def test_parts_are_the_whole_grid() -> None:
    parts = [Share(part=part, parts=3).cells() for part in (1, 2, 3)]
    assert sorted(str(cell) for part in parts for cell in part) == sorted(map(str, cells()))
    assert len({*map(str, cells())}) == len(cells())


def test_cells_are_chosen_by_their_words() -> None:
    chosen = Share("load=4.0.*kv=True").cells()
    assert chosen
    assert all(cell.load == 4.0 and cell.kv for cell in chosen)


@pytest.mark.parametrize(
    ("share", "is_whole"),
    [
        (Share(), True),
        (Share(jobs=2), True),
        (Share("kv"), False),
        (Share(part=1, parts=2), False),
        (Share(seeds=SEEDS - 1), False),
    ],
)
def test_only_the_whole_grid_makes_the_table(share: Share, is_whole: bool) -> None:
    assert share.is_whole is is_whole


def test_a_quiet_service_refuses_no_one() -> None:
    quiet = Share("load=0.1, rate=2.0, pace=0.02, mix='all three'.*kv=False").cells()[0]
    row = measure(quiet, seeds=1)
    assert not [*row.faults()]
    assert row.seen.in_time == row.seen.arrived
