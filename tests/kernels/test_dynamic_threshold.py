"""The threshold of a sample against numpy.quantile of its estimate, and Triton against torch."""

# Gradients in torch and kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ddpm.kernels.dynamic_threshold import dynamic_threshold, position
from ddpm.kernels.gpu import dynamic_threshold as gpu
from ddpm.kernels.sampler_step import sampler_step
from tests.kernels.batches import Array, assert_same, dtypes, exact, poisoned
from tests.kernels.steps import ROWS, make_step, truth
from tests.kernels.test_philox import SEEDS

NAMES = ("x", "pred", "table", "row", "uncond", "guidance_scale", "learned")
SHAPES = st.tuples(
    st.integers(0, 3), st.integers(1, 2), st.sampled_from([1, 2, 3, 5, 65, 257, 1100])
)
RATIOS = st.sampled_from([1e-9, 0.5, 0.9, 0.995, 1.0]) | st.floats(0.01, 1.0)
MAXIMA = st.sampled_from([1.0, 2.0, math.inf])
OPTIONS = st.fixed_dictionaries(
    {
        "many": st.booleans(),
        "pred_dtype": dtypes(),
        "guided": st.booleans(),
        "learned": st.sampled_from(["none", "log", "sigmoid"]),
    }
)


def make(*arguments: Any, ratio: float = 0.9, **options: Any) -> dict[str, Any]:
    step = make_step(*arguments, **options)
    return {**{name: step[name] for name in NAMES}, "ratio": ratio, "max_value": math.inf}


def interpreted(inputs: dict[str, Any]) -> Tensor:
    with poisoned():
        return gpu.dynamic_threshold(**inputs)


def quantiles(inputs: dict[str, Any]) -> Array:
    step = make_step(inputs["x"].shape, draw=False)
    rest = {name: inputs[name] for name in NAMES}
    _, estimate = truth({**step, **rest, "clip": 0.0})
    found = [np.quantile(np.abs(values), inputs["ratio"]) for values in estimate]
    clamped: Array = np.minimum(np.maximum(found, 1.0), inputs["max_value"])
    return clamped


@given(SHAPES, dtypes(), SEEDS, RATIOS, MAXIMA, OPTIONS)
@settings(max_examples=50)
def test_quantile_of_the_estimate(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    seed: int,
    ratio: float,
    max_value: float,
    options: dict[str, Any],
) -> None:
    inputs = {**make(shape, dtype, seed, ratio=ratio, **options), "max_value": max_value}
    got = dynamic_threshold(**inputs)
    assert got.dtype == torch.float32
    # An estimate of size 10 has cancelled by a factor of 10 or so where its quantile is near 1.
    np.testing.assert_allclose(exact(got), quantiles(inputs), rtol=1e-5)
    assert_same(interpreted(inputs), got)


@given(st.lists(st.sampled_from([0.0, 1.5, 1.5, -2.0, 2.0, 7.0]), min_size=1, max_size=9), RATIOS)
@settings(max_examples=30)
def test_ties(values: list[float], ratio: float) -> None:
    inputs = make((1, 1, len(values)), ratio=ratio)
    inputs["table"] = torch.tensor([[1.0, *[0.0] * 7]])
    inputs["row"] = torch.tensor(0)
    inputs["x"] = torch.tensor([[values]])
    want = max(1.0, float(np.quantile(np.abs(values), ratio)))
    assert float(dynamic_threshold(**inputs)) == pytest.approx(want, rel=1e-6)
    assert_same(interpreted(inputs), dynamic_threshold(**inputs))


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_digits_of_any_width_select_the_same(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Cards differ in the digits that their registers hold.
    inputs = make((2, 1, 300), ratio=0.77)
    kernel = gpu._dynamic_threshold_kernel

    class WithBits:
        def __getitem__(self, grid: Any) -> Any:
            return lambda *given, **options: kernel[grid](*given, **{**options, "BITS": bits})

    monkeypatch.setattr(gpu, "_dynamic_threshold_kernel", WithBits())
    assert_same(gpu.dynamic_threshold(**inputs), dynamic_threshold(**inputs))


@pytest.mark.parametrize("place", [0, 3, 7])
@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf, -torch.inf])
def test_what_is_not_a_number_shows(value: float, place: int) -> None:
    inputs = make((2, 1, 8), ratio=0.5)
    inputs["table"] = torch.tensor([[0.0, 1.0, *[0.0] * 6]])
    inputs["row"] = torch.tensor(0)
    inputs["pred"][0, 0, place] = value
    for got in (dynamic_threshold(**inputs), interpreted(inputs)):
        assert got[1].isfinite()
        assert bool(got[0].isnan()) == math.isnan(value)


