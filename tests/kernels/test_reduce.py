"""Sums over many programs in one launch: every part once, in one order, tickets left at zero."""

# Kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import re

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.kernels.gpu import reduce
from tests.kernels.compiled import ptx


@triton.jit
def _sum_kernel(
    out_ptr,
    last_ptr,
    order_ptr,
    values_ptr,
    partial_ptr,
    ticket_ptr,
    PARTS: tl.constexpr,
    PADDED: tl.constexpr,
):
    # The programs of the interpreter run one after the other; order_ptr shuffles them.
    program = tl.load(order_ptr + tl.program_id(0)).to(tl.int64)
    row = program // PARTS
    tl.store(partial_ptr + program, tl.load(values_ptr + program))
    if reduce.arrive_last(ticket_ptr, row, PARTS):
        tl.store(last_ptr + program, 1)
        tl.store(out_ptr + row, reduce.sum_parts(partial_ptr, row, PARTS, PADDED))


def run(values: torch.Tensor, ticket: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the rows of values by programs in an order of that seed; give sums and who was last."""
    rows, parts = values.shape
    order = torch.randperm(rows * parts, generator=torch.Generator().manual_seed(seed))
    out, last = torch.full((rows,), torch.nan), torch.zeros(rows * parts, dtype=torch.int32)
    partial = torch.full_like(values, torch.nan)
    _sum_kernel[(rows * parts,)](
        out, last, order, values, partial, ticket, PARTS=parts, PADDED=reduce.padded(parts)
    )
    # The last of a row is the one that the order puts last.
    place = torch.empty_like(order)
    place[order] = torch.arange(rows * parts)
    want = torch.zeros_like(last).view(rows, parts)
    want[torch.arange(rows), place.view(rows, parts).argmax(1)] = 1
    assert torch.equal(last, want.view(-1))
    return out, partial


@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**16))
@settings(max_examples=30)
def test_every_part_once_in_any_order(rows: int, parts: int, seed: int) -> None:
    values = torch.randn(rows, parts, generator=torch.Generator().manual_seed(seed))
    ticket = torch.zeros(rows, dtype=torch.int32)
    first, partial = run(values, ticket, seed)
    assert torch.equal(partial, values)
    torch.testing.assert_close(first, values.double().sum(1).float(), rtol=1e-6, atol=1e-6)
    # What the first launch leaves behind is what the second finds.
    assert not ticket.any()
    second, _ = run(values, ticket, seed + 1)
    assert torch.equal(second, first)
    assert not ticket.any()


def test_more_parts_than_are_summed_at_a_time() -> None:
    parts = 2 * reduce.padded(2**30) + 5
    values = torch.randint(-9, 10, (1, parts), generator=torch.Generator().manual_seed(1)).float()
    got, _ = run(values, torch.zeros(1, dtype=torch.int32), 3)
    assert torch.equal(got, values.sum(1))


@given(st.integers(1, 2**21))
def test_parts_are_padded_to_a_power_of_two(parts: int) -> None:
    width = reduce.padded(parts)
    assert width & (width - 1) == 0
    assert min(parts, 1024) <= width < 2 * parts
    assert width <= 1024


def test_tickets_are_kept_and_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce, "_TICKETS", {})
    device = torch.device("cpu")
    few = reduce.tickets(device, 3)
    assert few.dtype == torch.int32
    assert few.shape[0] >= 3
    assert reduce.tickets(device, 2) is few
    many = reduce.tickets(device, 1000)
    assert many.shape[0] >= 1000
    assert reduce.tickets(device, 3) is many
    assert not many.any()


def test_a_graph_gets_tickets_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = iter((7, 7, 8))

    class Stream:
        def __init__(self) -> None:
            self.cuda_stream = next(streams)

    made: list[tuple[object, int]] = []

    def zeros(device: object, stream: object, length: int) -> torch.Tensor:
        del device
        made.append((stream, length))
        return torch.zeros(length, dtype=torch.int32)

    capturing = False
    monkeypatch.setattr(reduce, "_TICKETS", {})
    monkeypatch.setattr(reduce, "_zeros", zeros)
    monkeypatch.setattr(torch, "zeros", lambda *size, **_: torch.ones(*size, dtype=torch.int32))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream())
    device = torch.device("cuda", 0)
    first = reduce.tickets(device, 2)
    assert reduce.tickets(device, 2) is first
    assert reduce.tickets(device, 2) is not first
    assert len(made) == 2
    capturing = True
    graph = reduce.tickets(device, 2)
    assert graph.shape == (2,)
    assert graph is not reduce.tickets(device, 2)
    assert len(made) == 2


def test_a_card_sees_the_parts_in_order() -> None:
    place = "torch.tensor(1), torch.tensor(2), torch.arange(2)"
    tables = "torch.ones(2).long(), torch.ones(3), torch.ones(3), torch.ones(2)"
    call = (
        f"diffusion_loss.diffusion_loss(torch.ones(2, 9999), None, None, {tables}, {place}, 'eps')"
    )
    text = ptx("diffusion_loss", call)
    steps = re.findall(
        r"(@%p\d+)\s+(st\.global\.b32|atom\.global\.gpu\.acq_rel\.add\.u32|ld\.global\.cg\.b32)",
        text,
    )
    # The part, the ticket by the same thread, the ticket's reset, the parts from the second-level
    # cache, the sum.
    assert [kind[:9] for _, kind in steps] == [
        "st.global", "atom.glob", "st.global", "ld.global", "st.global",
    ]  # fmt: skip
    assert steps[0][0] == steps[1][0]
