"""One small trained run, shared by the tests of the command line."""

from pathlib import Path

import pytest

from tests.cli.command import SMALL, run_here


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "small"
    assert run_here("train", "--run", run, "--steps", "30", "--device", "cpu", *SMALL) == 0
    return run
