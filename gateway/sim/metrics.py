"""/metrics of the simulated engine, under the names that vLLM uses now or used before 0.12."""

import time
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.sim.engine import Engine, Sequence, Step

_LONG = (1, 2.5, 5, 7.5, 10, 20, 40, 80)
_TTFT = (.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, *_LONG, 160, 640, 2560)  # fmt: skip
_ITL = (.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, *_LONG)  # fmt: skip
_LATENCY = (.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)  # fmt: skip
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
_LABELS = ("engine", "model_name")


class Recorder:
    """Counts what the engine did and shows it to Prometheus; one for each simulated server.

    `adapters` is how many LoRA adapters it serves.
    """

    def __init__(self, engine: Engine, model: str, *, adapters: int, old_names: bool) -> None:
        self.registry = CollectorRegistry()
        self.finished: dict[str, int] = dict.fromkeys(_FINISH_REASONS, 0)
        self.rejected = 0
        self._values = ("0", model)
        itl = "time_per_output_token_seconds" if old_names else "inter_token_latency_seconds"
        self._ttft = self._histogram("time_to_first_token_seconds", "time to first token in seconds", _TTFT)
        self._itl = self._histogram(itl, "inter-token latency in seconds", _ITL)
        self._tpot = self._histogram("request_time_per_output_token_seconds", "mean ITL per request", _ITL)
        self._e2e = self._histogram("e2e_request_latency_seconds", "e2e request latency in seconds", _LATENCY)
        self._queue = self._histogram("request_queue_time_seconds", "time spent in WAITING phase", _LATENCY)
        self._inference = self._histogram("request_inference_time_seconds", "time spent in RUNNING phase", _LATENCY)
        self._prefill = self._histogram("request_prefill_time_seconds", "time spent in PREFILL phase", _LATENCY)
        self._decode = self._histogram("request_decode_time_seconds", "time spent in DECODE phase", _LATENCY)
        self._prompts = self._histogram("request_prompt_tokens", "prefill tokens per request", _TOKENS)
        self._generations = self._histogram("request_generation_tokens", "generation tokens per request", _TOKENS)
        self._n = self._histogram("request_params_n", "the n request parameter", (1, 2, 5, 10, 20))
        self._steps = self._histogram("iteration_tokens_total", "number of tokens per engine_step", _STEP_TOKENS)
        self.registry.register(_EngineState(self, engine, self._values, adapters=adapters, old_names=old_names))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def requested(self, n: int) -> None:
        """Count a generation request that was accepted."""
        self._n.observe(n)

    def stepped(self, step: Step) -> None:
        """Count the tokens of a forward pass."""
        self._steps.observe(step.tokens)

    def produced(self, sequence: Sequence) -> None:
        """Record one more token of a sequence, which may be its last."""
        if sequence.produced == 1:
            self._ttft.observe(sequence.latency)
        else:
            self._itl.observe(sequence.latency)
        if sequence.finished:
            self._finish(sequence)

    def _finish(self, sequence: Sequence) -> None:
        first, last = sequence.first_token or 0.0, sequence.last_token or 0.0
        scheduled = sequence.scheduled or 0.0
        self.finished[sequence.finish_reason] += 1
        self._e2e.observe(last - sequence.arrived)
        self._queue.observe(scheduled - sequence.arrived)
        self._inference.observe(last - scheduled)
        self._prefill.observe(first - scheduled)
        self._decode.observe(last - first)
        self._tpot.observe((last - first) / max(1, sequence.produced - 1))
        self._prompts.observe(sequence.prompt_tokens)
        self._generations.observe(sequence.produced)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(f"vllm:{name}", f"Histogram of {what}.", _LABELS, buckets=buckets, registry=self.registry)
        return histogram.labels(*self._values)


