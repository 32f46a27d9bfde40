"""One sampler step against float64, its gradient as a slope, and Triton against torch."""

# Gradients in torch and kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ddpm.kernels.sampler_step import sampler_step
from tests.kernels.batches import assert_close, assert_same, dtypes, exact, shapes
from tests.kernels.steps import LEVELS, ROWS, interpreted, make_step, truth
from tests.kernels.test_philox import SEEDS

CLIPS = st.sampled_from([0.0, 0.5, 1.0, 30.0])


@given(shapes(), dtypes(), dtypes(), SEEDS, st.booleans(), CLIPS, st.booleans())
def test_step_of_the_reference(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    pred_dtype: torch.dtype,
    seed: int,
    many: bool,
    clip: float,
    draw: bool,
) -> None:
    step = make_step(shape, dtype, seed, many, clip, draw, pred_dtype)
    got = sampler_step(**step)
    assert got.dtype == dtype
    # Cancellation: three terms of up to 10 each may sum to nearly nothing.
    assert_close(got, truth(step)[0], "cpu", scale=5)


@given(shapes(), dtypes(), dtypes(), SEEDS, st.booleans(), CLIPS, st.booleans())
@settings(max_examples=40)
def test_triton_is_torch(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    pred_dtype: torch.dtype,
    seed: int,
    many: bool,
    clip: float,
    draw: bool,
) -> None:
    step = make_step(shape, dtype, seed, many, clip, draw, pred_dtype)
    assert_same(interpreted(step)[0], sampler_step(**step))


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_nan_and_infinity(clip: float) -> None:
    step = make_step((1, 4), clip=clip, draw=False)
    step["table"] = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    step["levels"] = LEVELS[:1]
    step["row"] = torch.tensor(0)
    step["pred"] = torch.tensor([[torch.nan, torch.inf, -torch.inf, 0.25]])
    edge = clip or torch.inf
    want = torch.tensor([[torch.nan, edge, -edge, 0.25]])
    for got in (sampler_step(**step), interpreted(step)[0]):
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("row", [-1, ROWS, 2**40])
def test_a_row_outside_gives_nan_on_a_gpu(row: int) -> None:
    step = make_step((2, 5), many=True)
    step["row"] = torch.tensor([0, row])
    (got,) = interpreted(step)
    assert got[0].isfinite().all()
    assert got[1].isnan().all()


@given(SEEDS, CLIPS)
@settings(max_examples=6)
def test_one_batch_of_64_is_64_batches_of_one(seed: int, clip: float) -> None:
    step = make_step((64, 9), seed=seed, clip=clip, many=True)
    together = sampler_step(**step)
    for i in range(64):
        row = slice(i, i + 1)
        one = {k: step[k][row] for k in ("x", "pred", "row", "sample")}
        assert torch.equal(together[row], sampler_step(**{**step, **one}))
        one["row"] = step["row"][i]
        assert torch.equal(together[row], sampler_step(**{**step, **one}))


@given(shapes(min_batch=1), SEEDS, CLIPS, st.booleans())
@settings(max_examples=40)
def test_gradient_is_the_slope(shape: tuple[int, ...], seed: int, clip: float, many: bool) -> None:
    step = make_step(shape, seed=seed, clip=clip, many=many)
    rng = np.random.default_rng(5)
    incoming = rng.standard_normal(shape)
    for name in ("x", "pred"):
        step[name].requires_grad_()
    sampler_step(**step).backward(torch.from_numpy(incoming).float())
    for name in ("x", "pred"):
        # Elementwise, so one difference of the float64 step shows every slope at once.
        ahead, behind = (
            truth({**step, name: step[name].detach().double() + side * 1e-6})[0]
            for side in (1.0, -1.0)
        )
        slope = (ahead - behind) / 2e-6 * incoming
        got = exact(step[name].grad)
        # Kinks of the clipping within 1e-5 of an element spoil its difference.
        rows = exact(step["table"])[step["row"].expand(shape[0]).numpy()]
        k_x, k_pred = (rows[:, i].reshape(-1, *(1,) * (len(shape) - 1)) for i in (0, 1))
        estimate = k_x * exact(step["x"]) + k_pred * exact(step["pred"])
        smooth = np.abs(np.abs(estimate) - clip) > 1e-5
        np.testing.assert_allclose(got[smooth], slope[smooth], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("many", [False, True])
def test_opcheck(draw: bool, many: bool) -> None:
    step = make_step((2, 5), many=many, clip=1.0, draw=draw)
    step["x"].requires_grad_()
    step["pred"].requires_grad_()
    torch.library.opcheck(torch.ops.ddpm.sampler_step.default, tuple(step.values()))


def test_compiles_once_for_all_rows_and_seeds() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    step = make_step((3, 5), clip=1.0)

    def advance(x: Tensor, row: Tensor, seed: Tensor, sample: Tensor) -> Tensor:
        return sampler_step(**{**step, "x": x, "row": row, "seed": seed, "sample": sample}) * 2

    compiled = torch.compile(advance, fullgraph=True, backend=counter)
    for row in range(ROWS):
        place = (torch.tensor(row), torch.tensor(row * 3), step["sample"] + row)
        assert torch.equal(compiled(step["x"], *place), advance(step["x"], *place))
    assert counter.frame_count == 1


META = torch.device("meta")
BAD: list[tuple[str, Any, str]] = [
    ("x", lambda x: x.double(), "x has dtype torch.float64; allowed: torch.float32"),
    ("x", lambda x: x.T.contiguous().T, "x has strides"),
    ("pred", lambda x: x[:1], r"pred has shape \(1, 6\); allowed: \(2, 6\)"),
    ("pred", lambda x: x.to(META), "pred is on device meta; allowed: cpu"),
    ("table", lambda t: t[:, :5], r"table has shape \(6, 5\); allowed: \[K, 8\]"),
    ("table", lambda t: t[:0], r"table has shape \(0, 8\); allowed: \[K, 8\]"),
    ("table", lambda t: t + 1, r"table has c != 0 in the row of a step without history"),
    ("table", lambda t: t.double(), "table has dtype torch.float64; allowed: torch.float32"),
    ("table", lambda t: t.T.contiguous().T, "table has strides"),
    ("table", lambda t: t.clone().requires_grad_(), "table has requires_grad=True"),
    ("levels", lambda v: v[:5], r"levels has shape \(5,\); allowed: \(6,\)"),
    ("levels", lambda v: v.int(), "levels has dtype torch.int32"),
    ("levels", lambda v: v - 5000, "step contains -4"),
    ("row", lambda r: r * 0 - 1, "row contains -1; allowed: 0..5"),
    ("row", lambda r: r * 0 + 6, "row contains 6; allowed: 0..5"),
    ("row", lambda r: r.expand(3), r"row has shape \(3,\); allowed: \(\) or \(2,\)"),
    ("seed", lambda s: s.expand(2), "seed has shape"),
    ("sample", lambda s: s - 2**57, "sample contains -"),
    ("clip", lambda _: -1.0, "clip is -1.0; allowed: 0"),
    ("clip", lambda _: float("nan"), "clip is nan; allowed: 0"),
    ("clip", lambda _: float("inf"), "clip is inf; allowed: 0"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_input_is_refused(name: str, change: Any, message: str) -> None:
    step = make_step((2, 6))
    with pytest.raises(ValueError, match=message):
        sampler_step(**{**step, name: change(step[name])})
