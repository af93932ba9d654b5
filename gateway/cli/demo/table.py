"""The demo's table."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.demo.figures import Figures


def welcome(data: str, admin: str) -> str:
    """Return what to try, to be copied from the terminal."""
    return f"""
  OpenAI clients    base_url={data}/v1   model=demo-chat (or gpt-4o-mini)
  metrics, status   {admin}/metrics   {admin}/admin/status

  curl -N {data}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "demo-chat", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'
"""


def picture(now: Figures, before: Figures, seconds: float) -> RenderableType:
    """Return the table; rates are over the `seconds` between the two readings."""
    totals = Table(title="as users live it", title_justify="left", expand=False)
    for name in ("requests/s", "TTFT p50", "TTFT p99", "ITL p99", "availability", "in flight", "requests"):
        totals.add_column(name, justify="right")
    totals.add_row(
        f"{(now.requests - before.requests) / max(seconds, 1e-9):.1f}",
        _milliseconds(now.ttft_p50),
        _milliseconds(now.ttft_p99),
        _milliseconds(now.itl_p99),
        "-" if now.availability is None else f"{now.availability:.3%}",
        str(now.in_flight),
        str(now.requests),
    )
    engines = Table(title="by backend", title_justify="left", expand=False)
    engines.add_column("backend")
    engines.add_column("state")
    for name in ("requests/s", "share", "in flight", "requests"):
        engines.add_column(name, justify="right")
    earlier = {each.name: each.attempts for each in before.backends}
    everything = sum(each.attempts for each in now.backends) or 1
    for each in now.backends:
        engines.add_row(
            each.name,
            Text(each.state, style="green" if each.state == "ready" else "red"),
            f"{(each.attempts - earlier.get(each.name, 0)) / max(seconds, 1e-9):.1f}",
            f"{each.attempts / everything:.0%}",
            str(each.in_flight),
            str(each.attempts),
        )
    return Group(totals, engines)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
