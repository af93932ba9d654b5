"""`docs/benchmarks.md`: every scenario over all gateways, from the runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from loadtest.scenarios.gateways import NAMES, NGINX_ROUND_ROBIN, ROUND_ROBIN, TIDEGATE
from loadtest.scenarios.runs import Middle, Run, compare
from loadtest.scenarios.scenario import Scenario

_HEAD = """# Benchmarks

What users experience when something goes wrong, behind several gateways. Written by `make scenarios`; every run's
figures are in [benchmarks.csv](benchmarks.csv), and each run leaves a recording of every request and a report in
`out/scenarios/`.

- **Side by side**: one run plays a scenario (`loadtest/scenarios/*.yaml`) through all gateways at the same time, each
  with engines of its own: the same requests at the same moments, the same faults. LiteLLM plays the same alone, as it
  needs a core for itself at these rates.
- **Missed**: late first token, slow tokens, failed, cut or refused, seen by the client; all requests due in the judged
  span count, with times from when they were due. Median of the repetitions, lowest and highest in brackets.
- **Engines are simulated** (`tidegate sim`: continuous batching, chunked prefill, KV cache), so that two cores suffice.
- Gateways are set up as `loadtest/scenarios/gateways.py` and `conf/` show: nginx repeats failed POSTs and HAProxy
  checks health each second and repeats, which is more than their defaults; the others with their defaults.
- **Tidegate round robin** is Tidegate with everything but its choice of an engine; pools, queues and versions are the
  same.
- A single run says little: where shares are small, compare medians and spreads.
"""


def document(runs: Sequence[Run], scenarios: Sequence[Scenario], facts: Mapping[str, str]) -> str:
    """Return the page for these runs; scenarios without runs are left out."""
    played = [scenario for scenario in scenarios if any(run.scenario == scenario.name for run in runs)]
    parts = [_HEAD, "\n".join(f"- {name}: {value}" for name, value in facts.items()), "\n## All scenarios\n"]
    parts += _overview(runs, played)
    for scenario in played:
        parts += _section([run for run in runs if run.scenario == scenario.name], scenario)
    return "\n".join(parts) + "\n"


def verdicts(runs: Sequence[Run], scenario: Scenario) -> list[tuple[str, bool]]:
    """Return in words how Tidegate compares in a scenario, and whether that is what was aimed at."""
    by = _by_gateway(runs)
    ours = by.get(TIDEGATE, [])
    peers = {name: found for name, found in by.items() if name not in {TIDEGATE, ROUND_ROBIN}}
    turns = {name: found for name, found in by.items() if name == NGINX_ROUND_ROBIN}
    told = []
    for others, aim in ((peers, scenario.aim), (turns, scenario.aim_round_robin)):
        if ours and others and (others is peers or aim > 1):
            comparison = compare(ours, others)
            reached = comparison.reaches(aim)
            least = f"aim {aim:g}x" if aim > 1 else "aim: not worse"
            told.append((f"{comparison.told()} ({least}{'' if reached else ', not reached'})", reached))
    return told


def _overview(runs: Sequence[Run], scenarios: Sequence[Scenario]) -> Iterator[str]:
    names = [name for name in NAMES if any(run.gateway == name for run in runs)]
    yield _row("missed, per cent", *names)
    yield _row(*("---", *("---:" for _ in names)))
    for scenario in scenarios:
        by = _by_gateway([run for run in runs if run.scenario == scenario.name])
        cells = [_percent(median(run.share for run in by[name])) if name in by else "-" for name in names]
        yield _row(f"[{scenario.title}](#{_anchor(scenario.title)})", *cells)
    for scenario in scenarios:
        found = verdicts([run for run in runs if run.scenario == scenario.name], scenario)
        yield f"{'' if scenario is not scenarios[0] else chr(10)}- {scenario.title}: {'; '.join(t for t, _ in found)}."


def _section(runs: Sequence[Run], scenario: Scenario) -> Iterator[str]:
    yield f"\n## {scenario.title}\n"
    yield f"{scenario.about}\n"
    objective = scenario.objective
    long_prompts = "".join(
        f", {under:g} s from {tokens} prompt tokens on" for tokens, under in objective.long_prompts.items()
    )
    scaled = f" Engines run {scenario.time_scale:g} times slower than real ones." if scenario.time_scale != 1 else ""
    seeds = sorted({run.seed for run in runs})
    yield (
        f"Objective: TTFT within {objective.ttft * 1000:g} ms{long_prompts}, TPOT within {objective.tpot * 1000:g} ms."
        f"{scaled} {len(seeds)} repetitions (seeds {', '.join(map(str, seeds))}), "
        f"{median(run.requests for run in runs):.0f} requests "
        f'judged in each. `make scenarios ARGS="--only {scenario.name}"`\n'
    )
    columns = (
        "missed",
        "why, in all",
        "goodput, tokens/s",
        "TTFT p50, ms",
        "TTFT p99, ms",
        "TPOT p99, ms",
        "recovered after, s",
    )
    yield _row("gateway", *columns, "cost of 1M goodput tokens")
    yield _row("---", *("---:" if name != "why, in all" else "---" for name in columns), "---:")
    for name, found in _by_gateway(runs).items():
        fewer = "" if len(found) == len(seeds) else f" ({len(found)} of {len(seeds)} runs)"
        yield _row(name + fewer, *_cells(found))
    for name, why in scenario.without.items():
        yield _row(name, f"left out: it {why}", *([""] * len(columns)))


def _cells(runs: Sequence[Run]) -> Iterator[str]:
    yield _spread(runs, lambda run: run.share, _percent)
    why = {
        name.replace("_", " "): sum(getattr(run, name) for run in runs)
        for name in ("late_ttft", "late_tpot", "failed", "cut", "refused")
    }
    yield ", ".join(f"{count} {name}" for name, count in why.items() if count) or "-"
    yield _spread(runs, lambda run: run.goodput, lambda value: f"{value:.0f}")
    for read in (lambda run: run.ttft_p50, lambda run: run.ttft_p99, lambda run: run.tpot_p99):
        yield _spread(runs, read, lambda value: f"{value * 1000:.0f}")
    yield _spread(runs, lambda run: run.recovered, lambda value: f"{value:.0f}")
    yield _spread(runs, lambda run: run.cost, lambda value: f"{value:.2f}")


def _spread(runs: Sequence[Run], read: Callable[[Run], float | None], told: Callable[[float], str]) -> str:
    middle = Middle.of([read(run) for run in runs])
    if middle.low is None or middle.high is None:
        return "never"
    known = "never" if middle.median is None else told(middle.median)
    return known if told(middle.low) == told(middle.high) else f"{known} ({told(middle.low)} to {told(middle.high)})"


def _by_gateway(runs: Sequence[Run]) -> dict[str, list[Run]]:
    found = {name: [run for run in runs if run.gateway == name] for name in NAMES}
    return {name: each for name, each in found.items() if each}


def _percent(share: float) -> str:
    return f"{share * 100:.2f}"


def _anchor(title: str) -> str:
    return "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char == "-")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
