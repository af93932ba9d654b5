"""Files of targets, as Prometheus writes and reads them, and all that can be wrong with them."""

import json
import re
from pathlib import Path

import pytest

from gateway.discovery.target import Target
from gateway.discovery.target_file import MAX_BYTES, MAX_YAML_BYTES, read_targets


def read(folder: Path, text: str | bytes, name: str = "targets.json") -> tuple[Target, ...]:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_targets(file)


def test_groups_of_targets_with_labels_in_json_and_yaml(tmp_path: Path) -> None:
    document = [
        {"targets": ["10.0.0.1:8000", "Vllm-1:80"], "labels": {"gpu": "h100", "slots": "64"}},
        {"targets": ["[fd00::1]:8443"], "labels": {"__scheme__": "https"}},
        {"targets": []},
    ]
    labels = (("gpu", "h100"), ("slots", "64"))
    expected = (
        Target("10.0.0.1:8000", "10.0.0.1", 8000, labels=labels),
        Target("vllm-1:80", "vllm-1", 80, labels=labels),
        Target("[fd00::1]:8443", "fd00::1", 8443, tls=True, labels=(("__scheme__", "https"),)),
    )
    assert read(tmp_path, json.dumps(document)) == expected
    assert read(tmp_path, b"\xef\xbb\xbf" + json.dumps(document).encode()) == expected
    text = """
- targets: [10.0.0.1:8000, Vllm-1:80]
  labels: {gpu: h100, slots: 64}
- targets: ['[fd00::1]:8443']
  labels: {__scheme__: https}
- targets: []
"""
    assert read(tmp_path, text, "targets.yml") == expected
    assert read(tmp_path, "[]") == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('[{"targets": ["10.0.0.1:8000"', "is not JSON: Expecting ',' delimiter: line 1 column 30 (char 29)"),
        ("[" * 100_000, "is not JSON"),
        ("null", "is not a list of groups"),
        ('{"targets": ["a:1"]}', "is not a list of groups"),
        ('["a:1"]', "[0] is not a group"),
        ('[{"targets": []}, {"targets": "a:1"}]', "[1] is not a group"),
        ('[{"targets": [1]}]', "[0].targets[0] is not text"),
        ('[{"targets": ["a:1", "b"]}]', "[0].targets[1]: `b` is not a host with a port, such as `10.0.0.1:8000`"),
        ('[{"targets": ["a:1/v"]}]', "[0].targets[0]: `a:1/v` is not a host with a port"),
        ('[{"targets": ["a:0"]}]', "[0].targets[0]: `a:0` has no usable port"),
        ('[{"targets": ["300.0.0.1:1"]}]', "[0].targets[0]: `300.0.0.1:1` has a host that is not an IP address"),
        ('[{"targets": ["http://a:1"]}]', "[0].targets[0]: `http://a:1` "),
        ('[{"targets": ["a\\u001b:1"]}]', "[0].targets[0]: `a :1` is not a URL"),
        ('[{"targets": [], "labels": []}]', "[0].labels is not a mapping"),
        ('[{"targets": [], "labels": {"a": []}}]', "[0].labels has a value that is not text: `[]`"),
        ('[{"targets": [], "labels": {"__scheme__": "ftp"}}]', "[0].labels: __scheme__ is `ftp`, not http or https"),
        (b"\xff", "is not UTF-8"),
        (b" " * (MAX_BYTES + 1), "is larger than 4096 KiB"),
        (json.dumps([{"targets": [f"a{n}:1" for n in range(10_001)]}]), "has 10,001 targets"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_of_the_file_is_used(tmp_path: Path, text: str | bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}"):
        read(tmp_path, text)


def test_yaml_has_its_own_problems(tmp_path: Path) -> None:
    for text, problem in (
        ("- [", "is not YAML: while parsing a flow node"),
        ("- !!python/object/apply:os.system [id]", "is not YAML: could not determine a constructor"),
        (" " * (MAX_YAML_BYTES + 1), "is larger than 256 KiB; JSON may be larger"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(problem)}"):
            read(tmp_path, text, "targets.yaml")
