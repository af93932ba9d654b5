"""`docs/benchmarks.md`: every scenario over all gateways, from the runs."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from loadtest.scenarios.chart import dots
from loadtest.scenarios.gateways import NAMES, ROUND_ROBIN, TIDEGATE
from loadtest.scenarios.intervals import FEWER, LIKE, MORE, Comparison, Rate, best, percent
from loadtest.scenarios.peers import NGINX_ROUND_ROBIN
from loadtest.scenarios.runs import Middle, Run
from loadtest.scenarios.scenario import Scenario

CHART = "benchmarks.svg"
_OURS = frozenset((TIDEGATE, ROUND_ROBIN))

_HEAD = """# Benchmarks

What users experience when something goes wrong, behind several gateways. Written by `make scenarios`; every run's
figures are in [benchmarks.csv](benchmarks.csv), and each run leaves a recording of every request in `out/scenarios/`.

- **Side by side**: one run plays a scenario (`loadtest/scenarios/*.yaml`) through all gateways at the same time, each
  with engines of its own: the same requests at the same moments, the same faults. LiteLLM needs a core for itself at
  these rates, so it plays alone, and only in two scenarios.
- **Missed**: late first token, slow tokens, failed, cut or refused, seen by the client; all requests due in the judged
  span count, with times from when they were due.
- **Intervals** are at 95 %: the mean over the seeds, and Student's interval. Gateways are compared within each seed, in
  which they had the same requests. Where none was missed, the upper end is three in the number of requests.
- **Engines are simulated** (`tidegate sim`: continuous batching, chunked prefill, KV cache), so that two cores suffice.
  A run counts only if the load came in time and no other program was busy.

## What each gateway was given

- Gateways are told the same: where Tidegate's routes name limits, classes, weights or pools, the others have what their
  documentation offers for it. These scenarios are marked \u2020: what is compared there is configuration as much as the
  gateway, and each section says who was told what. Everywhere else no gateway knows more than where the engines are.
- **nginx**: `max_fails=3 fail_timeout=10s` for each engine, `proxy_read_timeout 10s`, failed POSTs repeated
  (`non_idempotent`, more than the default). Active checks and a slow start need a subscription.
- **HAProxy**: checks each second, `observe layer7` with `on-error mark-down`, `slowstart`, `maxconn` and a queue,
  retries on any failure before the answer.
- **Envoy**: least requests over all engines, checks each second, outlier detection by consecutive failures, success
  rate and failure percentage (broken connections apart), slow start, retries on engines not tried yet, a retry budget.
  Adaptive concurrency is left out: at an easy load without a fault (12 requests a second on four engines) it refused
  41 of 529, since it lets few requests through while it measures, and how long an answer takes depends on its length.
- The files are in `loadtest/scenarios/conf/`; a scenario with one of its own has it in a folder of its name.
- **sglang-router, vllm-router, LiteLLM**: as they come, LiteLLM with two retries and cooldowns. They check engines and
  have circuit breakers by default. gorgo-lb is left out: its package has routing policies, and no server.
- **Tidegate** has its defaults (it waits for a first token for 30 s, not 10), but for what a scenario's file says under
  `tidegate`. **Tidegate round robin** is
  Tidegate with everything but its choice of an engine: where it is as good, configuration alone decides.
