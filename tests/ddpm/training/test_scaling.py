"""float16: a scale that follows the gradients, and a run that does not go on for nothing."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from ddpm.config import ComputeConfig
from ddpm.errors import InputError
from ddpm.training.compute import Compute
from ddpm.training.scaling import READ_EVERY, SKIPPED_AT_MOST, Scaling

CPU = torch.device("cpu")
FLOAT16 = ComputeConfig(precision="float16")


class Run:
    """A linear layer trained in float16 by losses of a chosen size."""

    def __init__(self) -> None:
        self.model = nn.Linear(3, 2)
        with torch.no_grad():
            for number, parameter in enumerate(self.model.parameters()):
                parameter.fill_(0.25 + number)
        self.compute = Compute(FLOAT16, CPU)
        self.call = self.compute.compiled(self.compute.prepare(self.model))
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=0.1, fused=True)

    def update(self, size: float = 1.0) -> Tensor:
        """One update; returns the gradient of the weight after it was unscaled."""
        self.optimiser.zero_grad()
        self.compute.backward(size * self.call(torch.ones(2, 3)).mean())
        self.compute.unscale(self.optimiser)
        assert self.model.weight.grad is not None
        gradient = self.model.weight.grad.clone()
        self.compute.step(self.optimiser)
        return gradient

    def scale(self) -> float:
        return float(self.compute.tensors()["scale"])

    def state(self) -> list[Tensor]:
        moments = [x for part in self.optimiser.state.values() for x in part.values()]
        return [x.clone() for x in [*self.model.parameters(), *moments]]


def test_a_gradient_that_float16_cannot_hold_arrives() -> None:
    """Below 2^-25 it would be zero; above it would lose digits down to 2^-14."""
    size = 2.0**-26
    run = Run()
    layer = nn.Linear(3, 2)
    with torch.autocast("cpu", torch.float16):
        (size * layer(torch.ones(2, 3)).mean()).backward()
    assert layer.weight.grad is not None
    assert float(layer.weight.grad.abs().max()) == 0
    # The mean is over four numbers and the batch has two rows: a half of the size.
    assert run.update(size).tolist() == [[size / 2] * 3] * 2


def test_an_update_that_overflows_changes_the_scale_alone() -> None:
    run = Run()
    run.update()
    before, scale = run.state(), run.scale()
    assert not bool(run.update(1e6).isfinite().all())
    assert run.scale() == scale / 2
    assert all(map(torch.equal, run.state(), before))
    run.update()
    assert run.scale() == scale / 2
    assert not torch.equal(run.state()[0], before[0])


def test_the_scale_falls_until_the_gradient_fits() -> None:
    run = Run()
    scales = []
    # The gradient of each weight is 2^8 times the scale, and float16 ends below 2^16.
    while not bool(run.update(2.0**9).isfinite().all()):
        scales.append(run.scale())
    assert scales == [2.0**power for power in range(15, 6, -1)]
    assert run.scale() == 2.0**7


def test_the_scale_doubles_after_two_thousand_good_updates() -> None:
    run = Run()
    tensors = run.compute.tensors()
    run.compute.load({**tensors, "growth": torch.tensor(1998)})
    run.update()
    assert run.scale() == 2.0**16
    run.update()
    assert run.scale() == 2.0**17


def test_training_ends_after_many_skipped_updates_in_a_row() -> None:
    run = Run()
    run.update()
    for _ in range(SKIPPED_AT_MOST - 1):
        run.update(math.inf)
    with pytest.raises(InputError, match=r"precision = 'float16': the last 24 .* 0.0039") as raised:
        run.update(math.inf)
    assert "\n" not in str(raised.value)


def test_a_good_update_between_them_is_a_new_start() -> None:
    run = Run()
    for _ in range(3):
        for _ in range(SKIPPED_AT_MOST - 1):
            run.update(math.inf)
        run.update(1e-6)
        assert int(run.compute.tensors()["skipped"]) == 0


def test_a_device_that_is_waited_for_seldom_ends_at_a_multiple() -> None:
    run = Run()
    scaling = run.compute._scaling
    assert scaling is not None
    scaling._read_every = READ_EVERY
    run.update()
    # The end is noticed at update 32, the first multiple with 24 skipped ones before it.
    for _ in range(30):
        run.update(math.inf)
    with pytest.raises(InputError, match="the last 31 updates"):
        run.update(math.inf)


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_resumed_run_has_the_same_scales_and_weights(cut: int) -> None:
    sizes = [1.0, 1e6, 1e6, 1.0, 1e-3, 1e7, 1.0, 1.0]
    whole, first, resumed = Run(), Run(), Run()
    for size in sizes:
        whole.update(size)
    for size in sizes[:cut]:
        first.update(size)
    resumed.compute.load({name: x.clone() for name, x in first.compute.tensors().items()})
    assert resumed.compute.tensors() == first.compute.tensors()
    resumed.model.load_state_dict(first.model.state_dict())
    resumed.optimiser.load_state_dict(first.optimiser.state_dict())
    for size in sizes[cut:]:
        resumed.update(size)
    assert all(map(torch.equal, resumed.state(), whole.state()))
    assert resumed.compute.tensors() == whole.compute.tensors()


def test_what_is_saved_does_not_move() -> None:
    run = Run()
    before = run.compute.tensors()
    run.update(math.inf)
    after = run.compute.tensors()
    assert [float(before[n]) for n in ("scale", "growth", "skipped")] == [2.0**16, 0, 0]
    assert [float(after[n]) for n in ("scale", "growth", "skipped")] == [2.0**15, 0, 1]
    run.update()
    assert int(run.compute.tensors()["growth"]) == 1


def test_another_state_is_refused() -> None:
    good = Scaling(CPU).tensors()
    bad = [
        ({n: x for n, x in good.items() if n != "growth"}, "growth"),
        ({**good, "more": torch.zeros(())}, "more"),
        ({**good, "scale": torch.zeros(2)}, r"scale.? is torch.float32 \[2\]"),
        ({**good, "skipped": torch.zeros(())}, r"skipped.? is torch.float32"),
        ({**good, "scale": torch.tensor(math.inf)}, "scale = inf: allowed is"),
        ({**good, "scale": torch.tensor(math.nan)}, "scale = nan: allowed is"),
        ({**good, "scale": torch.tensor(0.0)}, "scale = 0.0: allowed is"),
        ({**good, "scale": torch.tensor(-1.0)}, "scale = -1.0: allowed is"),
        ({**good, "growth": torch.tensor(-1)}, "growth = -1: allowed is"),
        ({**good, "growth": torch.tensor(2000)}, "growth = 2000: allowed is"),
        ({**good, "skipped": torch.tensor(-1)}, "skipped = -1: allowed is"),
        ({**good, "skipped": torch.tensor(2**40)}, "skipped = 1099511627776: allowed is"),
    ]
    compute = Compute(FLOAT16, CPU)
    for tensors, message in bad:
        with pytest.raises(InputError, match=message):
            compute.load(tensors)
    assert compute.tensors() == good
    with pytest.raises(InputError, match="scale"):
        Compute(ComputeConfig(), CPU).load(good)
    Compute(ComputeConfig(), CPU).load({})


def test_scales_of_a_run_only_halve_or_double() -> None:
    run = Run()
    scales = []
    for number in range(40):
        run.update(1e4 if number % 3 else 1e9)
        scales.append(run.scale())
    assert all(later in (earlier, earlier / 2) for earlier, later in pairwise(scales))
