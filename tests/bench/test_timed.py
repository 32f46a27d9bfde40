"""The timed laboratory: equal results first, everybody in turns, and what is made of the times."""

import math
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm.bench import clock, memory, peer_calls, timed
from ddpm.bench.assemble import COMPILED, NUMPY, OURS
from ddpm.bench.clock import CpuClock, CudaClock
from ddpm.bench.contender import (
    Absent,
    Call,
    Contender,
    Workload,
    disagreement,
    irregularity,
    judge,
)
from ddpm.bench.formulas import compiler_fault
from ddpm.bench.timed import Row, interleaved, measure

# Compilers and peers warn of their own parts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CPU = torch.device("cpu")
TINY = (3, 2, 4, 4)


class FakeClock:
    """A clock that knows beforehand how long each call takes."""

    def __init__(self, seconds: dict[Call, float]) -> None:
        self._seconds = seconds
        self.turns: list[Call] = []

    def seconds(self, call: Call, repeats: int) -> float:
        del repeats
        self.turns.append(call)
        return self._seconds.get(call, 1e-3)


def answer(x: Tensor) -> Call:
    return lambda: {"y": x}


def workload(*rivals: Contender | Absent) -> Workload:
    ours = Contender(OURS, answer(torch.ones(TINY)))
    return Workload("doubling", TINY, torch.float32, CPU, 3.0, ours, rivals)


def only_row(rival: Contender | Absent) -> Row:
    return measure(workload(rival), FakeClock({}), 3)[1]


@pytest.mark.parametrize("scale", [1.0, 1e-7])
@pytest.mark.parametrize(("error", "equal"), [(0.5e-5, True), (3e-5, False)])
def test_agreement_does_not_depend_on_the_scale(scale: float, error: float, equal: bool) -> None:
    want = {"gradient": scale * torch.tensor([1.0, -1.0])}
    got = {"gradient": want["gradient"] + scale * torch.tensor([0.0, error])}
    assert (disagreement(got, want, (1e-5, 1e-5)) <= 1) is equal


def test_a_nan_and_a_missing_zero_are_never_equal() -> None:
    zero, nan = {"y": torch.zeros(2)}, {"y": torch.tensor([0.0, math.nan])}
    assert disagreement(zero, zero, (1e-5, 1e-5)) == 0
    assert disagreement(nan, zero, (1e-5, 1e-5)) == math.inf
    assert disagreement({"y": torch.tensor([0.0, 1e-9])}, zero, (1e-5, 1e-5)) == math.inf


def test_results_are_compared_where_both_have_them() -> None:
    want = {"loss": torch.ones(()), "x_t": torch.ones(3)}
    assert disagreement({"loss": torch.ones(())}, want, (0.1, 0.1)) == 0
    assert disagreement({"loss": torch.tensor(2.0)}, want, (0.1, 0.1)) > 1
    with pytest.raises(ValueError, match=r"\['z'\]; ours are \['loss', 'x_t'\]"):
        disagreement({"z": torch.ones(())}, want, (0.1, 0.1))
    with pytest.raises(ValueError, match=r"x_t has shape \(1,\); ours has \(3,\)"):
        disagreement({"x_t": torch.ones(1)}, want, (0.1, 0.1))


def test_only_normal_numbers_pass_for_normal() -> None:
    z = torch.randn(4096, generator=torch.Generator().manual_seed(0))
    assert irregularity(z) < 1
    assert irregularity(z + 0.2) > 1
    assert irregularity(1.2 * z) > 1
    drawn = Contender("", answer(z), same_law=True)
    assert judge(drawn, {"y": z.flip(0)}) < 1
    assert judge(drawn, {"y": z.clamp(-1, 1)}) > 1


def test_another_result_is_not_timed() -> None:
    other, watch = Contender("other", answer(torch.full(TINY, 1.1))), FakeClock({})
    row = measure(workload(other), watch, 3)[1]
    assert (row.ran, row.equal, row.ratio) == (False, False, None)
    assert other.call not in watch.turns
    assert "another result" in row.remark


def test_a_rival_that_fails_says_why() -> None:
    def broken() -> dict[str, Tensor]:
        raise AttributeError("no such\nmethod")

    row = only_row(Contender("other", broken))
    assert (row.ran, row.equal, row.seconds) == (False, False, None)
    assert row.remark == "failed: AttributeError: no such method"


