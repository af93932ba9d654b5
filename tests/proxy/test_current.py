"""The routes in force: a reload swaps them whole, and what waits moves along."""

from tests.control.tables import models
from tests.proxy.front import ANSWER, Opened

OLD, NEW = models("http://127.0.0.1:8001"), models("http://127.0.0.1:8002")


def test_a_reload_swaps_table_tenants_and_routes(opened: Opened) -> None:
    front = opened(OLD)
    before = front.current.routes, front.current.table, front.current.tenants
    front.reload(models("http://127.0.0.1:8001", name="other"))
    assert [model.name for model in front.current.table] == ["other"]
    after = front.current.routes, front.current.table, front.current.tenants
    assert all(old is not new for old, new in zip(before, after, strict=True))


def test_a_request_in_progress_ends_where_it_began(opened: Opened) -> None:
    front = opened(OLD)
    asked = front.asks()
    (side,) = front.connects()
    front.reload(NEW)
    front.says(ANSWER, side)
    assert asked.status == 200


def test_what_was_learnt_of_a_model_goes_on(opened: Opened) -> None:
    front = opened(OLD)
    before = front.current.table.model("m")
    front.reload(NEW)
    after = front.current.table.model("m")
    assert after is not before
    assert after.memory is before.memory
    assert before.successor is after
    assert not before.is_gone


def test_a_model_that_is_gone_says_so(opened: Opened) -> None:
    front = opened(OLD)
    before = front.current.table.model("m")
    front.reload(models("http://127.0.0.1:8001", name="other"))
    assert before.is_gone
