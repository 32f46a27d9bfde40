"""Pictures on the way change nothing but themselves."""

import copy

import pytest
import torch
from torch import Tensor, nn

from ddpm.data.images import to_levels
from ddpm.diffusion import GaussianDiffusion
from ddpm.processes.gaussian import TrainedGaussian
from ddpm.samplers.multistep import dpm_solver_table
from ddpm.schedule import Schedule
from ddpm.training.pictures import progress_grid

SHAPE = (1, 4, 4)
DIFFUSION = GaussianDiffusion(Schedule.log_snr_linear(12), "x0")


class Noisy(nn.Module):
    """A network in which whatever can be disturbed would be."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 1, 1)
        )
        draw = torch.Generator().manual_seed(1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=draw)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def grid(model: nn.Module, *, num: int = 3, steps: int = 4) -> Tensor:
    trained = TrainedGaussian(DIFFUSION, model, 17, 0)
    return progress_grid(trained, model, SHAPE, num, 7, steps, grey_levels=17)


def test_they_are_those_of_the_sampler_without_dropout() -> None:
    model = Noisy().train()
    other = copy.deepcopy(model).eval()
    table = dpm_solver_table(DIFFUSION.schedule, "x0", [12, 9, 6, 3, 0])
    with torch.no_grad():
        expected = DIFFUSION.sample_loop(other, (3, *SHAPE), table, seed=7)
    drawn = grid(model)
    assert torch.equal(drawn, to_levels(expected, 17))
    assert len(set(drawn.flatten().tolist())) > 3


def test_the_network_is_left_as_it_was() -> None:
    model = Noisy().train()
    model.layers[2].eval()
    weight = model.get_parameter("layers.0.weight")
    weight.grad = torch.ones_like(weight)
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    generator = torch.default_generator.get_state()
    grid(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert torch.equal(torch.default_generator.get_state(), generator)


def test_modes_come_back_after_a_failure() -> None:
    class Broken(Noisy):
        def forward(self, *_: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        grid(model)
    assert all(module.training for module in model.modules())


def test_picture_i_does_not_depend_on_their_number() -> None:
    model = Noisy()
    assert torch.equal(grid(model, num=5)[:3], grid(model))


def test_a_short_chain_takes_fewer_steps() -> None:
    model = Noisy()
    assert torch.equal(grid(model, steps=100), grid(model, steps=12))


def test_a_diverged_network_is_shown_in_grey() -> None:
    class Diverged(nn.Module):
        def forward(self, x: Tensor, _: Tensor) -> Tensor:
            return torch.full_like(x, torch.nan)

    assert set(grid(Diverged()).flatten().tolist()) == {8}
