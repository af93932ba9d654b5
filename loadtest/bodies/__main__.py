"""`python -m loadtest.bodies`: hostile bodies through a gateway, beside a stream with a chunk every 5 ms."""

import asyncio
import json
import sys
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.processes.child import Child, spawn

_console = Console(width=120, highlight=False)
_CALM = 5.0
WORST, USUAL = 0.050, 0.010
"""Seconds by which a chunk may be late: at worst, and at p99."""


def main(
    *,
    size: Annotated[int, typer.Option(help="Bytes of each body.")] = 31 * 1024 * 1024,
    at_once: Annotated[int, typer.Option(help="How many of each kind come at the same time.")] = 2,
    out: Annotated[Path, typer.Option(help="Where routes and figures go.")] = Path("out/bodies"),
) -> None:
    """Measure the gaps of a stream while each kind is sent; fail where one is over 50 ms, or 10 ms at p99."""
    out.mkdir(parents=True, exist_ok=True)
    gaps, kinds = asyncio.run(_measure(size, at_once, out))
    table = Table(title=f"gaps of a stream with a chunk every 5 ms, in ms; bodies of {size} bytes, {at_once} at once")
    for name in ("beside", "seconds", "chunks", "p50", "p99", "worst", "answer"):
        table.add_column(name, justify="left" if name in {"beside", "answer"} else "right")
    rows, late = [], 0
    calm = 0.0
    for name, began, ended, answer in kinds:
        seen = sorted(gap for at, gap in gaps if began <= at <= ended + 0.1)
        if not seen:
            late += 1
            continue
        p50, p99, worst = (seen[min(len(seen) - 1, int(len(seen) * share))] for share in (0.5, 0.99, 1.0))
        calm = calm or p50
        late += p99 - calm > USUAL or worst - calm > WORST
        figures = (f"{1000 * value:.1f}" for value in (p50, p99, worst))
        table.add_row(name, f"{ended - began:.1f}", str(len(seen)), *figures, answer)
        rows.append({"kind": name, "p50": p50, "p99": p99, "worst": worst, "answer": answer})
    (out / "bodies.json").write_text(json.dumps(rows, indent=1))
    _console.print(table)
    raise typer.Exit(1 if late else 0)


async def _measure(
    size: int, at_once: int, out: Path
) -> tuple[list[tuple[float, float]], list[tuple[str, float, float, str]]]:
    """Return (time, gap) of every chunk, and when each kind of body was sent, the first row being none at all."""
    children: list[Child] = []
    try:
        # The engine of hostile bodies is another process than that of the stream: their cost to it is not measured.
        engines = [await _started(children, model) for model in ("s", "m")]
        models = {model: {"backends": [url]} for model, url in zip(("s", "m"), engines, strict=True)}
        routes = out / "routes.yaml"
        routes.write_text(json.dumps({"models": models}))
        options = ("--port", "0", "--admin-port", "0", "--state", "memory://", "--no-access-log")
        gateway = await spawn("gateway", ("gateway", "serve", str(routes), *options))
        children.append(gateway)
        line = await gateway.line_with("serves")
        port = int(line.split("serves http://127.0.0.1:")[1].split("/")[0])
        await asyncio.sleep(2.0)
        gaps: list[tuple[float, float]] = []
        stream = asyncio.create_task(_stream(port, gaps))
        await asyncio.sleep(1.0)
        began = monotonic()
        await asyncio.sleep(_CALM)
        kinds = [("nothing", began, monotonic(), "")]
        arguments = ("-m", "loadtest.bodies.sender", str(port), str(size), str(at_once))
        sender = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        assert sender.stdout is not None
        while told := await sender.stdout.readline():
            kinds.append(tuple(json.loads(told)))
        if await sender.wait() or stream.done():
            raise SystemExit("the sender failed, or the stream did")
        stream.cancel()
        await asyncio.gather(stream, return_exceptions=True)
        return gaps, kinds
    finally:
        for child in reversed(children):
            await child.stop()


async def _started(children: list[Child], model: str) -> str:
    engine = ("step_base=0.005", "step_per_sequence=0", "step_per_kv_token=0", "jitter=0")
    options = [part for each in engine for part in ("--engine", each)]
    child = await spawn(f"engine {model}", ["gateway.sim", "--port", "0", "--model", model, *options])
    children.append(child)
    return (await child.line_with("listening on")).split("listening on ")[1].split()[0]


async def _stream(port: int, gaps: list[tuple[float, float]]) -> None:
    """Read one stream after the other and note the gaps within each."""
    request = {"model": "s", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    body = json.dumps({**request, "max_tokens": 6000, "ignore_eos": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n"
    head += b"content-length: %d\r\n\r\n" % len(body)
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + body)
        last = 0.0
        while await reader.read(65536):
            now = monotonic()
            if last:
                gaps.append((now, now - last))
            last = now
        writer.close()
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    typer.run(main)