def test_a_row_outside_gives_nan_on_a_gpu() -> None:
    inputs = make((2, 1, 5), many=True)
    inputs["row"] = torch.tensor([ROWS, 0])
    got = interpreted(inputs)
    assert got[0].isnan()
    assert got[1].isfinite()


def test_a_step_with_it_stays_in_the_unit_range() -> None:
    step = make_step((3, 2, 50), guided=True, draw=False)
    step["table"][:, 2:] = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    limits = dynamic_threshold(**{name: step[name] for name in NAMES}, ratio=0.9)
    assert bool((limits > 1).all())
    got = sampler_step(**{**step, "threshold": limits})
    assert float(got.abs().max()) == 1.0
    # Nine tenths of a sample keep their relations, one tenth is clipped.
    assert bool(((got.abs() == 1.0).flatten(1).sum(1) == 10).all())


def test_one_batch_of_64_is_64_batches_of_one() -> None:
    inputs = make((64, 1, 9), many=True, guided=True)
    together = dynamic_threshold(**inputs)
    each = ("x", "pred", "row", "uncond", "guidance_scale")
    for i in range(64):
        alone = dynamic_threshold(**{**inputs, **{k: inputs[k][i : i + 1] for k in each}})
        assert torch.equal(alone, together[i : i + 1])


def test_position_is_that_of_numpy() -> None:
    for size in (1, 2, 7, 12288):
        for ratio in (1e-9, 0.3, 0.995, 1.0):
            below, share = position(ratio, size)
            assert 0 <= below < size
            assert below + share == pytest.approx(ratio * (size - 1))
            assert np.quantile(np.arange(size), ratio) == pytest.approx(below + share)


@pytest.mark.parametrize("learned", ["none", "log"])
def test_opcheck(learned: str) -> None:
    inputs = make((2, 1, 5), guided=True, learned=learned)
    order = ("x", "pred", "table", "row", "ratio", "max_value", "uncond", "guidance_scale")
    arguments = (*(inputs[name] for name in order), learned)
    torch.library.opcheck(torch.ops.ddpm.dynamic_threshold.default, arguments)


def test_compiles_once_for_all_rows() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    inputs = make((2, 1, 5))

    def limits(row: Tensor) -> Tensor:
        return dynamic_threshold(**{**inputs, "row": row}) * 2

    compiled = torch.compile(limits, fullgraph=True, backend=counter)
    for row in range(ROWS):
        assert torch.equal(compiled(torch.tensor(row)), limits(torch.tensor(row)))
    assert counter.frame_count == 1


BAD: list[tuple[str, Any, str]] = [
    ("x", lambda x: x[:, :, :0].contiguous(), r"(pred|x) has shape"),
    ("x", lambda x: x.double(), "x has dtype torch.float64"),
    ("x", lambda x: x.clone().requires_grad_(), "x has requires_grad=True; allowed for a"),
    ("pred", lambda p: p.clone().requires_grad_(), "pred has requires_grad=True; allowed for a"),
    ("pred", lambda p: p.to("meta"), "pred is on device meta; allowed: cpu"),
    ("table", lambda t: t[:, :5], r"table has shape \(6, 5\); allowed: \[K, 8\]"),
    ("row", lambda r: r * 0 + 6, "row contains 6; allowed: 0..5"),
    ("ratio", lambda _: 0.0, "ratio is 0.0; allowed: above 0 and at most 1"),
    ("ratio", lambda _: 1.5, "ratio is 1.5; allowed: above 0 and at most 1"),
    ("ratio", lambda _: math.nan, "ratio is nan; allowed: above 0"),
    ("max_value", lambda _: 0.5, "max_value is 0.5; allowed: at least 1"),
    ("max_value", lambda _: math.nan, "max_value is nan; allowed: at least 1"),
    ("uncond", lambda _: None, "uncond is None; allowed: uncond and guidance_scale, both"),
    ("learned", lambda _: "range", "learned is 'range'; allowed: 'none', 'log', 'sigmoid'"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_input_is_refused(name: str, change: Any, message: str) -> None:
    inputs = make((2, 1, 6), guided=True)
    with pytest.raises(ValueError, match=message):
        dynamic_threshold(**{**inputs, name: change(inputs[name])})


def test_empty_samples_are_refused() -> None:
    empty = make((2, 1, 0))
    with pytest.raises(ValueError, match=r"x has shape \(2, 1, 0\); allowed: at least one element"):
        dynamic_threshold(**empty)
