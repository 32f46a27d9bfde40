"""Rules that every op keeps: opcheck, autocast, one error for bad input, one sample at a time."""

# The tests of an op call torch functions that have no types.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm.kernels.q_sample import q_sample_drawn
from tests.kernels import two_processes
from tests.kernels.operations import (
    CASES,
    IDS,
    VARIANTS,
    Variant,
    arguments,
    differentiable,
    flexible,
    op_of,
    per_sample,
    public,
    registered,
    results,
)

every_case = pytest.mark.parametrize(("op", "chosen"), CASES, ids=IDS)


def test_every_op_has_cases() -> None:
    assert registered() == set(VARIANTS)


@every_case
def test_opcheck(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    for name in differentiable(op, chosen):
        made[name].requires_grad_()
    torch.library.opcheck(getattr(torch.ops.ddpm, op).default, tuple(made.values()))


@every_case
def test_the_function_is_the_op(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    names = differentiable(op, chosen)
    found = []
    for call in (public(op), op_of(op)):
        leaves = {name: made[name].clone().requires_grad_() for name in names}
        given = {**made, **leaves}
        outputs = results(call(**given) if call is public(op) else call(*given.values()))
        smooth = [output for output in outputs if output.requires_grad]
        incoming = [torch.linspace(-1, 2, o.numel()).view(o.shape) for o in smooth]
        slopes = torch.autograd.grad(smooth, list(leaves.values()), incoming) if names else ()
        found.append((*(output.detach() for output in outputs), *slopes))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@every_case
def test_autocast_changes_nothing(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    plain = results(op_of(op)(*made.values()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = results(op_of(op)(*made.values()))
    for one, other in zip(inside, plain, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@every_case
def test_the_network_may_answer_in_bfloat16(op: str, chosen: Variant) -> None:
    answers = {"pred", "output", "uncond"}
    made = arguments(op, chosen)
    half = {n: x.bfloat16() for n, x in made.items() if n in answers and isinstance(x, Tensor)}
    got = results(op_of(op)(*{**made, **half}.values()))
    # Widening bfloat16 is exact, so that nothing but the dtype of a gradient can differ.
    wide = {name: x.float() for name, x in half.items()}
    want = results(op_of(op)(*{**made, **wide}.values()))
    for one, other in zip(got, want, strict=True):
        assert torch.equal(one, other.to(one.dtype))


def test_training_step_under_autocast() -> None:
    made = arguments("q_sample_drawn", VARIANTS["q_sample_drawn"][0])
    torch.manual_seed(0)
    network = nn.Conv2d(2, 2, 3, padding=1)
    weight = torch.ones(3)
    losses = public("diffusion_loss")
    rest = (made["t"], made["signal"], made["sigma"], weight)
    place = (made["seed"], made["step"], made["sample"])

    def gradient(inside: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pred = network(q_sample_drawn(**made))
            assert pred.dtype == torch.bfloat16
            if inside:
                loss = losses(pred, made["x0"], None, *rest, *place, "v").mean()
        if not inside:
            loss = losses(pred, made["x0"], None, *rest, *place, "v").mean()
        (found,) = torch.autograd.grad(loss, network.weight)
        return loss, found

    (loss, found), (want_loss, want) = gradient(inside=True), gradient(inside=False)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, want_loss)
    assert torch.equal(found, want)
    assert found.isfinite().all()


def spread(x: Tensor) -> Tensor:
    """The same values with a gap after each."""
    return torch.stack([x, x], -1)[..., 0]


def bad_inputs(op: str, chosen: Variant) -> Iterator[tuple[dict[str, Any], str]]:
    """Every tensor of an op spoiled in every way, with what the message must say."""
    made = arguments(op, chosen)
    with_samples, smooth = per_sample(made), differentiable(op, chosen)
    for name, x in made.items():
        if not isinstance(x, Tensor):
            continue
        # Whichever of the others is looked at first is the one that the message names.
        yield {**made, name: x.to("meta")}, r"\w is on device (cpu|meta); allowed: (cpu|meta)"
        yield {**made, name: x.to(torch.complex64)}, f"{name} has dtype torch.complex64; allowed:"
        yield {**made, name: x.expand(1, 1, *x.shape)}, "has shape"
        if name in with_samples:
            yield {**made, name: spread(x)}, f"{name} has strides"
        if name in with_samples and len(with_samples) > 1:
            yield {**made, name: x[:2]}, r"\w has shape \((2|3)\b.*; allowed: .*\((2|3)\b"
        if x.is_floating_point() and not op.endswith("_backward") and name not in smooth:
            yield {**made, name: x.clone().requires_grad_()}, f"{name} has requires_grad=True"


@every_case
def test_bad_input_is_refused(op: str, chosen: Variant) -> None:
    for bad, message in bad_inputs(op, chosen):
        with pytest.raises(ValueError, match=message):
            public(op)(**bad)


@every_case
def test_one_batch_of_64_is_64_batches_of_one(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen, batch=64, seed=3)
    names, one_or_many = per_sample(made), flexible(made)
    together = results(op_of(op)(*made.values()))
    for i in range(64):
        row = {**made, **{name: made[name][i : i + 1] for name in names}}
        number = {
            **row,
            **{name: made[name].view(-1)[i % made[name].numel()] for name in one_or_many},
        }
        for one in (row, number):
            for alone, every in zip(results(op_of(op)(*one.values())), together, strict=True):
                assert torch.equal(alone, every[i : i + 1])


def test_two_processes_find_the_gradient_of_one(tmp_path: Any) -> None:
    apart = two_processes.run(tmp_path / "store")
    together = two_processes.gradient(0, two_processes.BATCH)
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
