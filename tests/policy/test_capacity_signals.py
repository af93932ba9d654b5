"""What engines of several kinds say of their load, in their own names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.capacity.signals import ENGINES, Gauge, SignalMap, kind_of, read_signals
from gateway.policy.capacity.want import EngineLoad

BODIES = {
    "vllm": b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.25
""",
    "jetstream": b"""# TYPE jetstream_prefill_backlog_size gauge
jetstream_prefill_backlog_size{id="SOME-HOSTNAME"} 5.0
jetstream_slots_used_percentage{id="SOME-HOSTNAME",idx="0"} 0.5
jetstream_slots_used_percentage{id="SOME-HOSTNAME",idx="1"} 1.0
""",
    "triton": b"""nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 1
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="active",version="1"} 6
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 8
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.4
nv_inference_pending_request_count{model="tensorrt_llm",version="1"} 9
""",
    "sglang": b"""sglang:num_running_reqs{model_name="m"} 8.0
sglang:num_queue_reqs{model_name="m"} 4.0
sglang:token_usage{model_name="m"} 0.52
""",
    "tgi": b"""# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 4
# TYPE tgi_queue_size gauge
tgi_queue_size 7
""",
}


@pytest.mark.parametrize(
    ("kind", "load"),
    [
        ("vllm", EngineLoad(backlog=2.0, kv_used=0.375, running=4.0)),
        ("jetstream", EngineLoad(backlog=5.0, slots_used=0.75)),
        ("triton", EngineLoad(backlog=1.0, slots_used=0.75, kv_used=0.4, running=6.0)),
        ("sglang", EngineLoad(backlog=4.0, kv_used=0.52, running=8.0)),
        ("tgi", EngineLoad(backlog=7.0, running=4.0)),
    ],
)
def test_each_kind_is_known_by_its_names(kind: str, load: EngineLoad) -> None:
    assert kind_of(BODIES[kind]) == kind
    assert read_signals(BODIES[kind], ENGINES[kind]) == load


def test_an_exposition_of_something_else_says_nothing() -> None:
    body = b"# HELP up 1\nprocess_cpu_seconds_total 5\nvllm:num_requests_running_total 4\n"
    assert kind_of(body) == ""
    assert read_signals(body, ENGINES["vllm"]) == EngineLoad()


@pytest.mark.parametrize("value", [b"-1", b"NaN", b"+Inf", b"-Inf", b"1e7", b"soon"])
def test_requests_that_cannot_be_are_unknown(value: bytes) -> None:
    body = b"tgi_queue_size " + value + b"\ntgi_batch_current_size 4\n"
    assert read_signals(body, ENGINES["tgi"]) == EngineLoad(running=4.0)
    ranks = b'vllm:num_requests_waiting{engine="0"} 3\nvllm:num_requests_waiting{engine="1"} ' + value + b"\n"
    assert read_signals(ranks, ENGINES["vllm"]).backlog is None  # the rest of a sum would be too little


@pytest.mark.parametrize("value", [b"-0.1", b"NaN", b"1.5", b"50"])
def test_shares_that_cannot_be_are_unknown(value: bytes) -> None:
    assert read_signals(b"vllm:kv_cache_usage_perc " + value + b"\n", ENGINES["vllm"]).kv_used is None


def test_a_share_that_is_a_little_above_all_is_all() -> None:
    assert read_signals(b"vllm:gpu_cache_usage_perc 1.005\n", ENGINES["vllm"]).kv_used == 1.0


def test_slots_that_are_none_are_unknown() -> None:
    body = BODIES["triton"].replace(b'"max",version="1"} 8', b'"max",version="1"} 0')
    assert read_signals(body, ENGINES["triton"]).slots_used is None


def test_any_exposition_can_be_mapped() -> None:
    own = SignalMap(
        backlog=(Gauge("my_depth", {"queue": "main"}),),
        kv_used=(Gauge("cache_percent", scale=0.01),),
    )
    body = b'my_depth{queue="other"} 9\nmy_depth {queue="main",note="a } \\" b"} 3 1712345678\ncache_percent 50\n'
    assert read_signals(body, own) == EngineLoad(backlog=3.0, kv_used=0.5)
    assert own.metrics == {b"my_depth", b"cache_percent"}


@given(st.binary(max_size=300), st.sampled_from(sorted(ENGINES)))
def test_no_body_breaks_it_or_says_what_cannot_be(body: bytes, kind: str) -> None:
    load = read_signals(BODIES[kind] + body + BODIES[kind], ENGINES[kind])
    for share in (load.slots_used, load.kv_used):
        assert share is None or 0 <= share <= 1
    for count in (load.backlog, load.running):
        assert count is None or count >= 0


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=5))
def test_ranks_are_summed_as_one_would_by_hand(values: list[float]) -> None:
    body = "".join(f'vllm:num_requests_waiting{{engine="{rank}"}} {value!r}\n' for rank, value in enumerate(values))
    told = read_signals(body.encode(), ENGINES["vllm"]).backlog
    assert told == (sum(values) if all(0 <= each <= 1e6 for each in values) else None)
