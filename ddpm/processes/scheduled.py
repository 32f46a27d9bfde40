"""Gaussian diffusion whose schedule is learned beside the network.  T-2.6-inv."""

import torch
from torch import Tensor, nn

from ddpm.data.images import to_float
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import check
from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream
from ddpm.learned_schedule import MonotoneLogSnr, NetworkObjective, ScheduledNetwork
from ddpm.processes.base import Batch
from ddpm.processes.gaussian import GaussianProcess, TrainedGaussian
from ddpm.samplers.loop import Model


class ScheduledProcess(GaussianProcess):
    """Gaussian diffusion of images in [-1, 1] with a learned schedule between two fixed ends.

    Args:
        diffusion: Its prediction and its fixed variance; its schedule gives the number of levels
            and the ends, which are finite.
        grey_levels: Number of grey levels of the images.
        classes: Number of classes that the network knows; 0 for none.
        objective: Of the network.

    Raises:
        InputError: the variance is learned, or there is a single level.
    """

    def __init__(
        self,
        diffusion: GaussianDiffusion,
        grey_levels: int,
        classes: int,
        objective: NetworkObjective,
    ) -> None:
        super().__init__(diffusion, grey_levels, classes)
        fixed = diffusion.learned == "none"
        check(fixed, "variance", diffusion.variance, "posterior or beta with a learned schedule")
        check(self.levels >= 2, "levels", self.levels, "at least 2 with a learned schedule")
        self.objective: NetworkObjective = objective

    def trainable(self, network: nn.Module) -> nn.Module:
        """The network and its schedule; the loss is what this module returns."""
        log_snr = self.diffusion.schedule.log_snr
        schedule = MonotoneLogSnr(float(log_snr[1]), float(log_snr[-1]))
        return ScheduledNetwork(
            network, schedule, self.levels, self.diffusion.prediction, self.objective
        )

    def losses(self, network: Model, batch: Batch) -> Tensor:
        """See `Process.losses`."""
        x_start, noise, key = to_float(batch.images, self.grey_levels), batch.noise, batch.key
        if noise is None:
            shape = list(x_start.shape[1:])
            stream = Stream.TRAINING_NOISE
            noise = normal(key.seed, key.step, key.sample, stream, shape, torch.float32)
        return network(x_start, batch.t, noise, weight=batch.weight, **batch.conditions)

    def trained(self, model: nn.Module) -> TrainedGaussian:
        """The network under the schedule as it is now."""
        assert isinstance(model, ScheduledNetwork)
        diffusion = GaussianDiffusion(
            model.schedule.schedule(self.levels), self.diffusion.prediction, self.diffusion.variance
        )
        return TrainedGaussian(diffusion, model.network, self.grey_levels, self.classes)
