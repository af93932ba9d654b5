"""What the demo prints: what to try, and the figures as tables or as a line."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.demo.figures import Figures
from gateway.cli.demo.load import MODEL


def addresses(data: str, admin: str) -> str:
    """Return where everything is, to be copied from the terminal."""
    return f"""\
OpenAI clients   {data}/v1   model {MODEL}, or gpt-4o-mini
Dashboard        {admin}/
Admin            {admin}/metrics   {admin}/admin/status
Status           tidegate status --admin {admin}
"""


def examples(data: str) -> str:
    """Return what to try, to be copied from the terminal."""
    return f"""\
curl -N {data}/v1/chat/completions -H 'content-type: application/json' \\
  -d '{{"model": "{MODEL}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

from openai import OpenAI
client = OpenAI(base_url="{data}/v1", api_key="unused")
answer = client.chat.completions.create(model="{MODEL}", messages=[{{"role": "user", "content": "Hello"}}])
"""


def tables(figures: Figures, title: str, below: str = "") -> RenderableType:
    """Return the figures as two tables, what users experience and each backend, at most 80 columns wide.

    `below` is a line that follows them.
    """
    whole = _table("requests", "req/s", "TTFT p50", "TTFT p99", "ITL p99", "availability", "in flight")
    whole.add_row(
        str(figures.requests),
        f"{figures.rate:.1f}",
        milliseconds(figures.ttft_p50),
        milliseconds(figures.ttft_p99),
        milliseconds(figures.itl_p99),
        percent(figures.availability, digits=2),
        str(figures.in_flight),
    )
    engines = _table("backend", "pool", "state", "in flight", "req/s", "share", "pool's TTFT p50", words=3)
    for backend in figures.backends:
        engines.add_row(
            backend.name.partition("/")[2],
            backend.pool,
            Text(backend.state, style="green" if backend.state == "ready" else "red"),
            str(backend.in_flight),
            f"{backend.rate:.1f}",
            percent(backend.share, digits=0),
            milliseconds(backend.pool_ttft_p50),
        )
    ending = (Text(), Text(below)) if below else ()
    return Group(Text(title, style="bold"), whole, Text(), engines, *ending)


def line(figures: Figures, elapsed: float) -> str:
    """Return the figures as one line, `elapsed` seconds after the beginning."""
    ttft = f"TTFT p50 {milliseconds(figures.ttft_p50)} p99 {milliseconds(figures.ttft_p99)}"
    pools = dict.fromkeys(backend.pool for backend in figures.backends)
    shares = "  ".join(f"{pool} {percent(_share(figures, pool), digits=0)}" for pool in pools)
    return (
        f"{elapsed:4.0f} s  {figures.rate:.1f} req/s  {ttft}  ITL p99 {milliseconds(figures.itl_p99)}"
        f"  availability {percent(figures.availability, digits=2)}  in flight {figures.in_flight}  {shares}"
    )


def _share(figures: Figures, pool: str) -> float | None:
    """Return the share of attempts that a pool had, 0 to 1."""
    shares = [backend.share for backend in figures.backends if backend.pool == pool and backend.share is not None]
    return sum(shares) if shares else None


def _table(*columns: str, words: int = 0) -> Table:
    """Return a table whose first `words` columns are words, and the others numbers."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < words else "right", no_wrap=True)
    return table


def milliseconds(seconds: float | None) -> str:
    """Return a time, or a dash where there is none."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def percent(ratio: float | None, *, digits: int) -> str:
    """Return a share, or a dash where there is none."""
    return "-" if ratio is None else f"{100 * ratio:.{digits}f} %"
