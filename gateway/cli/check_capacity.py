"""What `tidegate check` shows of the replicas that pools may want, and of pools without any."""

from typing import Any

from rich.table import Table

from gateway.cli.tables import PlainTable
from gateway.config.durations import format_duration
from gateway.config.table import BudgetSpec, CapacitySpec, PoolSpec, RouteTable
from gateway.policy.capacity.signals import Gauge
from gateway.policy.capacity.want import Rules


def capacity_table(table: RouteTable) -> Table:
    """Return one row for each pool that may want replicas."""
    columns = ("capacity", "replicas", "mode", "step", "cool-down", "warm-up", "cost per hour", "approved above")
    shown = PlainTable(columns, ("step", "cool-down", "warm-up"))
    for pool in table.pools.values():
        capacity = pool.capacity
        if capacity is not None:
            cells = (
                pool.name,
                f"{capacity.rules.min} to {capacity.rules.max} {capacity.unit}",
                mode(capacity),
                "-" if capacity.rules.step_out is None else str(capacity.rules.step_out),
                format_duration(capacity.rules.cool_down),
                format_duration(capacity.rules.warm_up),
                _cost(capacity.rules),
                "-" if capacity.rules.approval_above is None else str(capacity.rules.approval_above),
            )
            shown.row(*cells)
    return shown


def from_zero_table(table: RouteTable) -> Table:
    """Return one row for each pool that holds requests while it has no engine; a webhook's URL may hold a secret."""
    shown = PlainTable(("scales from zero", "held at most", "hold", "wake"), ())
    for pool in table.pools.values():
        settings = pool.scale_from_zero
        if settings is not None:
            shown.row(pool.name, f"{settings.max_held:,} requests", format_duration(settings.hold), settings.way.value)
    return shown


def budgets_table(table: RouteTable) -> Table:
    """Return one row for each pool of a budget."""
    shown = PlainTable(("budget", "in all", "aim", "pool", "weight", "fewest", "most"), ("aim",))
    for budget in table.budgets.values():
        names = (budget.name, str(budget), budget.aim.value)
        for pool, capacity in _sharing(table, budget):
            price = budget.price(capacity)
            limits = (f"{price * each:g}" for each in (capacity.rules.min, capacity.rules.max))
            shown.row(*names, pool, f"{capacity.weight:g}", *limits)
            names = ("", "", "")
    return shown


def budgets_as_json(table: RouteTable) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        name: {
            "replicas": budget.replicas,
            "cost_per_hour": budget.cost_per_hour,
            "aim": budget.aim.value,
            "pools": {pool: {"weight": capacity.weight} for pool, capacity in _sharing(table, budget)},
        }
        for name, budget in table.budgets.items()
    }


def _sharing(table: RouteTable, budget: BudgetSpec) -> list[tuple[str, CapacitySpec]]:
    pools = table.pools.values()
    return [(each.name, each.capacity) for each in pools if each.capacity and each.capacity.budget == budget.name]


def mode(capacity: CapacitySpec) -> str:
    """Return how wants are found, as route files name it."""
    return "predictive" if capacity.predictive else "reactive"


def capacity_as_json(pool: PoolSpec) -> dict[str, Any] | None:
    """Return the same of one pool for programs, None where it wants no number of replicas."""
    found = pool.capacity
    if found is None:
        return None
    rules, names = found.rules, ("backlog", "running", "slots_used", "kv_used")
    return {
        "min": rules.min,
        "max": rules.max,
        "step": rules.step_out,
        "cool_down_seconds": rules.cool_down,
        "mode": mode(found),
        "max_cost_per_hour": rules.cost_cap,
        "approve_above": rules.approval_above,
        "hpa_tolerance": rules.dead_band,
        "unit": found.unit,
        "backends_per_replica": found.backends_per_replica,
        "budget": found.budget or None,
        "weight": found.weight,
        "signals": {name: _gauge(gauges[0]) for name in names if (gauges := getattr(found.signals, name))},
    }


def _gauge(gauge: Gauge) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in gauge.labels.items())
    return f"{gauge.metric}{{{labels}}}" if labels else gauge.metric


def _cost(rules: Rules) -> str:
    if rules.cost_per_hour is None:
        return "-"
    words = f"{rules.cost_per_hour * rules.min:g} to {rules.cost_per_hour * rules.max:g}"
    return words if rules.cost_cap is None else f"{words}, at most {rules.cost_cap:g}"
