"""`kill -9` at any moment loses at most one interval and never a checkpoint."""

from pathlib import Path

from tests.survival.kills import KINDS, campaign


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    tally = campaign(tmp_path, count=6, seed=1, per_run=6)
    assert tally.kills.total() == 6
    assert set(tally.kills) == set(KINDS)
    assert tally.inside >= 1
    assert tally.runs >= 1
