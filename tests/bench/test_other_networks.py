"""Networks of other libraries train, draw and are evaluated unchanged."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from ddpm.bench.peer_calls import DIFFUSERS, missing
from ddpm.keys import Key
from ddpm.samplers.sampler import Sampler
from ddpm.training.trainer import Trainer
from tests.ddpm.small import IMAGES, small_config


@pytest.mark.skipif(bool(missing(DIFFUSERS)), reason="diffusers is not installed")
@pytest.mark.parametrize("schedule", ["log_snr_linear", "learned"])
def test_a_network_of_diffusers(schedule: Any) -> None:
    from diffusers import UNet2DModel

    network = UNet2DModel(
        sample_size=4, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=2,
        block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    plain = small_config(steps=3)
    config = replace(plain, schedule=replace(plain.schedule, kind=schedule, levels=4))
    trainer = Trainer(config, IMAGES, torch.device("cpu"), model=network)
    before = network.conv_in.weight.detach().clone()
    assert all(math.isfinite(float(record.loss)) for record in trainer.run())
    assert not torch.equal(network.conv_in.weight, before)
    with trainer.averaged() as model:
        model.eval()
        trained = trainer.process.trained(model)
        *_, last = trained.sample((2, 1, 4, 4), Key.of(0, range(2)), Sampler(name="ddim"))
        bits = dict(trained.terms(IMAGES[:3], None, 0, 0.1))
    assert bool(last.x.isfinite().all())
    assert sorted(bits) == [1, 2, 3, 4]
