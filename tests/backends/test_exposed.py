"""Reading an engine's metrics with one pattern gives what a full parser gives."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.backends.exposed import EngineMetrics, extract
from gateway.backends.probe import listed

names = st.sampled_from(["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc"])
labels = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
values = st.floats(0, 1e9) | st.just(float("nan")) | st.floats(0, 1)
CAPTURES = Path(__file__).parents[1] / "captures"
NAMES = (
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "num_preemptions_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
)
series = st.dictionaries(st.tuples(names, labels, st.sampled_from("01")), values, max_size=12)


@given(series)
def test_sums_over_engines_equal_a_full_parse(rows: dict[tuple[str, str, str], float]) -> None:
    registry = CollectorRegistry()
    gauges = {
        name: Gauge(f"vllm:{name}", "-", ["model_name", "engine"], registry=registry)
        for name in {n for n, _, _ in rows}
    }
    for (name, model, engine), value in rows.items():
        gauges[name].labels(model, engine).set(value)
    text = generate_latest(registry)
    parsed: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            parsed.setdefault(sample.name.removeprefix("vllm:"), []).append(sample.value)
    read = extract(text)

    def sane(most: float, *names: str) -> list[float]:
        told = next((parsed[name] for name in names if name in parsed), [])
        return told if all(0 <= value <= most for value in told) else []

    running, waiting = sane(1e6, "num_requests_running"), sane(1e6, "num_requests_waiting")
    usage = sane(1.01, "kv_cache_usage_perc", "gpu_cache_usage_perc")
    assert read.running == (sum(running) if running else None)
    assert read.waiting == (sum(waiting) if waiting else None)
    assert read.kv_usage == (min(1.0, sum(usage) / len(usage)) if usage else None)


ABSURD = ["-1", "NaN", "+Inf", "-Inf", "1e300", "1e9999", "junk", "-0.001"]


@pytest.mark.parametrize("value", ABSURD)
def test_what_cannot_be_is_unknown(value: str) -> None:
    lines = [f'vllm:{name}{{engine="0"}} {value}' for name in NAMES]
    assert extract("\n".join(lines).encode()) == EngineMetrics()


@pytest.mark.parametrize("value", ABSURD)
def test_one_rank_that_tells_nonsense_makes_the_sum_unknown(value: str) -> None:
    text = f'vllm:num_requests_running{{engine="0"}} 3\nvllm:num_requests_running{{engine="1"}} {value}\n'
    assert extract(text.encode()).running is None


@pytest.mark.parametrize(("blocks", "size"), [("-5", "-16"), ("0", "16"), ("1", "0"), ("9" * 30, "16"), ("nan", "16")])
def test_a_cache_that_cannot_be_is_unknown(blocks: str, size: str) -> None:
    text = f'vllm:cache_config_info{{block_size="{size}",num_gpu_blocks="{blocks}"}} 1.0\n'
    assert extract(text.encode()).kv_capacity is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"id":"m","max_model_len":%b}]}' % value
        for value in (b"-1", b"0", b"NaN", b"true", b"1e30", b"9" * 30, b'"8192"')
    ],
)
def test_a_context_that_cannot_be_is_unknown(body: bytes) -> None:
    assert listed(body) == {"m": None}


def test_a_list_of_models_that_nests_without_end_is_none() -> None:
    assert listed(b"[" * 200_000) is None


@given(st.binary(max_size=400))
def test_garbage_is_nothing(body: bytes) -> None:
    assert extract(body) == EngineMetrics()


def test_adapters_and_sleep() -> None:
    body = (
        b'vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters=""} 1.7e9\n'
        b'vllm:lora_requests_info{max_lora="4",running_lora_adapters="b",waiting_lora_adapters=""} 1.6e9\n'
        b'vllm:engine_sleep_state{engine="0",sleep_state="awake"} 0.0\n'
        b'vllm:engine_sleep_state{engine="0",sleep_state="weights_offloaded"} 1.0\n'
        b'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1.0\n'
    )
    read = extract(body)
    assert (read.adapters, read.sleeping, read.kv_capacity) == (("a", "b"), True, None)


def test_the_cache_of_several_ranks_is_not_counted_twice() -> None:
    body = b"".join(
        b'vllm:cache_config_info{block_size="16",engine="%d",num_gpu_blocks="2000"} 1.0\n' % rank for rank in range(2)
    )
    assert extract(body).kv_capacity == 32_000


def test_what_a_real_engine_says() -> None:
    body = (CAPTURES / "vllm-opts/metrics_noauth.txt").read_bytes().partition(b"\r\n\r\n")[2]
    assert extract(body) == EngineMetrics(
        running=0.0,
        waiting=0.0,
        kv_usage=0.0,
        kv_capacity=2_097_152,
        preemptions=0.0,
        prefix_queries=0.0,
        prefix_hits=0.0,
        sleeping=False,
        generated=0.0,
    )


def test_only_whole_names_at_the_beginning_of_a_line_count() -> None:
    body = (
        b"vllm:num_requests_running 1\n"
        b"# vllm:num_requests_running 2\n"
        b' vllm:num_requests_running 4\nvllm:num_requests_running_by{x="1"} 8\n'
        b'vllm:other{x="\\nvllm:num_requests_running 16"} 1\n'
        b'vllm:cache_config_info{other_block_size="3", block_size="16",x=",num_gpu_blocks",num_gpu_blocks="2"} 1'
    )
    read = extract(body)
    assert (read.running, read.kv_capacity) == (1.0, 32)
