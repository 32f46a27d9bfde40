"""The workloads: everybody computes the same, ours moves what it must; targets and reports."""

from dataclasses import replace
from io import BytesIO

import pytest
import torch
from PIL import Image

from ddpm.bench import peer_calls, timed
from ddpm.bench.assemble import COMPILED, EAGER, NUMPY, OURS
from ddpm.bench.contender import Absent, Contender, Workload, judge
from ddpm.bench.formulas import compiler_fault
from ddpm.bench.inputs import Inputs
from ddpm.bench.markdown import markdown
from ddpm.bench.picture import png
from ddpm.bench.targets import TARGETS, compared
from ddpm.bench.timed import Row
from ddpm.bench.workloads import HUGE, OPERATIONS, Operation, cases

# Compilers and peers warn of their own parts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CPU = torch.device("cpu")
SMALL_SHAPE = (4, 3, 8, 8)


def build(operation: Operation) -> Workload:
    return operation.build(Inputs(SMALL_SHAPE, torch.float32, CPU))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_everybody_computes_the_same(operation: Operation) -> None:
    load = build(operation)
    want = load.ours.result()
    for rival in load.rivals:
        if isinstance(rival, Contender) and rival.name != COMPILED:
            assert judge(rival, want) <= 1, rival.name


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_ours_moves_what_it_must_and_no_more(operation: Operation) -> None:
    load = build(operation)
    row = timed._found(load.ours, load, compile_too=False)
    launches = 3 if "loss" in operation.name else 1
    # The operands of both directions include x_0, which is read at level 1 alone.
    unread = 2 if "hybrid" in operation.name else 0
    assert (row.launches, row.traffic, row.waits) == (launches, load.floor + unread, 0)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_broken_operation_is_noticed(operation: Operation) -> None:
    load = build(operation)
    oracle = next(r for r in load.rivals if isinstance(r, Contender) and r.name == NUMPY)
    for name, value in oracle.result().items():
        changed = {**load.ours.result(), name: value * 1.001 + 0.001 * value.square().mean().sqrt()}
        assert judge(oracle, changed) > 1


def test_the_compiled_formula_computes_the_same() -> None:
    if fault := compiler_fault():
        pytest.skip(fault)
    load = build(next(o for o in OPERATIONS if o.name == "step-ddim"))
    row = timed._found(next(r for r in load.rivals if r.name == COMPILED), load, compile_too=True)
    assert row.equal
    assert row.launches is None


def test_every_operation_has_its_rivals() -> None:
    everybody = {rival.name for operation in OPERATIONS for rival in build(operation).rivals}
    assert everybody >= {EAGER, COMPILED, NUMPY, "diffusers", "denoising-diffusion-pytorch"}


def test_a_gpu_gets_a_larger_batch_and_another_dtype() -> None:
    on_cpu, on_gpu = cases(CPU, "step-ddim"), cases(torch.device("cuda"), "step-ddim")
    assert [name for name, _ in on_cpu] == ["step-ddim (1, 3, 32, 32)", "step-ddim (64, 3, 64, 64)"]
    assert len(on_gpu) == 2 * (len(on_cpu) + 1)
    assert f"step-ddim {HUGE}" in [name for name, _ in on_gpu]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_in_half_precision_the_peers_are_not_compared(operation: Operation) -> None:
    load = operation.build(Inputs(SMALL_SHAPE, torch.bfloat16, CPU))
    want = load.ours.result()
    for rival in load.rivals:
        if isinstance(rival, Contender) and rival.name != COMPILED:
            assert rival.name not in peer_calls.MODULES
            assert judge(rival, want) <= 1, rival.name
        elif isinstance(rival, Absent) and not peer_calls.missing(rival.name):
            assert rival.reason == "compared in float32 only"


def row_of(index: int, ratio: float | None, device: str = "cpu") -> Row:
    target = TARGETS[index]
    return Row(target.op, target.shape, "float32", device, target.against, ratio is not None,
               ratio=ratio)  # fmt: skip


def test_targets_are_compared_with_the_rows() -> None:
    met, missed, absent = compared([row_of(0, 4.0), row_of(2, 1.49), row_of(3, None)])
    assert (met.met, missed.met, absent.met) == (True, False, None)
    assert missed.reached == 1.49
    assert compared([row_of(0, 4.0, "cuda:0")]) == []


def test_every_target_names_a_row_that_exists() -> None:
    rows = {
        (load.op, shape, rival.name)
        for operation in OPERATIONS
        for shape in operation.shapes
        for load in [build(operation)]
        for rival in load.rivals
    }
    assert {(t.op, t.shape, t.against) for t in TARGETS} <= rows


def test_the_picture_is_a_picture() -> None:
    rows = [row_of(0, 4.0), row_of(2, 0.5), row_of(3, None), replace(row_of(4, 2.0), dtype="half")]
    image = Image.open(BytesIO(png(rows, "title")))
    assert image.format == "PNG"
    assert image.width > 600
    taller = Image.open(BytesIO(png([*rows, *(row_of(i, 2.0) for i in (1, 5, 6, 7))], "title")))
    assert taller.height > image.height


def test_the_table_of_a_document() -> None:
    ours = Row("doubling", (3, 2, 4, 4), "float32", "cpu", OURS, True, seconds=1e-3, ratio=1.0,
               quartiles=(1.0, 1.0), gigabytes_per_second=1.0, percent_of_copy=50.0)  # fmt: skip
    absent = replace(ours, contender="diffusers", ran=False, remark="not installed")
    text = markdown([ours, absent, row_of(0, None), row_of(2, 1.25)], "two cores")
    title, _, heading, rule, first, second, *_ = text.splitlines()
    assert title == "two cores"
    columns = heading.count("|")
    assert all(line.count("|") == columns for line in (rule, first, second))
    assert first.startswith("| doubling, 3x2x4x4 | **ddpm** | 1 | 1.00 |")
    assert second.startswith("|  | diffusers: not installed |")
    assert f"| {TARGETS[0].op}, 64x3x32x32, against {TARGETS[0].against} | 4 | not run |" in text
    assert f"| {TARGETS[2].op}, 64x3x64x64, against diffusers | 1.5 | 1.25 |" in text


def test_the_callables_hold_one_batch() -> None:
    inputs = Inputs(SMALL_SHAPE, torch.float32, CPU)
    assert inputs.x0 is inputs.x0
    grey = (inputs.x0 + 1) * 127.5
    torch.testing.assert_close(grey, grey.round(), atol=1e-4, rtol=0)
    assert 2 <= int(inputs.t.min()) <= int(inputs.t.max()) <= 1000
