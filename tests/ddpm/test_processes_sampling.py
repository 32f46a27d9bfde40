"""Families of models as samplers and likelihoods see them: what each can do and begins with."""

import math
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm import likelihood
from ddpm.data.images import to_float
from ddpm.errors import InputError
from ddpm.keys import Key
from ddpm.prior import decoder_bits
from ddpm.processes.base import ScoresByFlow, ScoresEachImage
from ddpm.processes.gaussian import TrainedGaussian
from ddpm.processes.prior import PriorProcess, TrainedPrior
from ddpm.samplers.ilvr import Ilvr
from ddpm.samplers.sampler import Sampler
from tests.ddpm.small import IMAGES
from tests.ddpm.test_processes import CLASSES, FAMILIES, LABELS, TOLD, drawn, trainer_of


class Telling(torch.nn.Module):
    """A network whose output is the label alone, the number of classes for none."""

    def forward(self, x: Tensor, _: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        return torch.ones_like(x) * labels.reshape(-1, 1, 1, 1) / 10


@pytest.mark.parametrize(("weight", "means"), [(1.0, 0.1), (0.0, 0.3), (3.0, 0.3 - 3 * 0.2)])
def test_guidance_leads_from_no_class_to_the_class(weight: float, means: float) -> None:
    config = replace(TOLD, prediction="x0")
    trained = trainer_of(config).process.trained(Telling())
    assert isinstance(trained, TrainedGaussian)
    sampler = Sampler(name="ddim", guidance=weight, label=1)
    # With the deterministic sampler the last step is the estimate itself.
    assert torch.allclose(drawn(trained, sampler), torch.full((3, 1, 4, 4), means), atol=1e-6)


def test_each_class_in_turn_or_one() -> None:
    assert Sampler().labels(range(2, 6), CLASSES).tolist() == [2, 0, 1, 2]  # type: ignore[union-attr]
    assert Sampler(label=1).labels(range(3), CLASSES).tolist() == [1, 1, 1]  # type: ignore[union-attr]
    assert Sampler().labels(range(3), 0) is None


FOLLOWED = Ilvr(torch.zeros(1, 1, 4, 4), 2)
BAD: list[tuple[str, Sampler, str]] = [
    ("loss-aware", Sampler(guidance=2.0), "guidance = 2.0: allowed is 1 for a model without"),
    ("loss-aware", Sampler(label=0), "label = 0: allowed is none for a model without classes"),
    ("told classes", Sampler(label=3), "label = 3: allowed is 0 to 2"),
    ("told classes", Sampler(name="magic"), "sampler = 'magic': allowed is ancestral, ddim"),
    ("told classes", Sampler(steps=5), "steps"),
    ("discrete", Sampler(name="ddim"), "sampler = 'ddim': allowed is ancestral for discrete"),
    ("discrete", Sampler(guidance=2.0), "guidance = 2.0: allowed is 1 for discrete data"),
    ("discrete", Sampler(steps=5), "steps"),
    ("discrete", Sampler(spacing="karras"), "spacing = 'karras': allowed is trailing for disc"),
    ("discrete", Sampler(eta=0.5), "eta = 0.5: allowed is 0 for discrete data"),
    ("discrete", Sampler(variance="beta"), "variance = 'beta': allowed is none for discrete"),
    ("discrete", Sampler(sde="ve"), "sde = 've': allowed is none for discrete data"),
    ("discrete", Sampler(ilvr=FOLLOWED), "ilvr is given: allowed for discrete data is none"),
    (
        "discrete",
        Sampler(levels=(3, 1, 0)),
        "levels begin at 3: allowed for discrete",
    ),
    ("discrete", Sampler(levels=(4, 4, 0)), "strictly decreasing"),
    ("discrete", Sampler(levels=(4, 0), steps=1), "steps = 1: allowed with levels of your own"),
    ("discrete", Sampler(label=0), "label = 0: allowed is none"),
    ("autoencoder", Sampler(steps=3), "steps = 3: allowed is 1 for an autoencoder"),
    ("autoencoder", Sampler(name="ddim"), "sampler = 'ddim'"),
    ("autoencoder", Sampler(guidance=0.0), "guidance = 0.0"),
    ("autoencoder", Sampler(levels=(1, 0)), "levels = .*allowed is none for an autoencoder"),
    ("autoencoder", Sampler(ilvr=FOLLOWED), "ilvr is given: allowed for an autoencoder is none"),
    ("prior of the data", Sampler(ilvr=FOLLOWED), "ilvr is given: allowed with prior = 'data'"),
    ("prior of the data", Sampler(name="ode-adaptive"), "sampler = 'ode-adaptive': allowed is anc"),
    ("told classes", Sampler(guidance=math.inf), "guidance = inf: allowed is a finite number"),
    ("told classes", Sampler(levels=(3, 0), spacing="karras"), "spacing = 'karras': allowed is no"),
    ("loss-aware", Sampler(name="ode-adaptive", eta=0.5), "eta = 0.5: allowed is none with"),
    ("loss-aware", Sampler(name="sde-adaptive", ilvr=FOLLOWED), "ilvr with sampler = 'sde-adap"),
]


@pytest.mark.parametrize(("name", "sampler", "message"), BAD)
def test_what_a_model_cannot_do(name: str, sampler: Sampler, message: str) -> None:
    trainer: Any = trainer_of(FAMILIES[name])
    trained = trainer.process.trained(trainer.model)
    with pytest.raises(InputError, match=message):
        trained.check(sampler)


@pytest.mark.parametrize("name", ["loss-aware", "prior of the data", "discrete"])
def test_the_start_is_what_the_network_sees_first(name: str) -> None:
    process = trainer_of(FAMILIES[name]).process
    channels = 2 if name == "discrete" else 1
    if isinstance(process, PriorProcess):
        process.fit(lambda most: IMAGES[:most])
    seen: list[tuple[int, Tensor]] = []

    class Seeing(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append((int(t[0]), x))
            return torch.zeros(len(x), 17 if channels == 2 else 1, 4, 4)

    trained = process.trained(Seeing())
    sampler = Sampler(levels=(4, 2, 0) if channels == 2 else (3, 2, 0))
    drawn(trained, sampler)
    start = trained.start((3, 1, 4, 4), Key.of(2, range(3)), sampler)
    assert start is not None
    level, x = seen[0]
    assert (start.t, start.step, start.steps) == (level, 0, 2)
    if isinstance(trained, TrainedPrior):
        x = trained.prior.restore(x)
    # A network of states is told the masks in a second channel.
    torch.testing.assert_close(start.x, x[:, :1], rtol=0, atol=1e-6)


def test_levels_of_ones_own_in_discrete_data() -> None:
    trained = trainer_of(FAMILIES["discrete"]).process.trained(
        trainer_of(FAMILIES["discrete"]).model
    )
    chosen = Sampler(levels=(4, 3, 1, 0))
    assert trained.check(chosen) == 3
    states = list(trained.sample((2, 1, 4, 4), Key.of(2, range(2)), chosen))
    assert [state.t for state in states] == [3, 1, 0]
    even = Sampler(levels=(4, 2, 0))
    assert torch.equal(drawn(trained, even), drawn(trained, Sampler(steps=2)))


@pytest.mark.parametrize("name", ["loss-aware", "told classes", "learned variance"])
def test_bits_by_image_are_those_of_the_bound(name: str) -> None:
    trainer = trainer_of(FAMILIES[name])
    trained = trainer.process.trained(trainer.model.eval())
    assert isinstance(trained, TrainedGaussian)
    assert isinstance(trained, ScoresEachImage)
    labels = LABELS if trained.classes else None
    std = trained.fit_decoder(IMAGES, labels, 1)
    loop = likelihood.calc_bpd_loop(
        trained.diffusion, trained.model, to_float(IMAGES, 17), levels=17, decoder_std=std, seed=1,
        labels=labels,
    )  # fmt: skip
    each = list(trained.terms_by_image(IMAGES, labels, 1, std))
    for (t, mean), (own, bits) in zip(loop, each, strict=True):
        assert own == t
        assert bits.shape == (len(IMAGES),)
        assert float(bits.mean()) == pytest.approx(mean, rel=1e-12)


def test_bits_by_image_with_a_prior_are_those_of_all() -> None:
    trainer = trainer_of(FAMILIES["prior of the data"])
    trained = trainer.process.trained(trainer.model.eval())
    assert isinstance(trained, TrainedPrior)
    std = trained.fit_decoder(IMAGES, None, 1)
    assert std is not None
    *_, (t, bits) = trained.terms_by_image(IMAGES, None, 1, std)
    x = to_float(IMAGES, 17)
    guess = likelihood.estimate(
        trained.diffusion, trained.model, trained.prior.whiten(x), 1, 1, None
    )  # fmt: skip
    assert t == 1
    assert float(bits.mean()) == pytest.approx(decoder_bits(trained.prior, guess, x, std, 17))


def test_models_without_a_flow() -> None:
    for name in ("discrete", "autoencoder"):
        trainer = trainer_of(FAMILIES[name])
        trained = trainer.process.trained(trainer.model)
        assert not isinstance(trained, ScoresByFlow)
        assert not isinstance(trained, ScoresEachImage)
    trainer = trainer_of(FAMILIES["prior of the data"])
    trained = trainer.process.trained(trainer.model)
    assert isinstance(trained, ScoresByFlow)
    with pytest.raises(InputError, match="likelihood = 'ode': allowed with prior"):
        trained.check_flow()


@pytest.mark.skipif(find_spec("torchdiffeq") is None, reason="torchdiffeq is not installed")
def test_a_flow_needs_signal_everywhere() -> None:
    trainer = trainer_of(FAMILIES["zero terminal SNR"])
    trained = trainer.process.trained(trainer.model)
    assert isinstance(trained, ScoresByFlow)
    with pytest.raises(InputError, match=r"likelihood = 'ode': levels begin at 4: .*signal"):
        trained.check_flow()
    with pytest.raises(InputError, match=r"levels begin at 4: .*signal"):
        trained.check(Sampler(name="ode-adaptive"))


@pytest.mark.skipif(find_spec("torchsde") is None, reason="torchsde is not installed")
@pytest.mark.parametrize("name", ["ode-adaptive", "sde-adaptive"])
def test_adaptive_samplers_are_known_by_name(name: str) -> None:
    config = replace(TOLD, prediction="x0")
    trained = trainer_of(config).process.trained(Telling())
    sampler = Sampler(name=name, levels=(4, 2, 1, 0), guidance=0.0)
    assert trained.check(sampler) == 3
    labels = sampler.labels(range(3), CLASSES)
    states = list(trained.sample((3, 1, 4, 4), Key.of(2, range(3)), sampler, labels))
    assert [state.t for state in states] == [2, 1, 0]
    # Without the class the network says one value, and the last step returns it.
    assert torch.allclose(states[-1].x, torch.full((3, 1, 4, 4), 0.3), atol=1e-6)
