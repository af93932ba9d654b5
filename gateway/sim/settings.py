"""How one simulated server is set up."""

from dataclasses import dataclass

from gateway.sim.profiles import GPU, Profile


@dataclass(frozen=True, slots=True)
class Settings:
    """One simulated server; times in seconds.

    `models` are the names it serves, the first of which is reported, `adapters` those of its
    LoRA adapters. `time_scale` multiplies the duration of every
    step: 0.1 is ten times faster, 0 as fast as the machine can. `output_tokens` fixes the length at which answers end
    by themselves, which is drawn at random otherwise. With `sleep_mode` it has the endpoints that vLLM has with
    `VLLM_SERVER_DEV_MODE=1`; waking it takes `wake_seconds`.
    """

    host: str = "127.0.0.1"
    port: int = 0
    control_port: int | None = None
    profile: Profile = GPU
    models: tuple[str, ...] = ("sim-model",)
    adapters: tuple[str, ...] = ()
    seed: int = 0
    time_scale: float = 1.0
    startup_seconds: float = 0.0
    output_tokens: int | None = None
    sse_keep_alive_interval: float | None = None
    max_num_queued_reqs: int | None = None
    api_keys: tuple[str, ...] = ()
    reasoning: bool = False
    reasoning_field: str = "reasoning"
    request_id_headers: bool = False
    prompt_tokens_details: bool = False
    old_metric_names: bool = False
    sleep_mode: bool = False
    wake_seconds: float = 0.0
    version: str = "0.32.0"