"""


def document(runs: Sequence[Run], scenarios: Sequence[Scenario], facts: Mapping[str, str]) -> str:
    """Return the page for these runs; scenarios without runs are left out."""
    played = [scenario for scenario in scenarios if any(run.scenario == scenario.name for run in runs)]
    parts = [_HEAD, "\n".join(f"- {name}: {value}" for name, value in facts.items()), "\n## All scenarios\n"]
    parts += _overview(runs, played)
    parts += _summary(runs, played)
    for scenario in played:
        parts += _section([run for run in runs if run.scenario == scenario.name], scenario)
    return "\n".join(parts) + "\n"


def chart(runs: Sequence[Run], scenarios: Sequence[Scenario]) -> str:
    """Return the overview as a picture, SVG."""
    rows = {
        scenario.title: {
            name: Rate.of(found)
            for name, found in _by_gateway([run for run in runs if run.scenario == scenario.name]).items()
        }
        for scenario in scenarios
    }
    played = {title: rates for title, rates in rows.items() if rates}
    return dots(played, [name for name in NAMES if any(name in rates for rates in played.values())])


def verdicts(runs: Sequence[Run], scenario: Scenario) -> list[tuple[str, bool]]:
    """Return in words how Tidegate compares in a scenario, and whether that is what was aimed at."""
    by = _by_gateway(runs)
    ours = by.get(TIDEGATE, [])
    peers = {name: found for name, found in by.items() if name not in _OURS}
    turns = {name: found for name, found in by.items() if name == NGINX_ROUND_ROBIN}
    told = []
    for others, aim in ((peers, scenario.aim), (turns, scenario.aim_round_robin)):
        if ours and others and (others is peers or aim > 1):
            comparison = best(ours, others)
            reached = comparison.reaches(aim)
            least = f"aim {aim:g}x" if aim > 1 else "aim: not worse"
            told.append((f"{comparison.told()} ({least}{'' if reached else ', not reached'})", reached))
    return told


def _overview(runs: Sequence[Run], scenarios: Sequence[Scenario]) -> Iterator[str]:
    names = [name for name in NAMES if any(run.gateway == name for run in runs)]
    yield f"![Missed requests by scenario and gateway, with intervals]({CHART})\n"
    yield _row("missed, per cent", *names)
    yield _row(*("---", *("---:" for _ in names)))
    for scenario in scenarios:
        by = _by_gateway([run for run in runs if run.scenario == scenario.name])
        cells = [_cell(Rate.of(by[name])) if name in by else "-" for name in names]
        mark = " \u2020" if scenario.configured else ""
        yield _row(f"[{scenario.title}](#{_anchor(scenario.title)}){mark}", *cells)


def _cell(rate: Rate) -> str:
    """Return a rate as short as a table wants it."""
    low, high = rate.share.low, rate.share.high
    if not rate.missed:
        return f"0 (<{percent(high or 0.0)})"
    return (
        percent(rate.share.mean)
        if low is None or high is None
        else f"{percent(rate.share.mean)} ({percent(low)} to {percent(high)})"
    )


def _summary(runs: Sequence[Run], scenarios: Sequence[Scenario]) -> Iterator[str]:
    """Say where Tidegate missed less, where it did not, and where more, each as plainly."""
    lines: dict[str, list[str]] = {FEWER: [], LIKE: [], MORE: []}
    for scenario in scenarios:
        by = _by_gateway([run for run in runs if run.scenario == scenario.name])
        ours, peers = by.get(TIDEGATE), {name: found for name, found in by.items() if name not in _OURS}
        if not ours or not peers:
            continue
        compared = [Comparison.of(name, ours, found) for name, found in peers.items()]
        better = [each for each in compared if each.verdict == MORE]
        closest = min(compared, key=lambda each: each.theirs.share.mean)
        mark = " \u2020" if scenario.configured else ""
        alone = _configuration_alone(ours, by.get(ROUND_ROBIN, [])) if closest.verdict == FEWER else ""
        for each in better or [closest]:
            lines[each.verdict].append(f"- {scenario.title}{mark}: {each.told()}.{alone}")
    titles = {
        FEWER: "Tidegate missed fewer than every other gateway",
        LIKE: "No difference from the best other gateway is shown",
        MORE: "Another gateway missed fewer",
    }
    for verdict, title in titles.items():
        yield f"\n### {title}\n"
        yield "\n".join(lines[verdict]) or "None."


def _configuration_alone(ours: Sequence[Run], turns: Sequence[Run]) -> str:
    if not turns or Comparison.of(ROUND_ROBIN, ours, turns).verdict == FEWER:
        return ""
    return " Tidegate round robin shows no difference: configuration alone does it."


def _section(runs: Sequence[Run], scenario: Scenario) -> Iterator[str]:
    yield f"\n## {scenario.title}\n"
    yield f"{scenario.about}\n"
    if scenario.configured:
        yield f"\u2020 {scenario.configured}\n"
    objective = scenario.objective
    long_prompts = "".join(
        f", {under:g} s from {tokens} prompt tokens on" for tokens, under in objective.long_prompts.items()
    )
    scaled = f" Engines run {scenario.time_scale:g} times slower than real ones." if scenario.time_scale != 1 else ""
    seeds = sorted({run.seed for run in runs})
    yield (
        f"Objective: TTFT within {objective.ttft * 1000:g} ms{long_prompts}, TPOT within {objective.tpot * 1000:g} ms."
        f"{scaled} {len(seeds)} repetitions (seeds {', '.join(map(str, seeds))}), "
        f"{min(run.requests for run in runs)} to {max(run.requests for run in runs)} requests "
        f'judged in each; figures beside "missed" are medians, lowest and highest in brackets. '
        f'`make scenarios ARGS="--only {scenario.name}"`\n'
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
    several = ["missed by stream; unanswered where not judged"] if any(run.streams for run in runs) else []
    yield _row("gateway", *columns, "cost of 1M goodput tokens", *several)
    yield _row(
        "---", *("---:" if name != "why, in all" else "---" for name in columns), "---:", *("---" for _ in several)
    )
    for name, found in _by_gateway(runs).items():
        fewer = "" if len(found) == len(seeds) else f" ({len(found)} of {len(seeds)} runs)"
        yield _row(name + fewer, *_cells(found), *(_of_streams(found) for _ in several))
    for name, why in scenario.without.items():
        yield _row(name, f"left out: it {why}", *([""] * (len(columns) + len(several))))


def _cells(runs: Sequence[Run]) -> Iterator[str]:
    yield _cell(Rate.of(runs))
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


def _of_streams(runs: Sequence[Run]) -> str:
    """Add up what was missed of each stream, over all repetitions."""
    missed: Counter[str] = Counter()
    due: Counter[str] = Counter()
    for name, _, counts in (each.partition("=") for run in runs for each in run.streams.split()):
        few, _, many = counts.partition("/")
        missed[name] += int(few)
        due[name] += int(many)
    return ", ".join(f"{name} {percent(missed[name] / max(1, due[name]))} %" for name in due)


def _spread(runs: Sequence[Run], read: Callable[[Run], float | None], told: Callable[[float], str]) -> str:
    middle = Middle.of([read(run) for run in runs])
    if middle.low is None or middle.high is None:
        return "never"
    known = "never" if middle.median is None else told(middle.median)
    return known if told(middle.low) == told(middle.high) else f"{known} ({told(middle.low)} to {told(middle.high)})"


def _by_gateway(runs: Sequence[Run]) -> dict[str, list[Run]]:
    found = {name: [run for run in runs if run.gateway == name] for name in NAMES}
    return {name: each for name, each in found.items() if each}


def _anchor(title: str) -> str:
    return "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char == "-")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
