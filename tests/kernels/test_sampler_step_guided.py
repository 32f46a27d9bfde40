"""Steps with guidance, learned variance, thresholds and history, and what they refuse."""

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

from ddpm.kernels.affine_step import COLUMNS, LEARNED
from ddpm.kernels.sampler_step import sampler_step, sampler_step_multistep
from tests.kernels.batches import assert_close, assert_same, dtypes, exact
from tests.kernels.steps import ROWS, as_step, interpreted, make_step, truth
from tests.kernels.test_philox import SEEDS

SHAPES = st.tuples(st.integers(0, 3), st.integers(1, 2), st.sampled_from([0, 1, 3, 4, 65, 130]))
OPTIONS = st.fixed_dictionaries(
    {
        "many": st.booleans(),
        "clip": st.sampled_from([0.0, 0.7]),
        "draw": st.booleans(),
        "pred_dtype": dtypes(),
        "guided": st.booleans(),
        "thresholded": st.booleans(),
        "learned": st.sampled_from(LEARNED),
        "history": st.booleans(),
    }
)


@given(SHAPES, dtypes(), SEEDS, OPTIONS)
@settings(max_examples=40)
def test_every_form_is_the_formula(
    shape: tuple[int, ...], dtype: torch.dtype, seed: int, options: dict[str, Any]
) -> None:
    step = make_step(shape, dtype, seed, **options)
    want, want_clean = truth(step)
    got, clean = sampler_step_multistep(**{"history": None, **step})
    # Cancellation: up to seven terms of size 10, and deviations up to exp(3), may nearly cancel.
    scale = 20 + (np.abs(want).max() if want.size else 0)
    assert_close(got, want, "cpu", scale)
    assert_close(clean, want_clean, "cpu", scale=10)
    if not options["history"]:
        assert torch.equal(sampler_step(**step), got)


@given(SHAPES, dtypes(), SEEDS, OPTIONS)
@settings(max_examples=40)
def test_triton_is_torch(
    shape: tuple[int, ...], dtype: torch.dtype, seed: int, options: dict[str, Any]
) -> None:
    step = make_step(shape, dtype, seed, **options)
    for got, want in zip(
        interpreted(step, keep=True),
        sampler_step_multistep(**{"history": None, **step}),
        strict=True,
    ):
        assert_same(got, want)


def test_second_order_uses_the_estimate_of_the_step_before() -> None:
    step = make_step((2, 3, 4), history=True, draw=False, clip=0.8)
    step["table"][0, 4] = 0.0
    x, _ = step["x"], step.pop("history")
    first, clean = sampler_step_multistep(**{**step, "history": None, "row": torch.tensor(0)})
    second, _ = sampler_step_multistep(
        **{**step, "x": first, "history": clean, "row": torch.tensor(1)}
    )
    clean_of = truth({**step, "row": torch.tensor(0)})[1]
    assert_close(clean, clean_of, "cpu", scale=5)
    step["history"] = torch.from_numpy(clean_of)
    step["x"], step["row"] = first, torch.tensor(1)
    assert_close(second, truth(step)[0], "cpu", scale=20)
    assert x.shape == second.shape


def test_guidance_of_one_is_the_conditional_output() -> None:
    step = make_step((2, 2, 5), guided=True)
    step["pred"], step["uncond"] = step["pred"].round(), step["uncond"].round()
    plain = {**step, "uncond": None, "guidance_scale": None}
    for scale, alone in ((1.0, "pred"), (0.0, "uncond")):
        got = sampler_step(**{**step, "guidance_scale": torch.tensor(scale)})
        assert torch.equal(got, sampler_step(**{**plain, "pred": step[alone]}))


def test_a_threshold_scales_to_the_unit_range() -> None:
    step = make_step((2, 1, 4), thresholded=True, draw=False)
    step["table"] = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    step["levels"], step["row"] = torch.tensor([9]), torch.tensor(0)
    step["pred"] = torch.tensor([[[2.5, -9.0, 1.25, torch.nan]]] * 2)
    step["threshold"] = torch.tensor([2.5, 5.0])
    want = torch.tensor([[[1.0, -1.0, 0.5, torch.nan]], [[0.5, -1.0, 0.25, torch.nan]]])
    for got in (sampler_step(**step), interpreted(step)[0]):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("learned", LEARNED)
