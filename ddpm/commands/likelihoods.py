"""How likely held-out images are to a trained model: the bound, and the flow where it is asked for.

The flow's density is one of real numbers, and images have grey levels: they are dequantised by the
noise of level 1 and scored with the bound's own decoder, see `ddpm.flow_likelihood.flow_bits`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.commands.terminal import console, progress
from ddpm.commands.trained import TrainedRun
from ddpm.data.images import ImageData
from ddpm.errors import InputError, check
from ddpm.likelihood import Bound, collect
from ddpm.processes.base import ScoresByFlow, ScoresEachImage

LIKELIHOODS = ("vlb", "ode")
FIT_IMAGES = 2000
"""Training images that the decoder's standard deviation is fitted to."""
DEQUANTISATION = "noise of level 1, with the decoder of the bound"


@dataclass(frozen=True, eq=False)
class Likelihood:
    """What held-out images cost in bits per dimension.

    Attributes:
        bound: Terms of the bound, averaged over the images.
        decoder_std: Standard deviation of the decoder, where it is one number.
        by_image: float64 arrays [N, ...] with what each image costs; empty for models that tell
            averages alone.
        flow: What the flow says, for eval.json, or None.
    """

    bound: Bound
    decoder_std: float | None
    by_image: dict[str, np.ndarray]
    flow: dict[str, Any] | None


def check_likelihood(name: str, run: TrainedRun) -> None:
    """Refuse a likelihood that is unknown, or that the model does not have.

    Raises:
        InputError: naming it and what is allowed.
    """
    check(name in LIKELIHOODS, "likelihood", name, " or ".join(LIKELIHOODS))
    if name == "ode":
        model = run.trained
        if not isinstance(model, ScoresByFlow):
            raise InputError("likelihood = 'ode': allowed for a model without a flow is vlb")
        model.check_flow()


def likelihood(
    run: TrainedRun, data: ImageData, seed: int, max_images: int, name: str
) -> Likelihood:
    """Score held-out images; where the model has classes, given theirs.

    Args:
        run: The model.
        data: Its images.
        seed: Key of the evaluation noise.
        max_images: At most so many images, the first ones.
        name: "vlb" for the bound alone, "ode" for the flow beside it; see `check_likelihood`.
    """
    model, known = run.trained, run.trained.classes > 0
    test = data.test[:max_images].to(run.device)
    labels = _labels(data.test_labels, max_images, run) if known else None
    std = model.fit_decoder(
        data.train[:FIT_IMAGES].to(run.device),
        _labels(data.train_labels, FIT_IMAGES, run) if known else None,
        seed,
    )
    bound, by_image = _bound(run, test, labels, seed, std)
    flow = None
    if name == "ode":
        assert isinstance(model, ScoresByFlow)
        with console.status("bits/dim by the flow"):
            bits = model.flow_bits(test, labels, seed, std)
        parts = {"total": bits.total, "decoder": bits.decoder, "density": bits.flow,
                 "noise": bits.noise}  # fmt: skip
        by_image |= {f"flow_{part}": values.cpu().numpy() for part, values in parts.items()}
        means = {part: float(values.mean()) for part, values in parts.items()}
        flow = {"bits_per_dim": means.pop("total"), **means, "dequantisation": DEQUANTISATION}
    return Likelihood(bound, std, by_image, flow)


def _bound(
    run: TrainedRun, test: Tensor, labels: Tensor | None, seed: int, std: float | None
) -> tuple[Bound, dict[str, np.ndarray]]:
    """The bound, and its terms by image where the model tells them."""
    model, count, name = run.trained, run.trained.levels, "bits/dim"
    with progress(unit=" levels") as bar:
        if not isinstance(model, ScoresEachImage):
            loop = model.terms(test, labels, seed, std)
            averages = list(bar.track(loop, total=count, description=name))
            return collect(model.prior_bits(test, labels, seed), averages), {}
        prior = model.prior_bits_by_image(test).cpu()
        terms, means = torch.zeros(len(test), count + 1, dtype=torch.float64), []
        each = model.terms_by_image(test, labels, seed, std)
        for t, bits in bar.track(each, total=count, description=name):
            terms[:, t] = bits
            means.append((t, float(bits.mean())))
    total = prior + terms.sum(dim=1)
    by_image = {"vlb_total": total, "vlb_prior": prior, "vlb_terms": terms}
    arrays = {name: values.numpy() for name, values in by_image.items()}
    return collect(float(prior.mean()), means), arrays


def _labels(labels: Tensor | None, most: int, run: TrainedRun) -> Tensor:
    """Classes of the first images, on the device of a model that needs them."""
    if labels is None:
        raise InputError(f"data = {run.config.data}: has no labels any more, and the model needs "
                         "them")  # fmt: skip
    return labels[:most].to(run.device)