class _EngineState(Collector):
    """Gauges and counters read from the engine at the time of the scrape."""

    def __init__(
        self, recorder: Recorder, engine: Engine, values: tuple[str, str], *, adapters: int, old_names: bool
    ) -> None:
        self._recorder = recorder
        self._engine = engine
        self._values = values
        self._adapters = adapters
        self._old_names = old_names
        self._created = time.time()

    def collect(self) -> Iterator[Metric]:
        engine, tally = self._engine, self._engine.tally
        cache = "gpu_cache_usage_perc" if self._old_names else "kv_cache_usage_perc"
        prefix = "gpu_prefix_cache" if self._old_names else "prefix_cache"
        running = len(engine.running) + engine.delayed
        yield self._gauge("num_requests_running", "Number of requests in model execution batches.", running)
        yield self._gauge("num_requests_waiting", "Number of requests waiting to be processed.", engine.queued)
        yield self._gauge(cache, "KV-cache usage. 1 means 100 percent usage.", engine.kv_usage)
        yield self._counter(f"{prefix}_queries", "Prefix cache queries, in queried tokens.", tally.prefix_queries)
        yield self._counter(f"{prefix}_hits", "Prefix cache hits, in cached tokens.", tally.prefix_hits)
        yield self._counter("num_preemptions", "Cumulative number of preemption from the engine.", tally.preemptions)
        yield self._counter("prompt_tokens", "Number of prefill tokens processed.", tally.prompt_tokens)
        yield self._counter("generation_tokens", "Number of generation tokens processed.", tally.generation_tokens)
        yield self._successes()
        yield self._cache_config()
        if self._adapters:
            yield self._loras()
        if not self._old_names:
            yield from self._recent_families()

    def _recent_families(self) -> Iterator[Metric]:
        reasons = GaugeMetricFamily(
            "vllm:num_requests_waiting_by_reason",
            "Number of waiting requests by reason.",
            labels=(*_LABELS, "reason"),
        )
        reasons.add_metric((*self._values, "capacity"), self._engine.queued)
        reasons.add_metric((*self._values, "deferred"), 0)
        yield reasons
        sleep = GaugeMetricFamily("vllm:engine_sleep_state", "Engine sleep state.", labels=(*_LABELS, "sleep_state"))
        for level, state in enumerate(("awake", "weights_offloaded", "discard_all")):
            sleep.add_metric((*self._values, state), level == self._engine.sleep_level)
        yield sleep
        rejections = CounterMetricFamily(
            "vllm:admission_rejections",
            "Number of admission attempts rejected by a queue limit, by reason.",
            labels=("model_name", "reason"),
        )
        rejected = {"max_num_queued_reqs": self._recorder.rejected, "max_num_queued_tokens": 0}
        for reason, count in rejected.items():
            rejections.add_metric((self._values[1], reason), count, created=self._created)
        yield rejections

    def _gauge(self, name: str, help_text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", help_text, labels=_LABELS)
        family.add_metric(self._values, value)
        return family

    def _counter(self, name: str, help_text: str, value: int) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", help_text, labels=_LABELS)
        family.add_metric(self._values, value, created=self._created)
        return family

    def _successes(self) -> Metric:
        family = CounterMetricFamily(
            "vllm:request_success",
            "Count of successfully processed requests.",
            labels=("engine", "finished_reason", "model_name"),
        )
        engine, model = self._values
        for reason, count in self._recorder.finished.items():
            family.add_metric((engine, reason, model), count, created=self._created)
        return family

    def _loras(self) -> Metric:
        engine = self._engine
        labels = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
        family = GaugeMetricFamily("vllm:lora_requests_info", "Running stats on lora requests.", labels=labels)
        running, waiting = (
            ",".join(sorted({sequence.adapter for sequence in group if sequence.adapter}))
            for group in (engine.running, engine.waiting)
        )
        family.add_metric((str(self._adapters), running, waiting), time.time())
        return family

    def _cache_config(self) -> Metric:
        profile = self._engine.profile
        labels = {
            "block_size": str(profile.block_size),
            "cache_dtype": "auto",
            "enable_prefix_caching": str(profile.prefix_caching),
            "engine": self._values[0],
            "gpu_memory_utilization": "0.92",
            "kv_cache_size_tokens": str(profile.num_blocks * profile.block_size),
            "num_cpu_blocks": "None",
            "num_gpu_blocks": str(profile.num_blocks),
            "num_gpu_blocks_override": "None",
            "sliding_window": "None",
        }
        info = "Information of the LLMEngine CacheConfig"
        family = GaugeMetricFamily("vllm:cache_config_info", info, labels=tuple(labels))
        family.add_metric(tuple(labels.values()), 1)
        return family
