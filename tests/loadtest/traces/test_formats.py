import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.traces.formats import Arrival, TraceError, read_trace, repeated

SAMPLES = Path(__file__).parents[3] / "loadtest" / "traces"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def trace(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def mooncake(**changes: object) -> str:
    """Return a line of Mooncake's traces."""
    line = {"timestamp": 0, "input_length": 1024, "output_length": 5, "hash_ids": [0, 1]}
    return json.dumps({**line, **changes}) + "\n"


def test_azures_traces_of_both_years(tmp_path: Path) -> None:
    rows = "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
    first, second = read_trace(trace(tmp_path, AZURE + rows))
    assert first == Arrival(0.0, 374, 44)
    assert second == Arrival(second.at, 396, 109)
    assert second.at == pytest.approx(4.314579)
    rows = "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 02:00:01.009930+02:00,2399,6\n"
    assert read_trace(trace(tmp_path, AZURE + rows)) == [Arrival(0.0, 2162, 5), Arrival(1.0, 2399, 6)]


def test_burstgpt_in_every_release(tmp_path: Path) -> None:
    rows = "45,ChatGPT,1087,230,1317,Conversation log\n5,GPT-4,472,18,490,API log\n"
    wanted = [Arrival(0.0, 472, 18), Arrival(40.0, 1087, 230)]
    assert read_trace(trace(tmp_path, BURSTGPT + rows)) == wanted
    head = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    rows = "5,s1,1.5,GPT-4,472,18,490,API log\n45,,2,ChatGPT,1087,230,1317,Conversation log\n"
    assert read_trace(trace(tmp_path, head + rows)) == wanted


def test_mooncakes_lines_say_which_prompts_begin_alike(tmp_path: Path) -> None:
    lines = mooncake(timestamp=500) + mooncake(timestamp=2000, input_length=1100, output_length=7, hash_ids=[0, 1, 2])
    found = read_trace(trace(tmp_path, lines))
    assert found == [Arrival(0.0, 1024, 5, (0, 1)), Arrival(1.5, 1100, 7, (0, 1, 2))]
    assert repeated(found) == pytest.approx(1024 / 2124)
    assert repeated([Arrival(0.0, 10, 1), Arrival(1.0, 10, 1)]) == repeated([]) == 0


def test_a_last_block_that_comes_again_counts_with_its_own_length() -> None:
    assert repeated([Arrival(0.0, 600, 5, (0, 1)), Arrival(1.0, 600, 5, (0, 1))]) == 0.5


def test_a_request_that_failed_when_it_was_recorded_still_comes(tmp_path: Path) -> None:
    assert read_trace(trace(tmp_path, BURSTGPT + "5,ChatGPT,0,0,0,API log\n")) == [Arrival(0.0, 1, 1)]


def test_no_more_is_read_than_is_wanted(tmp_path: Path) -> None:
    rows = "5,ChatGPT,1,1,2,API log\n" * 3 + "never read\n"
    assert len(read_trace(trace(tmp_path, BURSTGPT + rows), limit=3)) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", r"trace.csv:1: the header is 'a,b'; right are the columns Azure's TIMESTAMP,.* or BurstGPT's"),
        ("", r"trace.csv:1: the header is ''"),
        (AZURE, "has no requests"),
        (AZURE + "2023-11-16 18:15:46,1,1\nyesterday,1,1\n", r"trace.csv:3: TIMESTAMP is 'yesterday'; right is a time"),
        (AZURE + "2023-11-16 18:15:46,1.5,1\n", r"trace.csv:2: ContextTokens is '1.5'; right is a whole number"),
        (BURSTGPT + "5,GPT-4,1,-1,0,x\n", r"trace.csv:2: Response tokens is '-1'; right is a whole number"),
        (BURSTGPT + "5,GPT-4\n", r"trace.csv:2: Request tokens is None"),
        (mooncake() + "{\n", r"trace.csv:2: '{' is no JSON object; right is a line like \{\"timestamp\": 0, "),
        (mooncake() + "[1]\n", r"trace.csv:2: '\[1\]' is no JSON object"),
        (mooncake(timestamp=None), r"trace.csv:1: timestamp is None; right is a number of milliseconds"),
        (mooncake(output_length=-1), r"trace.csv:1: output_length is -1; right is a whole number of tokens"),
        (mooncake(hash_ids=[0]), r"trace.csv:1: hash_ids does not fit input_length 1024; right .* tokens, 2 of them"),
        (mooncake(hash_ids=[0, "1"]), r"trace.csv:1: hash_ids does not fit"),
    ],
)
def test_a_wrong_trace_is_refused_by_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        read_trace(trace(tmp_path, text))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "none.csv")
    (tmp_path / "packed.csv").write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(TraceError, match="is not text"):
        read_trace(tmp_path / "packed.csv")


def test_the_samples_are_what_the_generator_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "loadtest.traces.generate", "--folder", str(tmp_path)], check=True)
    for name in ("azure-sample.csv", "burstgpt-sample.csv", "mooncake-sample.jsonl"):
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes()
        rows = read_trace(SAMPLES / name)
        assert len(rows) == 300
        assert all(row.prompt_tokens <= 6000 and row.output_tokens <= 800 for row in rows)
