"""When the pairs of an SLO burn, as rules of Prometheus: the gateway's own alerts, as far as PromQL can say them.

A pair fires when its long window speaks and its short one confirms, and stays while the long one still burns at half
the factor and the short one confirmed a short window ago at most. Each pair records its burn rate while it does.
"""

from gateway.config.durations import format_duration
from gateway.policy.slo.alerts import BEYOND_CHANCE, AlertPair, Severity
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import MINUTE
from gateway.rules import recordings
from gateway.rules.recordings import EVERY_LONG
from gateway.rules.slo import MISSED, Document, Slo, alert_name, matchers, pairs_of

_LEAST_BAD = 4.5
"""Bad events that let a long window speak: 5, of which an increase may read a little less, since it extrapolates."""
_ONE, _TWO = 0.5, 1.5
"""One bad event, and two, read likewise."""
_KEPT = {Severity.PAGE: 5 * MINUTE, Severity.TICKET: 15 * MINUTE}
"""Seconds that an alert outlives its expression: evaluations that are missed must not resolve it."""
_TOLD = {Severity.PAGE: (HOUR, "hour"), Severity.TICKET: (DAY, "day")}


def states(slo: Slo, severity: Severity) -> list[Document]:
    """Return for each pair of a severity its confirmation by the short window, and its burn rate while it fires."""
    rules = []
    for pair in pairs_of(severity):
        rules += [_confirmed(slo, pair), _burning(slo, pair)]
    return rules


def alert(slo: Slo, severity: Severity) -> Document:
    """Return the one alert of all pairs of a severity.

    A ticket waits for an evaluation: where few events are enough for both, the page must come first.
    """
    waits = {"for": slo.scale.range(EVERY_LONG)} if severity is Severity.TICKET else {}
    return {
        "alert": alert_name(severity),
        "expr": "\nor\n".join(_alone(slo, pair) for pair in pairs_of(severity)),
        **waits,
        "keep_firing_for": slo.scale.range(_KEPT[severity]),
        "labels": {**slo.labels, "severity": str(severity), "sloth_severity": str(severity)},
        "annotations": _annotations(slo, severity),
    }


def burning(slo: Slo, pair: AlertPair) -> str:
    """Return the recorded burn rate of a pair, which is there while it fires."""
    return slo.recorded(f"slo:sli_burning:burn_rate{format_duration(pair.long)}")


def _confirmed(slo: Slo, pair: AlertPair) -> Document:
    """Record whether the short window burns too, or a quarter of the long one where the short holds too few events."""
    limit = _limit(slo, pair)

    def burns(window: float) -> str:
        failed, events = recordings.bad(slo, window), recordings.total(slo, window)
        return f"({failed} / ({events} > 0) > {limit})\nand ({failed} >= {_ONE})"

    few = f"({recordings.total(slo, pair.short)} * {_ratio(slo, pair)} < 3)"
    return {
        "record": _confirmation(pair),
        "expr": f"(\n{burns(pair.short)}\n)\nor\n(\n{burns(recordings.standin(pair))}\nand {few}\n)",
        "labels": slo.labels,
    }


def _burning(slo: Slo, pair: AlertPair) -> Document:
    weighted = f"({_ratio(slo, pair)} * {recordings.weight(slo, pair)}"
    confirmed, failed = slo.recorded(_confirmation(pair)), recordings.bad(slo, pair.long)
    limit = _limit(slo, pair)
    begins = (
        f"({failed} >= {_LEAST_BAD})",
        f"({recordings.wilson(slo, pair)} > {limit} or {_surprise(slo, pair)} >= {BEYOND_CHANCE})",
        f"{weighted} > {limit})",
        confirmed,
    )
    stays = (
        burning(slo, pair),
        f"({failed} >= {_TWO})",
        f"{weighted} > {limit} / 2)",
        f"max_over_time({confirmed}[{slo.scale.range(pair.short)}])",
    )
    either = "\n  or\n".join("  (" + "\n   and ".join(terms) + ")" for terms in (begins, stays))
    return {
        "record": f"slo:sli_burning:burn_rate{format_duration(pair.long)}",
        "expr": f"{_ratio(slo, pair)} / {slo.target.budget:.10g}\nand\n(\n{either}\n)",
        "labels": slo.labels,
    }


