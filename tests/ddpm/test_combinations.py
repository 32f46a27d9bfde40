"""Every choice beside every other: it trains with the right gradient, or says why it cannot."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ddpm.config import (
    DiscreteConfig,
    ObjectiveConfig,
    OptimiserConfig,
    PriorKind,
    RunConfig,
    ScheduleConfig,
    TrainedVariance,
)
from ddpm.data.batches import InMemory
from ddpm.discrete.process import Transition
from ddpm.errors import InputError
from ddpm.kernels.philox import normals
from ddpm.models.mlp import MLPConfig
from ddpm.models.network import AnyConfig
from ddpm.models.transformer import TransformerConfig
from ddpm.models.unet import UNetConfig
from ddpm.models.untied import UntiedConfig
from ddpm.models.vae import VaeConfig
from ddpm.objectives import Objective
from ddpm.predictions import TRAINABLE
from ddpm.samplers.variances import learned_form
from ddpm.training.level_samplers import LevelSampling
from ddpm.training.trainer import Trainer
from ddpm.weightings import WEIGHTINGS
from tests.ddpm.small import IMAGES

LEVELS = 4
CLASSES = 3
BATCH = 5
PROCESSES = ("gaussian", "discrete", "vae")
SCHEDULES = ("log_snr_linear", "linear", "cosine", "learned")
NETWORKS: dict[str, Callable[..., AnyConfig]] = {
    "unet": partial(UNetConfig, channels=4, multipliers=(1, 2), blocks=1),
    "mlp": partial(MLPConfig, width=8, depth=1),
    "transformer": partial(TransformerConfig, width=8, depth=1, heads=2),
    "untied": partial(UntiedConfig, levels=LEVELS, hidden=(8,)),
    "vae": partial(VaeConfig, latent=2, hidden=5),
}
CPU = torch.device("cpu")
STEPS = [0.03 / 4**i for i in range(8)]
"""Of finite differences, whose losses have the digits of float32."""
CLOSE = 0.02
"""Largest relative error of a gradient."""


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    """A value for every choice, most of them the usual one where a family has none."""
    process = draw(st.sampled_from(PROCESSES))
    gaussian = process == "gaussian"

    def chosen(values: Any, usual: Any, share: int = 3) -> Any:
        """One of the values, in families that have no choice the usual one but rarely."""
        free = gaussian or draw(st.integers(0, 8 * share)) == 0
        return draw(st.sampled_from(tuple(values))) if free else usual

    network = draw(st.sampled_from(tuple(NETWORKS)))
    if draw(st.integers(0, 8)) > 0:
        network = "vae" if process == "vae" else "mlp" if network == "vae" else network
    variance = chosen(get_args(TrainedVariance), "posterior")
    right = learned_form(variance) != "none"
    return {
        "process": process,
        "network": network,
        "prediction": chosen(TRAINABLE, "eps"),
        "variance": variance,
        "learned": right if draw(st.integers(0, 8)) > 0 else not right,
        "objective": chosen((None, *get_args(Objective)), None),
        "weighting": chosen((*WEIGHTINGS, *("simple",) * 6), "simple"),
        "schedule": chosen(SCHEDULES, "cosine"),
        "zero_terminal_snr": chosen((False, False, False, True), False),
        "prior": chosen((*get_args(PriorKind), "standard"), "standard"),
        "level_sampling": draw(st.sampled_from(get_args(LevelSampling))),
        "transition": draw(st.sampled_from(get_args(Transition))),
        "classes": draw(st.sampled_from((0, CLASSES))),
        "seed": draw(st.integers(0, 2**32)),
    }


def made(choice: dict[str, Any]) -> RunConfig:
    """The configuration of some choices.

    Raises:
        InputError: they do not go together.
    """
    options: dict[str, Any] = {}
    if choice["network"] != "vae":
        options = {"classes": choice["classes"], "learned_variance": choice["learned"]}
    if choice["network"] == "unet" and choice["process"] == "discrete":
        options["image_channels"] = 2 if choice["transition"] == "absorbing" else 1
    return RunConfig(
        data="none", data_digest="0", image_shape=(1, 4, 4), grey_levels=17, steps=3,
        seed=choice["seed"], batch_size=BATCH, process=choice["process"],
        prediction=choice["prediction"], variance=choice["variance"], prior=choice["prior"],
        level_sampling=choice["level_sampling"], label_dropout=0.3,
        objective=ObjectiveConfig(kind=choice["objective"], weighting=choice["weighting"]),
        schedule=ScheduleConfig(kind=choice["schedule"], levels=LEVELS,
                                zero_terminal_snr=choice["zero_terminal_snr"]),
        discrete=DiscreteConfig(transition=choice["transition"], auxiliary=0.1),
        model=NETWORKS[choice["network"]](**options),
        optimiser=OptimiserConfig(warmup=1, learning_rate=1e-2),
    )  # fmt: skip


def started(config: RunConfig) -> Trainer:
    """A trainer whose network has left its zero-initialised layers behind."""
    labels = torch.arange(len(IMAGES)) % CLASSES
    trainer = Trainer(config, InMemory(IMAGES, BATCH, config.seed, CPU, labels), CPU)
    with torch.no_grad():
        for index, parameter in enumerate(trainer.model.parameters()):
            size = parameter.numel()
            key = (torch.tensor(index), torch.tensor(0), torch.tensor([0]))
            noise = normals(*key, 255, size).view(parameter.shape)
            parameter.add_(0.05 * noise)
    return trainer


def works(choice: dict[str, Any]) -> bool:
    """Whether choices go together, from the papers and not from the code."""
    gaussian, network = choice["process"] == "gaussian", choice["network"]
    learned = learned_form(choice["variance"]) != "none"
    if (network == "vae") != (choice["process"] == "vae"):
        return False
    if choice["process"] == "vae" and choice["level_sampling"] != "uniform":
        return False
    if not gaussian:
        usual = {
            "prediction": "eps", "variance": "posterior", "objective": None,
            "weighting": "simple", "zero_terminal_snr": False, "prior": "standard",
        }  # fmt: skip
        has_variance = network != "vae" and choice["learned"]
        plain = all(choice[name] == value for name, value in usual.items())
        return plain and choice["schedule"] != "learned" and not has_variance
    return choice["learned"] == learned and _gaussian_works(choice, learned)


def _gaussian_works(choice: dict[str, Any], learned: bool) -> bool:
    objective = choice["objective"] or ("hybrid" if learned else "simple")
    if objective == ("simple" if learned else "hybrid"):
        return False
    if objective == "vlb" and choice["weighting"] != "simple":
        return False
    # Without signal at the last level the noise says nothing of the image.
    silent = choice["zero_terminal_snr"] or choice["schedule"] == "cosine_to_zero"
    if silent and choice["prediction"] in ("eps", "score"):
        return False
    if learned and (choice["prior"] == "data" or choice["schedule"] == "learned"):
        return False
    if choice["schedule"] != "learned":
        return True
    fixed = choice["prior"] == "standard" and not choice["zero_terminal_snr"]
    return fixed and choice["weighting"] == "simple"


@settings(max_examples=250, deadline=None)
@given(choices())
def test_a_step_trains_or_the_choice_is_refused(choice: dict[str, Any]) -> None:
    if not works(choice):
        with pytest.raises(InputError, match=r" = .*: allowed|allowed for|allowed is"):
            made(choice)
        return
    trainer = started(made(choice))
    before = {name: x.clone() for name, x in trainer.model.state_dict().items()}
    records = [trainer.update(), trainer.update(), trainer.update()]
    for record in records:
        assert math.isfinite(float(record.loss))
        assert math.isfinite(float(record.gradient_norm))
        assert float(record.gradient_norm) > 0
    moved = [n for n, x in trainer.model.state_dict().items() if not torch.equal(x, before[n])]
    assert moved
    assert all(bool(x.isfinite().all()) for x in trainer.model.state_dict().values())


def loss_of(trainer: Trainer) -> Tensor:
    """Mean loss of the first update, with its graph, summed in float64."""
    trainer.model.eval()
    batch, _ = trainer._batch(0, slice(0, BATCH))
    return trainer.process.losses(trainer.network, batch).double().mean()


@torch.no_grad()
def slope(
    trainer: Trainer, parameters: list[nn.Parameter], direction: list[Tensor], step: float
) -> float:
    """Central difference of the loss along a direction, extrapolated to a step of zero.

    The parameters are left as they were.
    """
    start, values = [p.detach().clone() for p in parameters], []
    for h in (step, step / 2):
        ends = []
        for sign in (1, -1):
            for parameter, x, d in zip(parameters, start, direction, strict=True):
                parameter.copy_(x + sign * h * d)
            ends.append(float(loss_of(trainer)))
        values.append((ends[0] - ends[1]) / (2 * h))
    for parameter, x in zip(parameters, start, strict=True):
        parameter.copy_(x)
    return (4 * values[1] - values[0]) / 3


@settings(max_examples=120, deadline=None)
@given(choices().filter(works))
@example(
    {
        "process": "gaussian", "network": "unet", "prediction": "v", "variance": "learned_range",
        "learned": True, "objective": "vlb", "weighting": "simple", "schedule": "cosine",
        "zero_terminal_snr": False, "prior": "standard", "level_sampling": "uniform",
        "transition": "uniform", "classes": 3, "seed": 5,
    }
)  # fmt: skip
@example(
    {
        "process": "discrete", "network": "unet", "prediction": "eps", "variance": "posterior",
        "learned": False, "objective": None, "weighting": "simple", "schedule": "cosine",
        "zero_terminal_snr": False, "prior": "standard", "level_sampling": "low_discrepancy",
        "transition": "uniform", "classes": 3, "seed": 2,
    }
)  # fmt: skip
def test_the_gradient_is_that_of_the_loss(choice: dict[str, Any]) -> None:
    config = made(choice)
    if (config.objective.kind or "hybrid") == "hybrid":
        # The bound's share trains the variance alone, which no difference of the loss shows.
        config = replace(config, objective=replace(config.objective, bound_rate=0.0))
    trainer = started(config)
    # A learned schedule has another loss than the network's.
    named = trainer.model.named_parameters()
    parameters = [p for name, p in named if not name.startswith("schedule.")]
    loss = loss_of(trainer)
    gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
    filled = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradient, strict=True)
    ]
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in filled))
    assert norm > 0
    # Some losses bend within a thousandth, so steps go down to where their rounding would show:
    # it was measured at 1e-7 of the loss.
    least = 5e-7 * float(loss.detach().abs()) / (CLOSE * norm)
    steps = [step for step in STEPS if step > least]
    assume(steps)
    direction = [g / norm for g in filled]
    errors = [abs(slope(trainer, parameters, direction, step) / norm - 1) for step in steps]
    assert min(errors) < CLOSE, list(zip(steps, errors, strict=True))
