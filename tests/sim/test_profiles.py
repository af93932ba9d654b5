import pytest

from gateway.sim.profiles import CPU, GPU, customised


def test_a_cpu_is_slower_and_smaller_than_a_gpu() -> None:
    assert GPU.prefill_rate > 10 * CPU.prefill_rate
    assert CPU.step_base > 4 * GPU.step_base
    assert GPU.max_num_seqs > CPU.max_num_seqs
    assert GPU.max_model_len > CPU.max_model_len


def test_numbers_are_changed_by_name() -> None:
    changed = customised(GPU, ["num_blocks=4096", "prefill_rate=1e4", "prefix_caching=0"])
    assert (changed.num_blocks, changed.prefill_rate, changed.prefix_caching) == (4096, 10_000.0, False)
    assert changed.max_num_seqs == GPU.max_num_seqs


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("speed=3", "write NAME=VALUE with one of prefill_rate, step_base"),
        ("name=x", "write NAME=VALUE"),
        ("num_blocks", "num_blocks is of type int"),
        ("num_blocks=1.5", "num_blocks is of type int"),
        ("prefix_caching=yes", "prefix_caching is 0 or 1"),
        ("num_blocks=3", "give at least 2048 blocks or lower max_model_len"),
        ("prefill_rate=0", "prefill_rate must be above 0"),
        ("prefill_rate=nan", "prefill_rate must be above 0"),
        ("step_base=-1", "must be at least 0"),
        ("max_num_seqs=0", "must be at least 1"),
        ("median_output_tokens=0", "must be at least 1"),
    ],
)
def test_a_wrong_change_is_refused_in_words_that_help(change: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        customised(GPU, [change])
