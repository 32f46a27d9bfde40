"""Arguments for every registered op, made from its schema, for tests that hold all ops to one rule.

An op is found by listing the namespace; its arguments are found by their names. A new op, or a new
argument, fails the tests until it has its line here.
"""

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm import kernels
from ddpm.kernels.affine_step import COLUMNS
from ddpm.kernels.batching import ONE_OR_PER_SAMPLE, SHARED
from tests.kernels.batches import make_batch

LEVELS = 10
ROWS = 6


class Variant(NamedTuple):
    """Optional tensors that are given, and arguments that are not tensors."""

    given: frozenset[str]
    constants: dict[str, Any]


def variant(given: str = "", **constants: Any) -> Variant:
    return Variant(frozenset(given.split()), constants)


_PLACE = "seed step sample"
_LOSSES = (
    variant("noise", prediction="eps"),
    variant(_PLACE, prediction="eps"),
    variant("x0", prediction="x0"),
    variant("x0 noise", prediction="v"),
    variant(f"x0 {_PLACE}", prediction="v"),
    variant(_PLACE, prediction="score"),
)
_BOUNDS = (
    variant("noise", prediction="eps", learned="log", detach_mean=True),
    variant(_PLACE, prediction="v", learned="sigmoid", detach_mean=False),
    variant(prediction="x0", learned="log", detach_mean=False),
)
_GUIDED = "uncond guidance_scale"
_STEPS = (
    variant(clip=0.0, draw=False, learned="none"),
    variant(clip=1.0, draw=True, learned="none"),
    variant(_GUIDED, clip=1.0, draw=True, learned="none"),
    variant(f"{_GUIDED} threshold", clip=0.0, draw=False, learned="none"),
    variant(clip=1.0, draw=True, learned="log"),
    variant(_GUIDED, clip=0.0, draw=True, learned="sigmoid"),
)
_SECOND_ORDER = (*_STEPS, *(Variant(given | {"history"}, rest) for given, rest in _STEPS[:3]))
_THRESHOLDS = (
    variant(ratio=0.9, max_value=2.0, learned="none"),
    variant(_GUIDED, ratio=0.995, max_value=float("inf"), learned="log"),
)

VARIANTS: dict[str, tuple[Variant, ...]] = {
    "normal": (variant(stream=3, shape=[2, 5], dtype=torch.float16),),
    "q_sample": (variant("noise"),),
    "q_sample_drawn": (variant(),),
    "q_sample_v": (variant("noise"), variant(_PLACE)),
    "diffusion_loss": _LOSSES,
    "diffusion_loss_backward": _LOSSES,
    "variational_loss": _BOUNDS,
    "variational_loss_backward": _BOUNDS,
    "sampler_step": _STEPS,
    "sampler_step_multistep": _SECOND_ORDER,
    "dynamic_threshold": _THRESHOLDS,
}

_DIFFERENTIABLE: dict[str, frozenset[str]] = {
    "q_sample": frozenset({"x0", "noise"}),
    "q_sample_drawn": frozenset({"x0"}),
    "q_sample_v": frozenset({"x0", "noise"}),
    "diffusion_loss": frozenset({"pred"}),
    "variational_loss": frozenset({"output"}),
    "sampler_step": frozenset({"x", "pred", "uncond"}),
    "sampler_step_multistep": frozenset({"x", "pred", "uncond", "history"}),
}


def differentiable(op: str, chosen: Variant) -> list[str]:
    """Inputs that have a gradient; the other floating point inputs refuse requires_grad."""
    if "threshold" in chosen.given or (
        chosen.constants.get("learned", "none") != "none" and "step" in op
    ):
        return []
    optional = {"noise", "uncond", "history"}
    return sorted(n for n in _DIFFERENTIABLE.get(op, ()) if n not in optional - chosen.given)


CASES = [(op, chosen) for op, variants in VARIANTS.items() for chosen in variants]
IDS = [f"{op}-{i}" for op, variants in VARIANTS.items() for i in range(len(variants))]


def modules() -> list[ModuleType]:
    """All modules of the kernels but the launchers."""
    found = pkgutil.iter_modules(kernels.__path__, "ddpm.kernels.")
    return [importlib.import_module(module.name) for module in found if not module.ispkg]


