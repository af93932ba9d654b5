"""Reading an engine's metrics with one pattern gives what a full parser gives."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.backends.exposed import EngineMetrics, extract

names = st.sampled_from(["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc"])
labels = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
values = st.floats(0, 1e9) | st.just(float("nan")) | st.integers(0, 10**12).map(float)
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
            if sample.value == sample.value:
                parsed.setdefault(sample.name.removeprefix("vllm:"), []).append(sample.value)
    read = extract(text)
    assert read.running == (sum(parsed["num_requests_running"]) if "num_requests_running" in parsed else None)
    assert read.waiting == (sum(parsed["num_requests_waiting"]) if "num_requests_waiting" in parsed else None)
    usage = parsed.get("kv_cache_usage_perc") or parsed.get("gpu_cache_usage_perc")
    assert read.kv_usage == (sum(usage) / len(usage) if usage else None)


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
