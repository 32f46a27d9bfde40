"""Reading metrics.jsonl of any version, in any state."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddpm.report.history import CURVES, read_history

OLD = '{"step": 20, "seconds": 1.5, "loss": 0.5, "gradient_norm": 2.0, "learning_rate": 0.001, "images_per_second": 900.0}'  # fmt: skip  # noqa: E501


def test_lines_of_the_first_version_are_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    new = {"step": 40, "loss": 0.25, "ema_decay": 0.9, "loss_by_level": [1, None, 3, 4, 5, 6, 7, 8]}
    file.write_text(f"{OLD}\n{json.dumps(new)}\n")
    history = read_history(file)
    assert history.steps == [20, 40]
    assert history.curves["loss"] == [0.5, 0.25]
    assert history.curves["ema_decay"] == [None, 0.9]
    assert history.curves["images_per_second"] == [900.0, None]
    assert [list(values) for values in history.by_level[:3]] == [[None, 1.0], [None, None], [None, 3.0]]  # fmt: skip  # noqa: E501
    assert history.unread == 0
    assert history.last("gradient_norm") == 2.0
    assert history.last("seconds") == 1.5


def test_no_file_is_an_empty_history(tmp_path: Path) -> None:
    history = read_history(tmp_path / "metrics.jsonl")
    assert (history.steps, history.unread) == ([], 0)
    assert history.last("loss") is None


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "null", "[]", "3", '{"step": "20"}', '{"step": true}', '{"step": -1}',
        '{"loss": 1.0}', '{"step": 1.5}', "[" * 100_000, '{"step": 9007199254740993}', "\x00",
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_counted(tmp_path: Path, line: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(f"{OLD}\n{line}\n{OLD.replace('20', '40', 1)}\n")
    history = read_history(file)
    assert history.steps == [20, 40]
    assert history.unread == 1


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "true", '"0.5"', "[]", "9" * 400])
def test_a_value_that_is_no_number_is_unknown(tmp_path: Path, value: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"step": 1, "loss": {value}, "loss_by_level": {value}}}\n')
    history = read_history(file)
    assert history.curves["loss"] == [None]
    assert [list(values) for values in history.by_level] == [[None]] * 8


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_any_bytes_are_read_or_counted(tmp_path: Path, data: st.DataObject) -> None:
    good = f"{OLD}\n".encode() * 3
    cut = data.draw(st.integers(0, len(good)))
    content = good[:cut] + data.draw(st.binary(max_size=20)) + good[cut:]
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(content)
    history = read_history(file)
    assert len(history.steps) + history.unread == len(content.splitlines())
    assert all(len(history.curves[name]) == len(history.steps) for name in CURVES)
