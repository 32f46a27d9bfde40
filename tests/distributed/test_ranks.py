"""What ranks tell each other, and that none waits for one that is gone."""

import os
import signal
from datetime import timedelta

import pytest
import torch

from ddpm.distributed import ALONE, AgreedError, joined
from ddpm.errors import InputError
from tests.distributed import work
from tests.distributed.together import outcomes_of, together


def test_what_is_said_arrives() -> None:
    results = together(3, work.talk)
    for rank, result in enumerate(results):
        assert result["mean"] == [1.0, 1.0]
        assert result["total"] == [3.0, 3.0]
        assert result["x"] == [1.0, float(rank)]
        assert (result["any"], result["none"]) == (True, False)
        assert result["said"] == {"from": 0, "text": "é"}
        assert result["first"] == "done"
        assert result["worked"] == (1 if rank == 0 else 0)
        assert result["main"] == (rank == 0)


def test_one_process_talks_to_nobody() -> None:
    x = torch.ones(2)
    assert ALONE.main
    assert ALONE.mean(x) is x
    assert ALONE.total(x) is x
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.agree({1: 2}) == {1: 2}
    assert ALONE.first(lambda: "done") == "done"
    ALONE.barrier()
    with joined("cpu") as ranks:
        assert (ranks.rank, ranks.world, ranks.device.type) == (0, 1, "cpu")
    assert not torch.distributed.is_initialized()


def test_an_error_of_the_first_rank_is_that_of_all() -> None:
    outcomes = outcomes_of(3, work.refuse_on_the_first)
    assert outcomes[0][1].startswith("AgreedError: this cannot be\n")
    # The others leave quietly, with the code of bad input.
    assert outcomes[1:] == [("exit", "2")] * 2


def test_an_error_of_one_rank_names_it_and_ends_the_others() -> None:
    outcomes = outcomes_of(2, work.refuse_alone, 1)
    assert outcomes[1][1].startswith("InputError: rank 1: a file is broken here\n")
    assert outcomes[0][1].startswith("RankError: another rank failed, left or fell silent")


@pytest.mark.parametrize("who", [0, 1])
def test_a_killed_rank_ends_the_others(who: int) -> None:
    outcomes = outcomes_of(2, work.die_alone, who)
    assert outcomes[who] == ("code", -signal.SIGKILL)
    kind, text = outcomes[1 - who]
    assert kind == "error"
    assert text.startswith("RankError: another rank failed, left or fell silent")
    assert len(text.splitlines()[0]) < 1000


def test_a_silent_rank_is_given_up() -> None:
    outcomes = outcomes_of(2, work.sleep_alone, 1, timeout=timedelta(seconds=2))
    assert outcomes[0][1].startswith("RankError: another rank failed, left or fell silent")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0"}, "WORLD_SIZE = 'nothing'"),
        ({"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK = 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK = 2: allowed is 0 to"),
    ],
)
def test_a_broken_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setitem(os.environ, name, value)
    with pytest.raises(InputError, match=message), joined("cpu"):
        pass


def test_agreed_errors_are_bad_input() -> None:
    assert issubclass(AgreedError, InputError)
