"""Named settings of `ddpm train`, each measured here or taken from a paper."""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ddpm.errors import check

if TYPE_CHECKING:
    from ddpm.commands.request import Request


@dataclass(frozen=True)
class Preset:
    """Options of `ddpm train` under one name.

    Attributes:
        options: By the names of the fields of `Request`.
        source: Where the figures come from.
        own_data: Whether the user has to say where the images lie.
    """

    options: dict[str, Any]
    source: str
    own_data: bool = False


PRESETS = {
    "digits": Preset(
        {"data": "digits", "minutes": 4.0, "variance": "learned_range", "objective": "hybrid"},
        "measured, see docs/objectives.md",
    ),
    "fashion-mnist": Preset(
        {
            "data": "fashion-mnist", "minutes": 20.0, "batch_size": 64, "learning_rate": 2e-3,
            "prediction": "v", "weighting": "eps", "level_sampling": "low_discrepancy",
            "channels": 32, "multipliers": (1, 2, 2), "blocks": 1, "attention": (2,),
            "dropout": 0.0,
        },
        "measured in short trainings, see docs/objectives.md",
    ),
    "cifar10": Preset(
        {
            "data": "hf:uoft-cs/cifar10", "steps": 800_000, "batch_size": 128,
            "learning_rate": 2e-4, "warmup": 5000, "weight_decay": 0.0, "decay": "constant",
            "ema": (0.9999,), "schedule": "linear", "levels": 1000, "variance": "beta",
            "channels": 128, "multipliers": (1, 2, 2, 2), "blocks": 2, "attention": (1,),
            "dropout": 0.1,
        },
        "Ho, Jain and Abbeel, Denoising Diffusion Probabilistic Models, 2020, appendix B, "
        "https://arxiv.org/abs/2006.11239",
    ),
    "imagenet64": Preset(
        {
            "steps": 1_500_000, "batch_size": 128, "learning_rate": 1e-4, "warmup": 0,
            "weight_decay": 0.0, "decay": "constant", "ema": (0.9999,), "schedule": "cosine",
            "levels": 4000, "variance": "learned_range", "objective": "hybrid",
            "bound_rate": 0.001, "channels": 128, "multipliers": (1, 2, 3, 4), "blocks": 3,
            "attention": (2, 3), "dropout": 0.0,
        },
        "Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, 2021, "
        "https://arxiv.org/abs/2102.09672",
        own_data=True,
    ),
}  # fmt: skip


def completed(request: "Request") -> "Request":
    """A request with what its preset says and the user did not.

    Raises:
        InputError: there is no such preset, or it needs to be told where the images lie.
    """
    if request.preset is None:
        return request
    check(request.preset in PRESETS, "preset", request.preset, ", ".join(PRESETS))
    preset = PRESETS[request.preset]
    check(not preset.own_data or request.data is not None, "data", request.data,
          f"a path of images with preset = {request.preset!r}")  # fmt: skip
    given = {field.name: getattr(request, field.name) for field in fields(request)}
    options = {n: v for n, v in preset.options.items() if given[n] in (None, ())}
    if request.steps is not None or request.minutes is not None:
        options = {n: v for n, v in options.items() if n not in ("steps", "minutes")}
    return replace(request, **options)