def test_one_batch_of_64_is_64_batches_of_one(learned: str) -> None:
    step = make_step(
        (64, 1, 9), many=True, guided=True, thresholded=True, learned=learned, history=True
    )
    together = sampler_step_multistep(**step)
    each = ("x", "pred", "history", "row", "sample", "uncond", "guidance_scale", "threshold")
    for i in range(64):
        alone = sampler_step_multistep(**{**step, **{k: step[k][i : i + 1] for k in each}})
        for got, want in zip(alone, together, strict=True):
            assert torch.equal(got, want[i : i + 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_change_nothing(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    options: Any = {"guided": True, "thresholded": True, "learned": "log", "history": True}
    step = make_step((5, 1, 9), dtype, many=True, **options)
    whole = sampler_step_multistep(**step)
    for part in (4, 20, 27):
        monkeypatch.setattr("ddpm.kernels.samples.PART", part)
        for got, want in zip(sampler_step_multistep(**step), whole, strict=True):
            assert torch.equal(got, want)


@given(SEEDS, st.booleans(), st.booleans(), st.sampled_from([0.0, 0.7]))
@settings(max_examples=30)
def test_gradients_are_slopes(seed: int, many: bool, guided: bool, clip: float) -> None:
    step = make_step(
        (3, 1, 4), seed=seed, many=many, clip=clip, guided=guided, history=True, draw=False
    )
    names = ["x", "pred", "history", *(["uncond"] if guided else [])]
    rng = np.random.default_rng(7)
    incoming = rng.standard_normal((2, 3, 1, 4))
    for name in names:
        step[name].requires_grad_()
    outputs = sampler_step_multistep(**step)
    sum((o * torch.from_numpy(g)).sum() for o, g in zip(outputs, incoming, strict=True)).backward()  # type: ignore[union-attr]
    _, unclipped = truth({**step, "clip": 0.0})
    smooth = np.abs(np.abs(unclipped) - clip) > 1e-5
    for name in names:
        ahead, behind = (
            np.stack(truth({**step, name: step[name].detach().double() + side * 1e-6}))
            for side in (1.0, -1.0)
        )
        slope = ((ahead - behind) / 2e-6 * incoming).sum(0)
        np.testing.assert_allclose(
            exact(step[name].grad)[smooth], slope[smooth], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("options", [{"learned": "log"}, {"thresholded": True}])
@pytest.mark.parametrize("name", ["x", "pred", "uncond", "history"])
def test_undefined_gradients_are_refused(options: dict[str, Any], name: str) -> None:
    step = make_step((2, 1, 4), guided=True, history=True, **options)
    step[name].requires_grad_()
    with pytest.raises(ValueError, match=f"{name} has requires_grad=True; allowed with"):
        sampler_step_multistep(**step)
    with torch.no_grad():
        sampler_step_multistep(**step)


@pytest.mark.parametrize("learned", LEARNED)
@pytest.mark.parametrize("history", [False, True])
def test_opcheck(learned: str, history: bool) -> None:
    step = make_step((2, 1, 5), guided=True, learned=learned, history=history)
    if learned == "none":
        for name in ("x", "pred", "uncond", *(["history"] if history else [])):
            step[name].requires_grad_()
    given_step = as_step(step)
    torch.library.opcheck(torch.ops.ddpm.sampler_step_multistep.default, tuple(given_step))
    if not history:
        single = (*given_step[:2], *given_step[3:])
        torch.library.opcheck(torch.ops.ddpm.sampler_step.default, single)


def test_compiles_once_for_all_rows_and_scales() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    step = make_step((3, 1, 5), guided=True, learned="sigmoid", history=True)

    def advance(row: Tensor, scale: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        changed = {"row": row, "guidance_scale": scale, "history": history}
        return sampler_step_multistep(**{**step, **changed})

    compiled = torch.compile(advance, fullgraph=True, backend=counter)
    history = step["history"]
    for row in range(ROWS):
        place = (torch.tensor(row), torch.tensor(0.5 * row), history)
        want_s, want = advance(*place)
        got_s, history = compiled(*place)
        assert torch.equal(got_s, want_s)
        assert torch.equal(history, want)
    assert counter.frame_count == 1


def test_a_row_that_needs_history_gives_nan_on_a_gpu() -> None:
    step = make_step((2, 1, 5), many=True, history=True)
    step.pop("history")
    step["table"][1, COLUMNS.index("c")] = 0.0
    step["row"] = torch.tensor([0, 1])
    (got,) = interpreted(step)
    assert got[0].isnan().all()
    assert got[1].isfinite().all()


META = torch.device("meta")
BAD: list[tuple[str, Any, str]] = [
    ("learned", lambda _: "range", "learned is 'range'; allowed: 'none', 'log', 'sigmoid'"),
    ("learned", lambda _: "none", r"pred has shape \(2, 4, 3\); allowed: \(2, 2, 3\)"),
    ("pred", lambda p: p[:, :3], r"pred has strides|pred has shape \(2, 3, 3\); allowed"),
    ("uncond", lambda _: None, "uncond is None; allowed: uncond and guidance_scale, both or"),
    ("uncond", lambda u: u[:, :2].clone(), r"uncond has shape \(2, 2, 3\); allowed: \(2, 4, 3\)"),
    ("uncond", lambda u: u.double(), "uncond has dtype torch.float64"),
    ("uncond", lambda u: u.to(META), "uncond is on device meta; allowed: cpu"),
    ("guidance_scale", lambda _: None, "guidance_scale is None; allowed: uncond and"),
    ("guidance_scale", lambda s: s.double(), "guidance_scale has dtype torch.float64"),
    ("guidance_scale", lambda s: s.expand(3), r"guidance_scale has shape \(3,\); allowed: \(\)"),
    ("guidance_scale", lambda s: s.clone().requires_grad_(), "guidance_scale has requires_grad"),
    ("guidance_scale", lambda s: s.expand(2), "guidance_scale has strides"),
    ("threshold", lambda t: t[:1], r"threshold has shape \(1,\); allowed: \(2,\)"),
    ("threshold", lambda t: t.double(), "threshold has dtype torch.float64"),
    ("threshold", lambda t: t.to(META), "threshold is on device meta; allowed: cpu"),
    ("threshold", lambda t: t.clone().requires_grad_(), "threshold has requires_grad=True"),
    ("history", lambda h: h[:, :1], r"history has (strides|shape)"),
    ("history", lambda h: h.double(), "history has dtype torch.float64"),
    ("history", lambda h: h.to(META), "history is on device meta; allowed: cpu"),
    ("history", lambda _: None, "table has c != 0 in the row of a step without history"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_input_is_refused(name: str, change: Any, message: str) -> None:
    step = make_step((2, 2, 3), guided=True, thresholded=True, learned="log", history=True)
    with pytest.raises(ValueError, match=message):
        sampler_step_multistep(**{**step, name: change(step[name])})


def test_learned_needs_channels() -> None:
    step = make_step((2, 3), draw=False)
    with pytest.raises(ValueError, match=r"x has shape \(2,\); allowed with learned: \[B, C"):
        sampler_step(**{**step, "x": step["x"][:, 0].clone(), "learned": "log"})
