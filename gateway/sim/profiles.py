"""What a simulated engine is made of: its speed, its batch and its KV cache."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any


@dataclass(frozen=True, slots=True)
class Profile:
    """Speed and size of one engine, in the terms of vLLM's own settings.

    A step that decodes S sequences while K tokens lie in the KV cache and P prompt tokens are prefilled takes
    `step_base + S * step_per_sequence + K * step_per_kv_token + P / prefill_rate` seconds, give or take `jitter`
    (a ratio). Raises ValueError when a sequence of `max_model_len` tokens would not fit into the KV cache, which
    vLLM refuses as well.
    """

    name: str
    prefill_rate: float
    step_base: float
    step_per_sequence: float
    step_per_kv_token: float
    max_num_seqs: int
    max_num_batched_tokens: int
    num_blocks: int
    max_model_len: int
    median_output_tokens: int
    block_size: int = 16
    prefix_caching: bool = True
    jitter: float = 0.03

    def __post_init__(self) -> None:
        if min(self.max_num_seqs, self.max_num_batched_tokens, self.block_size, self.max_model_len) < 1:
            raise ValueError("max_num_seqs, max_num_batched_tokens, block_size and max_model_len must be at least 1")
        if not 0 < self.prefill_rate < inf or not 0 <= self.jitter < 1:
            raise ValueError("prefill_rate must be above 0 and jitter from 0 to below 1")
        if not all(0 <= seconds < inf for seconds in (self.step_base, self.step_per_sequence, self.step_per_kv_token)):
            raise ValueError("step_base, step_per_sequence and step_per_kv_token must be at least 0")
        if self.median_output_tokens < 1:
            raise ValueError("median_output_tokens must be at least 1")
        if self.num_blocks * self.block_size < self.max_model_len:
            raise ValueError(
                f"{self.num_blocks} KV blocks of {self.block_size} tokens cannot hold one sequence of "
                f"max_model_len={self.max_model_len} tokens: give at least "
                f"{-(-self.max_model_len // self.block_size)} blocks or lower max_model_len"
            )


GPU = Profile(
    name="gpu",
    prefill_rate=20_000.0,
    step_base=0.0115,
    step_per_sequence=0.00012,
    step_per_kv_token=5e-8,
    max_num_seqs=256,
    max_num_batched_tokens=2048,
    num_blocks=8192,
    max_model_len=32_768,
    median_output_tokens=200,
)
"""About one current data-centre GPU with a model of 8 billion parameters."""

CPU = Profile(
    name="cpu",
    prefill_rate=600.0,
    step_base=0.055,
    step_per_sequence=0.004,
    step_per_kv_token=1e-6,
    max_num_seqs=12,
    max_num_batched_tokens=256,
    num_blocks=1024,
    max_model_len=8192,
    median_output_tokens=120,
)
"""About one 32-core server with the same model, quantised."""


def customised(profile: Profile, changes: Iterable[str]) -> Profile:
    """Change a profile by texts such as `name=value`. Raises ValueError with what is wrong and how to fix it."""
    numbers = [field.name for field in fields(Profile) if field.name != "name"]
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in numbers:
            raise ValueError(f"{change!r}: write NAME=VALUE with one of {', '.join(numbers)}")
        kind = type(getattr(profile, name))
        try:
            values[name] = bool(int(text)) if kind is bool else kind(text)
        except ValueError:
            raise ValueError(
                f"{change!r}: {name} is {'0 or 1' if kind is bool else f'of type {kind.__name__}'}"
            ) from None
    return replace(profile, **values)
