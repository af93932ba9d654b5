"""Quotas in the memory of one process."""

from gateway.shared.private import NoLocks, NoWakes, PrivateQuotas
from gateway.shared.quota import News

NOW = 50.0


def test_each_tenant_has_a_column_and_those_of_tenants_that_are_gone_are_used_again_empty() -> None:
    quotas = PrivateQuotas()
    quotas.beat(NOW)
    every = [quotas.add() for _ in range(300)]
    for index, each in enumerate(every):
        each.requests.charge(index, 60, NOW, locked=True)
        each.count(1)
    assert [round(60 - each.requests.level(60, NOW)) for each in every] == list(range(300))
    assert {each.now for each in every} == {NOW}
    quotas.drop(every[7])
    assert "299 tenants" in repr(quotas)
    again = quotas.add()
    assert (again.requests.level(60, NOW), again.in_flight) == (60, 0)
    assert (every[8].in_flight, round(every[8].requests.level(60, NOW))) == (1, 52)


def test_its_locks_are_free() -> None:
    quota = PrivateQuotas().add()
    assert quota.lock()
    assert NoLocks().acquire(1)
    quota.unlock()
    NoWakes().wake(0)


def test_a_charge_is_told_at_once_where_nothing_was_heard_of_late_or_too_little_is_left() -> None:
    woken: list[int] = []
    news, quota = News(lambda: woken.append(1)), PrivateQuotas().add()
    quota.tell(news, NOW)
    quota.requests.charge(1, 60, NOW, locked=True)
    news.note(quota, NOW)
    news.note(quota, NOW)
    assert (len(woken), len(news.quotas), news.urgent) == (1, 1, True)
    assert news.told() == [quota]
    assert quota.heard(NOW) == NOW
    news.note(quota, NOW + 1)
    assert (len(woken), news.urgent) == (1, False)
    quota.requests.urgent_at = 2.0
    news.note(quota, NOW + 1)
    assert len(woken) == 1
    quota.requests.charge(1, 60, NOW, locked=True)
    news.note(quota, NOW + 1)
    assert len(woken) == 2
    assert "urgent" in repr(news)


def test_what_others_are_assumed_to_use_leaves_a_full_bucket_full() -> None:
    bucket = PrivateQuotas().add().requests
    bucket.assume(3.0, NOW)
    assert bucket.level(60, NOW) == 60
    bucket.charge(2, 60, NOW, locked=True)
    bucket.assume(0.5, NOW)
    assert round(bucket.level(60, NOW), 3) == 57.5
    bucket.assume(9.0, NOW + 2.4)
    assert round(bucket.level(60, NOW + 2.4), 3) == 59.8
