"""A panel of the dashboard and its queries, and what those are made of."""

from dataclasses import dataclass

RATE = "$__rate_interval"
MODEL = 'model=~"$model"'
POOL = 'pool=~"$pool"'


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel and the legend of its series."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: `kind` is Grafana's name of its type, `width` of 24 columns, `unit` one of Grafana's.

    `lines` are drawn across it: thresholds to see the curves beside.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    about: str = ""
    lines: tuple[float, ...] = ()


def quantiles(histogram: str) -> tuple[Query, ...]:
    """Return the queries of the median and the upper quantiles of a histogram, by version."""
    buckets = f"sum by (model, version, le) (rate({histogram}_bucket{{{MODEL}}}[{RATE}]))"
    return tuple(
        Query(f"histogram_quantile({share}, {buckets})", f"{{{{model}}}} {{{{version}}}} p{name}")
        for share, name in (("0.5", "50"), ("0.95", "95"), ("0.99", "99"))
    )


def rate_by(counter: str, labels: str, *by: str) -> str:
    """Return the rate of a counter, by these labels."""
    return f"sum by ({', '.join(by)}) (rate({counter}{{{labels}}}[{RATE}]))"


def legend(*labels: str) -> str:
    """Return the legend that names a series by these labels."""
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def burn(subject: str, names: str, window: str) -> str:
    """Return the burn rates that the gateway itself tells of these subjects over a window."""
    labels = f'subject="{subject}", name=~"{names}", prompt_tokens="", window="{window}"'
    return f"max by (name, objective, sli) (tidegate_burn_rate{{{labels}}})"