def test_our_own_failure_is_not_hidden() -> None:
    def broken() -> dict[str, Tensor]:
        raise ValueError("of ours")

    with pytest.raises(ValueError, match="of ours"):
        measure(replace(workload(), ours=Contender(OURS, broken)), CpuClock(), 1)


def test_who_is_absent_has_a_row() -> None:
    row = only_row(Absent("diffusers", "not installed"))
    assert (row.contender, row.ran, row.equal) == ("diffusers", False, None)
    assert row.remark == "not installed"


def test_without_a_compiler_the_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "compiler_fault", lambda: "does not work here: NoCompiler")
    row = only_row(Contender(COMPILED, answer(torch.ones(TINY))))
    assert (row.ran, row.remark) == (False, "does not work here: NoCompiler")


def test_why_there_is_no_compiler_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> object:
        raise RuntimeError("no g++")

    monkeypatch.setattr(torch, "compile", broken)
    compiler_fault.cache_clear()
    assert compiler_fault() == "does not work here: RuntimeError"
    compiler_fault.cache_clear()


def test_a_peer_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_calls, "find_spec", lambda _: None)
    peer_calls.missing.cache_clear()
    assert peer_calls.missing("diffusers") == "not installed"
    monkeypatch.setattr(peer_calls, "find_spec", lambda _: "there")
    monkeypatch.setitem(peer_calls.MODULES, "diffusers", "diffusers_of_another_world")
    peer_calls.missing.cache_clear()
    assert peer_calls.missing("diffusers") == "cannot be imported: ModuleNotFoundError"
    peer_calls.missing.cache_clear()


def test_everybody_has_a_turn_in_every_round_and_in_a_turning_order() -> None:
    calls = {name: answer(torch.tensor(float(i))) for i, name in enumerate("abc")}
    watch = FakeClock({})
    seconds = interleaved(calls, watch, 3)
    assert [len(times) for times in seconds.values()] == [3, 3, 3]
    names = {call: name for name, call in calls.items()}
    turns = "".join(names[call] for call in watch.turns[6:])
    assert turns[::3] == "abcbcacab"
    assert turns[:9] == "aaabbbccc"


def test_the_quickest_batch_of_a_turn_counts() -> None:
    call = answer(torch.ones(()))
    times = iter([9.0, 1e-3, 5e-3, 3e-3, 4e-3, 8e-3, 7e-3, 6e-3])

    class Watch:
        def seconds(self, _: Call, repeats: int) -> float:
            assert repeats == 1
            return next(times)

    assert interleaved({"a": call}, Watch(), 2) == {"a": [3e-3, 6e-3]}


@pytest.mark.parametrize(
    ("once", "plan"),
    [(1.0, (1, 1)), (2e-3, (1, 3)), (2.5e-4, (4, 3)), (1e-5, (100, 3)), (1e-9, (200, 3))],
)
def test_short_calls_are_repeated(once: float, plan: tuple[int, int]) -> None:
    call = answer(torch.ones(()))
    assert timed._plan(call, FakeClock({call: once})) == plan


def test_what_is_made_of_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    copy, slow = answer(torch.ones(TINY)), answer(torch.ones(TINY))
    monkeypatch.setattr(timed, "_copy", lambda _: copy)
    load = workload(Contender("slow", slow))
    watch = FakeClock({load.ours.call: 2e-6, slow: 6e-6, copy: 1e-6})
    ours, other = measure(load, watch, 5)
    assert (ours.ratio, other.ratio, other.quartiles) == (1.0, 3.0, (3.0, 3.0))
    # 3 of 96 elements of 4 bytes in 2 microseconds, where a copy moves 2 of each in 1.
    assert ours.gigabytes_per_second == pytest.approx(3 * 96 * 4 / 2e-6 / 1e9)
    assert ours.percent_of_copy == pytest.approx(75)
    assert other.percent_of_copy == pytest.approx(25)
    assert (ours.launches, ours.waits, ours.equal) == (0, 0, True)


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    load = workload(Contender("slow", answer(torch.ones(TINY))))
    row = replace(only_row(Contender("slow", answer(torch.ones(TINY)))), seconds=None)
    times = {"slow": [2.0, 30.0, 4.0], OURS: [1.0, 10.0, 4.0], timed.COPY: [1.0, 1.0, 1.0]}
    found = timed._with_times(row, load, times)
    assert (found.ratio, found.seconds, found.quartiles) == (2.0, 4.0, (1.5, 2.5))


