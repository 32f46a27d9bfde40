"""The training loop is a pure function of configuration, images and step."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ddpm.config import OptimiserConfig
from ddpm.data.images import to_float
from ddpm.data.order import permutation
from ddpm.distributed import ALONE
from ddpm.errors import InputError
from ddpm.kernels.streams import Stream
from ddpm.keys import Key, draw_levels
from ddpm.models.unet import UNetConfig
from ddpm.processes.choose import diffusion_of
from ddpm.runs import checkpoint
from ddpm.training.averaged import averaged_network
from ddpm.training.parallel import clip_gradient
from ddpm.training.rates import learning_rate
from ddpm.training.trainer import Trainer
from tests.ddpm.small import IMAGES, small_config, small_trainer


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    own = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    average = {f"ema.{k}": v for k, v in trainer.ema.tensors().items()}
    return {**own, **average}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def test_two_runs_are_bit_identical_whatever_the_global_generator_holds() -> None:
    first, second = small_trainer(), small_trainer()
    torch.default_generator.manual_seed(1)
    losses = [float(r.loss) for r in first.run()]
    torch.default_generator.manual_seed(2)
    assert losses == [float(r.loss) for r in second.run()]
    assert_equal(state(first), state(second))


def test_training_leaves_the_global_generator_alone() -> None:
    before = torch.default_generator.get_state()
    list(small_trainer().run())
    assert torch.equal(before, torch.default_generator.get_state())


def test_seeds_differ() -> None:
    first, second = small_trainer(small_config(seed=1)), small_trainer(small_config(seed=2))
    weights = [next(trainer.model.parameters()) for trainer in (first, second)]
    assert not torch.equal(*weights)
    assert float(first.update().loss) != float(second.update().loss)


def test_dropout_is_drawn_anew_at_every_update() -> None:
    trainer = small_trainer(small_config(dropout=0.5))
    masks = []
    for step in (63, 64, 63):
        with trainer.draws.dropout(step):
            masks.append(nn.functional.dropout(torch.ones(64), 0.5))
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[1])


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_resumed_run_is_bit_identical(tmp_path: Path, cut: int) -> None:
    whole = small_trainer()
    list(whole.run())
    broken = small_trainer()
    for record in broken.run():
        if record.step == cut:
            broken.save(tmp_path)
            break
    resumed = small_trainer()
    resumed.restore(tmp_path / f"step-{cut}")
    assert [r.step for r in resumed.run()] == list(range(cut + 1, 7))
    assert_equal(state(whole), state(resumed))
    assert resumed.ema.updates == 6


def test_seconds_add_up_over_resumptions(tmp_path: Path) -> None:
    trainer = small_trainer()
    trainer.seconds = 100.0
    trainer.update()
    folder = trainer.save(tmp_path)
    resumed = small_trainer()
    resumed.restore(folder)
    list(resumed.run())
    assert resumed.seconds > 100.0


def test_an_update_equals_one_written_out() -> None:
    """The same update in plain torch: noise drawn and kept, loss and AdamW spelt out."""
    config = small_config(dropout=0.0)
    trainer, plain = small_trainer(config), small_trainer(config)
    trainer.update()
    order = permutation(10, 0, 0, Stream.DATA_ORDER)
    x = to_float(IMAGES[order[:7]], 17)
    key = Key.of(0, range(7), 0)
    t = draw_levels(key, 20)
    noisy = diffusion_of(trainer.config).q_sample(x, t, key=key)
    signal = diffusion_of(trainer.config).schedule.signal[t].reshape(-1, 1, 1, 1)
    sigma = diffusion_of(trainer.config).schedule.sigma[t].reshape(-1, 1, 1, 1)
    noise = (noisy - signal * x) / sigma
    loss = (plain.model(noisy, t) - noise).square().mean()
    parameters = list(plain.model.parameters())
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    rate = learning_rate(1, config.steps, config.optimiser)
    for mine, before, gradient in zip(
        trainer.model.parameters(), parameters, gradients, strict=True
    ):
        clipped = gradient * min(1.0, config.optimiser.gradient_clip / (norm + 1e-6))
        # After one update both bias-corrected moments are the gradient itself.
        expected = before * (1 - rate * 0.01) - rate * clipped / (clipped.abs() + 1e-8)
        # Where a gradient is as small as the optimiser's 1e-8 its rounding decides the quotient.
        large = clipped.abs() > 1e-5
        torch.testing.assert_close(mine[large], expected[large], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", [0, 1, 63, 64, 200])
def test_levels_drawn_together_are_those_of_each_update(step: int) -> None:
    expected = draw_levels(Key.of(0, range(7), step), 20)
    drawn = small_trainer().level_sampler.draw(0, step, slice(0, 7), 7)
    assert torch.equal(drawn.t, expected)


@pytest.mark.parametrize("step", [0, 1, 63, 64, 200])
def test_noise_drawn_together_is_that_of_each_update(step: int) -> None:
    trainer = small_trainer()
    noise = trainer.draws.noise(step, slice(0, 7))
    assert noise is not None
    x, t = torch.zeros(7, 1, 4, 4), torch.full((7,), 20)
    drawn = diffusion_of(trainer.config).q_sample(x, t, key=Key.of(0, range(7), step))
    assert torch.equal(diffusion_of(trainer.config).q_sample(x, t, noise), drawn)


@given(scale=st.floats(1e-3, 1e3), limit=st.floats(1e-2, 1e2))
def test_a_clipped_gradient_keeps_its_direction(scale: float, limit: float) -> None:
    parameters = [nn.Parameter(torch.zeros(n)) for n in (3, 1, 5)]
    before = []
    for i, parameter in enumerate(parameters[:2]):
        parameter.grad = scale * torch.arange(1.0 + i, 1.0 + i + len(parameter))
        before.append(parameter.grad.clone().double())
    norm = float(torch.cat(before).square().sum().sqrt())
    assert float(clip_gradient(parameters, limit, ALONE)) == pytest.approx(norm, rel=1e-5)
    for parameter, old in zip(parameters, before, strict=False):
        assert parameter.grad is not None
        expected = (old * min(1.0, limit / norm)).float()
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=0.0)
    assert parameters[2].grad is None


def test_batches_walk_through_epochs_without_gaps() -> None:
    trainer = small_trainer()
    seen = torch.cat([trainer.batches.at(step, slice(0, 7)) for step in range(10)]).flatten(1)
    for epoch in range(7):
        assert sorted(seen[10 * epoch : 10 * (epoch + 1)].tolist()) == sorted(
            IMAGES.flatten(1).tolist()
        )
    assert not torch.equal(seen[:10], seen[10:20])


def test_learning_rate_rises_then_falls_along_a_cosine() -> None:
    config = OptimiserConfig(learning_rate=0.5, warmup=9)
    rates = [learning_rate(step, 100, config) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == rates[9]
    assert all(later < earlier for earlier, later in pairwise(rates[9:]))
    assert 0 < rates[-1] < 0.001
    assert rates[50] == pytest.approx(0.25)


def test_averaged_network_is_the_ema_of_the_checkpoint(tmp_path: Path) -> None:
    trainer = small_trainer()
    list(trainer.run())
    model = averaged_network(trainer.config, trainer.save(tmp_path), torch.device("cpu"))
    assert not model.training
    for mine, theirs in zip(model.parameters(), trainer.ema.tensors().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer = small_trainer()
    trainer.update()
    folder = trainer.save(tmp_path)
    model = UNetConfig(channels=8, multipliers=(1, 2), blocks=1)
    wider = replace(small_config(), model=model)
    with pytest.raises(InputError, match=r"tensor .* is torch.float32 \[.*allowed is"):
        small_trainer(wider).restore(folder)


def test_an_optimiser_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer = small_trainer()
    trainer.update()
    tensors = dict(checkpoint.load(trainer.save(tmp_path)).tensors)
    fewer = {k: v for k, v in tensors["optimiser"].items() if not k.startswith("0.")}
    bent = [
        ({**tensors["optimiser"], name: torch.zeros(1)}, f"{name}.*allowed is torch.float32")
        for name in ("0.exp_avg", "1.exp_avg_sq")
    ]
    for step, (optimiser, message) in enumerate([(fewer, "0.step' is not in"), *bent]):
        state = checkpoint.Checkpoint(step, 0.0, {**tensors, "optimiser": optimiser})
        with pytest.raises(InputError, match=message):
            small_trainer().restore(checkpoint.save(tmp_path, state, 9))
