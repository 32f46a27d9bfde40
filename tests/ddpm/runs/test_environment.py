"""What a run was trained with, over all its starts."""

from pathlib import Path

import pytest
import torch

from ddpm.runs.environment import environment_file, note_session, sessions
from ddpm.runs.run_folder import RunFolder

CPU = torch.device("cpu")


def test_every_start_that_left_something_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert sessions(folder) == []
    # The third began where the second had, so nothing of the second is left.
    for step, ranks in ((0, 1), (40, 2), (40, 4), (100, 1)):
        note_session(folder, step, CPU, ranks)
    known = sessions(folder)
    assert known is not None
    assert [(one.from_update, one.ranks) for one in known] == [(0, 1), (40, 4), (100, 1)]
    assert {one.torch for one in known} == {torch.__version__}
    assert {one.device for one in known} == {"cpu"}


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"from_update": 0}]', b"\xff", b"[" * 10_000])
def test_a_damaged_file_is_kept_aside(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path)
    file = environment_file(folder)
    file.write_bytes(content)
    assert sessions(folder) is None
    note_session(folder, 5, CPU, 1)
    known = sessions(folder)
    assert known is not None
    assert [one.from_update for one in known] == [5]
    assert file.with_name("environment-2.json").read_bytes() == content
