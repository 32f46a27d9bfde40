import pytest
import torch

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.samplers.variances import Variance
from ddpm.schedule import Schedule

SCHEDULE = Schedule.from_betas([0.1, 0.2, 0.3])
DIFFUSION = GaussianDiffusion(SCHEDULE)
X0, T, KEY = torch.zeros(2, 3), torch.tensor([1, 3]), Key.of(1, range(2))


def test_noise_or_key_but_not_both_nor_neither() -> None:
    for noise, key in ((None, None), (X0, KEY)):
        with pytest.raises(ValueError, match=r"noise and key: allowed is exactly one of the two"):
            DIFFUSION.q_sample(X0, T, noise, key=key)
        with pytest.raises(ValueError, match=r"noise and key: allowed is exactly one of the two"):
            DIFFUSION.training_losses(lambda x, _: x, X0, T, noise, key=key)


@pytest.mark.parametrize("level", [-1, 4])
def test_level_out_of_range(level: int) -> None:
    t = torch.tensor([1, level])
    for key, noise in ((KEY, None), (None, X0)):
        with pytest.raises(ValueError, match=rf"t contains {level}; allowed: 0..3"):
            DIFFUSION.q_sample(X0, t, noise, key=key)
        with pytest.raises(ValueError, match=rf"t contains {level}; allowed: 0..3"):
            DIFFUSION.training_losses(lambda x, _: x, X0, t, noise, key=key)


def test_levels_of_a_wrong_form() -> None:
    with pytest.raises(ValueError, match=r"t has dtype torch.int32; allowed: torch.int64"):
        DIFFUSION.q_sample(X0, T.int(), key=KEY)
    with pytest.raises(ValueError, match=r"t has shape \(1,\); allowed: \(2,\)"):
        DIFFUSION.q_sample(X0, T[:1], key=KEY)


def test_images_of_a_wrong_form() -> None:
    with pytest.raises(ValueError, match=r"x0 has dtype torch.float64; allowed: torch.float32"):
        DIFFUSION.q_sample(X0.double(), T, key=KEY)
    with pytest.raises(ValueError, match=r"x0 has strides"):
        DIFFUSION.q_sample(torch.zeros(3, 2).T, T, key=KEY)
    with pytest.raises(ValueError, match=r"noise has shape \(2, 2\); allowed: \(2, 3\)"):
        DIFFUSION.q_sample(X0, T, torch.zeros(2, 2))


def test_an_output_of_a_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"shape"):
        DIFFUSION.training_losses(lambda x, _: x[:, :2].contiguous(), X0, T, key=KEY)


def test_samples_of_a_wrong_number() -> None:
    with pytest.raises(ValueError, match=r"sample has shape \(3,\); allowed: \(2,\)"):
        DIFFUSION.q_sample(X0, T, key=Key.of(1, range(3)))
    with pytest.raises(ValueError, match=r"samples has 3 entries: allowed is one for each of 2"):
        DIFFUSION.p_sample_loop(lambda x, _: x, (2, 3), seed=1, samples=range(3))


@pytest.mark.parametrize("variance", ["posterior", "learned"])
def test_the_mean_is_not_trained(variance: Variance) -> None:
    diffusion = GaussianDiffusion(SCHEDULE, "mean", variance)
    with pytest.raises(ValueError, match=r"prediction = 'mean': allowed for training is"):
        diffusion.training_losses(lambda x, _: x, X0, T, key=KEY)


def test_a_learned_variance_needs_twice_the_channels() -> None:
    diffusion, x0 = GaussianDiffusion(SCHEDULE, variance="learned"), torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"output has shape \(2, 3, 4\); allowed: \(2, 6, 4\)"):
        diffusion.training_losses(lambda x, _: x, x0, T, key=KEY)
    with pytest.raises(ValueError, match=r"pred has shape \(2, 3, 4\); allowed: \(2, 6, 4\)"):
        diffusion.p_sample_loop(lambda x, _: x, (2, 3, 4), seed=1)


def test_construction() -> None:
    assert GaussianDiffusion(SCHEDULE, "v_prediction").prediction == "v"
    with pytest.raises(ValueError, match=r"variance = 'small': allowed is one of posterior, beta"):
        GaussianDiffusion(SCHEDULE, variance="small")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"prediction = 'noise'"):
        GaussianDiffusion(SCHEDULE, "noise")
    with pytest.raises(ValueError, match=r"prediction = 'eps'.*zero terminal SNR"):
        GaussianDiffusion(Schedule.from_betas([0.1, 1.0]), "epsilon")


@pytest.mark.parametrize("steps", [0, 4])
def test_sampling_steps_out_of_range(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps = {steps}: allowed is 1 to T = 3"):
        DIFFUSION.p_sample_loop(lambda x, _: x, (2, 3), seed=1, steps=steps)
    with pytest.raises(ValueError, match=rf"steps = {steps}: allowed is 1 to T = 3"):
        DIFFUSION.ddim_sample_loop(lambda x, _: x, (2, 3), seed=1, steps=steps)


def test_eta_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"eta = 2: allowed"):
        DIFFUSION.ddim_sample_loop(lambda x, _: x, (2, 3), seed=1, eta=2)
