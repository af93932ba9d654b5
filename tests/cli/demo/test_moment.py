"""What the tour reads from the gateway's metrics."""

import math

from gateway.cli.demo.exposition import parse
from gateway.cli.demo.moment import ClassMoment, moment

EXPOSITION = """\
# TYPE tidegate_judged_requests counter
tidegate_judged_requests_total{model="m",objective="interactive",verdict="good",version="v1"} 90
tidegate_judged_requests_total{model="m",objective="interactive",verdict="good",version="v2"} 9
tidegate_judged_requests_total{model="m",objective="interactive",verdict="bad",version="v1"} 1
tidegate_judged_requests_total{model="m",objective="offline",verdict="good",version="v1"} 4
# TYPE tidegate_retries counter
tidegate_retries_total{reason="server_error"} 3
tidegate_retries_total{reason="stalled"} 2
# TYPE tidegate_burn_rate gauge
tidegate_burn_rate{subject="backend",name="gpu/a",objective="o",sli="availability",prompt_tokens="",window="10s"} 31
tidegate_burn_rate{subject="backend",name="gpu/a",objective="o",sli="ttft",prompt_tokens="",window="10s"} 2
tidegate_burn_rate{subject="backend",name="gpu/a",objective="o",sli="ttft",prompt_tokens="",window="1m"} 99
tidegate_burn_rate{subject="model",name="m",objective="o",sli="ttft",prompt_tokens="",window="10s"} 99
# TYPE tidegate_backend_ejection gauge
tidegate_backend_ejection{backend="gpu/a",pool="gpu",state="in_service"} 0
tidegate_backend_ejection{backend="gpu/a",pool="gpu",state="ejected"} 1
# TYPE tidegate_queue_depth gauge
tidegate_queue_depth{class="batch",model="m",version="v1"} 12
tidegate_queue_depth{class="batch",model="m",version="v2"} 3
# TYPE tidegate_shed counter
tidegate_shed_total{class="batch",model="m",reason="predicted_wait",version="v1"} 5
tidegate_shed_total{class="batch",model="m",reason="waited_too_long",version="v1"} 6
# TYPE tidegate_queue_seconds histogram
tidegate_queue_seconds_bucket{class="interactive",le="0.01"} 98
tidegate_queue_seconds_bucket{class="interactive",le="+Inf"} 100
"""


def test_everything_that_the_tour_tells_of_is_read() -> None:
    seen = moment(parse(EXPOSITION), at=7.0, rollout={"phase": "idle"})

    assert seen.at == 7.0
    assert (seen.met, seen.missed) == ({"interactive": 99, "offline": 4}, {"interactive": 1})
    assert seen.retries == 5
    assert seen.burn == {"gpu/a": 31.0}
    assert seen.ejection == {"gpu/a": "ejected"}
    assert seen.classes == {
        "batch": ClassMoment(waiting=15, shed=11, queued={}),
        "interactive": ClassMoment(waiting=0, shed=0, queued={0.01: 98.0, math.inf: 100.0}),
    }
    assert seen.rollout == {"phase": "idle"}


def test_a_gateway_that_has_served_nothing_yet_can_be_read() -> None:
    seen = moment(parse(""), at=0.0, rollout={})

    assert (seen.met, seen.missed, seen.retries, seen.burn, seen.classes) == ({}, {}, 0, {}, {})