def test_a_cpu_clock_counts_its_calls() -> None:
    calls = []

    def call() -> dict[str, Tensor]:
        calls.append(1)
        return {}

    assert 0 < CpuClock().seconds(call, 7) < 1
    assert len(calls) == 7


def test_processor_time_stands_still_while_others_run() -> None:
    def wait() -> dict[str, Tensor]:
        time.sleep(0.05)
        return {}

    assert clock.clock_of(CPU).seconds(wait, 1) >= 0.05
    assert clock.clock_of(CPU, processor_time=True).seconds(wait, 1) < 0.05


def test_a_gpu_clock_empties_the_cache_and_waits_once() -> None:
    log: list[str] = []

    class Event:
        def record(self) -> None:
            log.append("record")

        def elapsed_time(self, _: "Event") -> float:
            assert log[-1] == "wait"
            return 4.0

    class Flush:
        def zero_(self) -> None:
            log.append("flush")

    def call() -> dict[str, Tensor]:
        log.append("call")
        return {}

    watch = CudaClock(Event, lambda: log.append("wait"), Flush())  # type: ignore[arg-type]
    assert watch.seconds(call, 2) == 4e-3
    assert log == ["flush", "record", "call", "record"] * 2 + ["wait"]


def test_what_cannot_be_recorded_as_a_graph_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    recordable, waiting = answer(torch.ones(TINY)), answer(torch.ones(TINY))
    replayed = answer(torch.ones(TINY))

    def record(call: Call) -> Call:
        if call is waiting:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported")
        return replayed

    monkeypatch.setattr(timed, "replay", record)
    row = only_row(Contender("other", waiting))
    calls = {timed.COPY: recordable, OURS: recordable, "other": waiting, NUMPY: waiting}
    rows = {OURS: replace(row, contender=OURS), "other": row}
    timed._add_replays(calls, rows)
    assert calls[f"{OURS}, graph"] is replayed
    assert rows[f"{OURS}, graph"].ran
    assert not rows["other, graph"].ran
    assert "waits for the device" in rows["other, graph"].remark
    assert set(calls) == {timed.COPY, OURS, "other", NUMPY, f"{OURS}, graph"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_gives_the_same_results() -> None:
    x = torch.ones(1000, device="cuda")
    replayed = clock.replay(lambda: {"y": x * 2})
    x.fill_(3.0)
    assert torch.equal(replayed()["y"], torch.full_like(x, 6.0))
    with pytest.raises(RuntimeError):
        clock.replay(lambda: {"y": x * x.sum().item()})


def test_the_highest_point_of_a_trace() -> None:
    def event(time: float, change: int, device: int = 0) -> dict[str, Any]:
        return {"name": "[memory]", "ts": time,
                "args": {"Ev Idx": int(time), "Bytes": change, "Device Type": device}}  # fmt: skip

    other = {"name": "aten::add"}
    assert memory.highest([event(4, -8), event(1, 8), event(2, 6), other, event(3, 99, 1)]) == 14
    assert memory.highest([]) == 0


def test_peak_memory_counts_what_is_held_at_once() -> None:
    x = torch.ones(1 << 16)

    def call() -> dict[str, Tensor]:
        y = x + x
        z = y + x
        del y
        return {"y": z + x}

    # Two tensors at any time, never three: y and z, then z and the result.
    assert memory.peak_bytes(call, CPU) == 2 * 4 * 65536


def test_on_large_batches_the_reference_is_compared_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "MOST_IN_NUMPY", 95)
    oracle, watch = Contender(NUMPY, answer(torch.ones(TINY))), FakeClock({})
    row = measure(workload(oracle), watch, 3)[1]
    assert (row.ran, row.equal, row.remark) == (False, True, "compared, too slow to time")
    assert oracle.call not in watch.turns