def _alone(slo: Slo, pair: AlertPair) -> str:
    """Return the condition of an alert that is silent if it begins while the whole, or a page, fires: one incident."""
    page, ticket = Severity
    wider = [_firing(slo.whole, each) for each in (page, ticket)[: 1 + (pair.severity is ticket)] if slo.part.labels]
    if pair.severity is ticket:
        wider.append(_firing(slo.id, page))
    own = burning(slo, pair)
    if not wider:
        return own
    begins = "".join(f" unless on() max_over_time({each}[{slo.scale.range(pair.short)}])" for each in wider)
    return f"(\n{own}{begins}\nor\n{own} and on() {_firing(slo.id, pair.severity)}\n)"


def _firing(identity: str, severity: Severity) -> str:
    names = {"alertname": alert_name(severity), "alertstate": "firing", "sloth_id": identity}
    return f"ALERTS{{{matchers(names)}}}"


def _ratio(slo: Slo, pair: AlertPair) -> str:
    return f"({recordings.bad(slo, pair.long)} / ({recordings.total(slo, pair.long)} > 0))"


def _surprise(slo: Slo, pair: AlertPair) -> str:
    """Return how unlikely so many bad events are where the budget is spent exactly, in nats."""
    failed = recordings.bad(slo, pair.long)
    expected = f"{recordings.total(slo, pair.long)} * {slo.target.budget:.10g}"
    return f"({failed} * ln({failed} / ({expected})) - {failed} + {expected})"


def _limit(slo: Slo, pair: AlertPair) -> str:
    return f"{pair.factor(slo.window):.10g} * {slo.target.budget:.10g}"


def _confirmation(pair: AlertPair) -> str:
    return f"slo:sli_confirmed:ratio{format_duration(pair.long)}"


def _annotations(slo: Slo, severity: Severity) -> dict[str, str]:
    """Return what a person reads: how soon the budget is gone, how many users it was, and what the target is."""
    window, (length, name) = format_duration(slo.window), _TOLD[severity]
    number = '{{ . | first | value | printf "%.0f" }}'
    failed = f"{{{{ with query `{recordings.bad(slo, length)}` }}}}{number}{{{{ end }}}}"
    events = f"{{{{ with query `{recordings.total(slo, length)}` }}}}{number}{{{{ end }}}}"
    remaining = slo.recorded("slo:period_error_budget_remaining:ratio").replace("%", "%%")
    left = f"(clamp_min({remaining}, 0) or on() vector(1))"
    seconds = f"{{{{ with printf `{left} * {slo.window * slo.scale.factor:g} / %f` $value | query }}}}"
    gone = (
        f"{seconds}{{{{ with . | first | value }}}}At this rate the budget of {window} is gone in "
        f"{{{{ . | humanizeDuration }}}}{{{{ else }}}}The budget of {window} is overspent{{{{ end }}}}{{{{ end }}}}"
    )
    return {
        "summary": f'{slo.sli} of {slo.subject} burns its error budget {{{{ $value | printf "%.3g" }}}} times too fast',
        "description": (
            f"{gone}; {failed} of {events} {MISSED[slo.sli]} in the last {name}{_worst(slo, length)}. "
            f"Target over {window}: {slo.target_words}."
        ),
    } | ({"runbook_url": slo.runbook_url} if slo.runbook else {})


def _worst(slo: Slo, length: float) -> str:
    query = slo.source.worst(slo.scale.range(length))
    if not query:
        return ""
    words = ', worst on {{ . | first | label "backend" }} ({{ . | first | value | printf "%.0f" }} attempts)'
    return f"{{{{ with query `{query}` }}}}{words}{{{{ end }}}}"