def registered() -> set[str]:
    """Names of all ops of the namespace, once every module that registers some is imported."""
    modules()
    names = torch._C._dispatch_get_all_op_names()
    return {name.split("::")[1].split(".")[0] for name in names if name.startswith("ddpm::")}


def op_of(name: str) -> Callable[..., Any]:
    """The registered op."""
    modules()
    op: Callable[..., Any] = getattr(torch.ops.ddpm, name).default
    return op


def public(name: str) -> Callable[..., Any]:
    """The function that users call, with the names of the schema; the op itself for a gradient."""
    found = [getattr(module, name) for module in modules() if hasattr(module, name)]
    function: Callable[..., Any] = op_of(name) if name.endswith("_backward") else found[0]
    return function


def arguments(
    name: str, chosen: Variant, batch: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, Any]:
    """Every argument of an op by its name, in the order of the schema."""
    tensors = _tensors(name, chosen, batch, dtype, seed)
    made: dict[str, Any] = {}
    modules()
    for argument in getattr(torch.ops.ddpm, name).default._schema.arguments:
        kind = str(argument.type)
        if kind == "Optional[Tensor]" and argument.name not in chosen.given:
            made[argument.name] = None
        elif "Tensor" in kind:
            made[argument.name] = tensors[argument.name]
        else:
            made[argument.name] = chosen.constants[argument.name]
    return made


def _tensors(
    name: str, chosen: Variant, batch: int, dtype: torch.dtype, seed: int
) -> dict[str, Tensor]:
    shape = (batch, 2, 3, 3)
    b = make_batch(shape, dtype, seed, LEVELS)
    rng = np.random.default_rng(abs(seed) + 1)
    # The output of a network that predicts its variance has twice the channels.
    doubled = chosen.constants.get("learned", "none") != "none"

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, size)).float()

    def answer() -> Tensor:
        return uniform(-1, 1, batch, 4 if doubled else 2, 3, 3).to(dtype)

    bound = name.startswith("variational")
    return {
        "x0": b.x0, "x": b.x0, "noise": b.noise, "history": b.noise,
        "pred": answer(), "output": answer(), "uncond": answer(),
        "t": torch.from_numpy(rng.integers(1, LEVELS + 1, batch)),
        "signal": b.signal, "sigma": b.sigma,
        "table": _bound_table() if bound else _step_table("history" in chosen.given),
        "weight": b.weight, "bound_weight": uniform(0.5, 2, batch),
        "seed": torch.tensor(5), "step": b.step, "sample": b.sample,
        "levels": torch.arange(ROWS, 0, -1),
        "row": torch.from_numpy(rng.integers(0, ROWS, batch)),
        "guidance_scale": uniform(0, 3, batch), "threshold": uniform(1, 2, batch),
        "grad": uniform(0.5, 2, batch),
    }  # fmt: skip


def _step_table(history: bool) -> Tensor:
    table = np.random.default_rng(0).uniform(0.1, 1.5, (ROWS, len(COLUMNS)))
    if not history:
        table[:, COLUMNS.index("c")] = 0
    return torch.from_numpy(table).float()


def _bound_table() -> Tensor:
    table = np.random.default_rng(0).uniform(0.1, 1.5, (LEVELS + 1, 6))
    table[0] = np.nan
    table[2:, 5] = 0
    return torch.from_numpy(table).float()


def per_sample(made: dict[str, Any]) -> list[str]:
    """Arguments with one entry a sample."""
    return [
        name for name, x in made.items()
        if isinstance(x, Tensor) and x.ndim and name not in SHARED
    ]  # fmt: skip


def shared(made: dict[str, Any]) -> list[str]:
    """Tensors that the samples of a call share."""
    return [name for name, x in made.items() if isinstance(x, Tensor) and name in SHARED]


def flexible(made: dict[str, Any]) -> list[str]:
    """Tensors that may have one entry, or one a sample."""
    return [name for name, x in made.items() if isinstance(x, Tensor) and name in ONE_OR_PER_SAMPLE]


def results(output: Any) -> tuple[Tensor, ...]:
    """The outputs of an op that has one or many."""
    return (output,) if isinstance(output, Tensor) else tuple(output)
