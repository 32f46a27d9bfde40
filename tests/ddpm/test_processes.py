"""Families of models: saved and gone on with bit by bit, opened again, told of classes."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddpm.config import RunConfig, ScheduleConfig
from ddpm.data.batches import InMemory, Streamed
from ddpm.data.sources import Held
from ddpm.errors import InputError
from ddpm.keys import Key
from ddpm.models.unet import UNetConfig
from ddpm.models.vae import VaeConfig
from ddpm.processes.base import Trained
from ddpm.processes.prior import TrainedPrior
from ddpm.runs.checkpoint import checkpoints
from ddpm.samplers.sampler import Sampler
from ddpm.training.averaged import averaged_network, open_trained
from ddpm.training.draws import Draws
from ddpm.training.trainer import Trainer
from tests.ddpm.small import IMAGES, small_config

CPU = torch.device("cpu")
CLASSES = 3
LABELS = torch.arange(len(IMAGES)) % CLASSES
PLAIN = replace(small_config(steps=40), schedule=ScheduleConfig(levels=4))
TOLD = replace(
    PLAIN,
    model=UNetConfig(channels=4, multipliers=(1, 2), blocks=1, classes=CLASSES),
    label_dropout=0.3,
)
FAMILIES: dict[str, RunConfig] = {
    "loss-aware": replace(PLAIN, level_sampling="loss_aware"),
    "told classes": TOLD,
    "learned variance": replace(
        PLAIN,
        variance="learned_range",
        model=UNetConfig(channels=4, multipliers=(1, 2), blocks=1, learned_variance=True),
    ),
    "learned schedule": replace(PLAIN, schedule=ScheduleConfig(kind="learned", levels=4)),
    "prior of the data": replace(PLAIN, prior="data"),
    "zero terminal SNR": replace(
        PLAIN, prediction="v", schedule=ScheduleConfig(levels=4, zero_terminal_snr=True)
    ),
    "discrete": replace(
        PLAIN,
        process="discrete",
        model=UNetConfig(channels=4, multipliers=(1, 2), blocks=1, image_channels=2),
    ),
    "autoencoder": replace(PLAIN, process="vae", model=VaeConfig(latent=2, hidden=5)),
}
HALF, WHOLE = 30, 34
"""Updates; by the first the losses of every level are known."""


def trainer_of(config: RunConfig) -> Trainer:
    return Trainer(config, InMemory(IMAGES, config.batch_size, config.seed, CPU, LABELS), CPU)


def advance(trainer: Trainer, updates: int) -> list[float]:
    losses = []
    for record in trainer.run():
        losses.append(float(record.loss))
        if record.step == updates:
            break
    return losses


def drawn(trained: Trained, sampler: Sampler, count: int = 3) -> Tensor:
    labels = sampler.labels(range(count), trained.classes)
    *_, last = trained.sample((count, 1, 4, 4), Key.of(2, range(count)), sampler, labels)
    return last.x


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_goes_on_bit_by_bit_and_is_opened_as_it_was(name: str, tmp_path: Path) -> None:
    config = FAMILIES[name]
    whole, first, second = trainer_of(config), trainer_of(config), trainer_of(config)
    losses = advance(whole, WHOLE)
    advance(first, HALF)
    folder = first.save(tmp_path)
    second.restore(folder)
    assert advance(second, WHOLE) == losses[HALF:]
    for mine, theirs in (
        (second.model.state_dict(), whole.model.state_dict()),
        (second.level_sampler.tensors(), whole.level_sampler.tensors()),
        (second.process.tensors(), whole.process.tensors()),
    ):
        assert all(torch.equal(mine[n], x) for n, x in theirs.items())
    model = averaged_network(config, folder, CPU)
    opened = open_trained(config, folder, model)
    with first.averaged() as live:
        live.eval()
        trained = first.process.trained(live)
        for sampler in (
            Sampler(name="ddim" if "ddim" in trained.samplers else "ancestral"),
            Sampler(),
            trained.usual,
        ):
            assert opened.check(sampler) == opened.levels
            assert torch.equal(drawn(opened, sampler), drawn(trained, sampler))
        labels = LABELS if opened.classes else None
        std = trained.fit_decoder(IMAGES, labels, 1)
        terms = list(trained.terms(IMAGES, labels, 1, std))
        assert terms == list(opened.terms(IMAGES, labels, 1, opened.fit_decoder(IMAGES, labels, 1)))
    assert [t for t, _ in terms] == list(range(opened.levels, 0, -1))
    prior = opened.prior_bits(IMAGES, labels, 1)
    # A network that has learned next to nothing needs more bits than images of few levels have.
    assert 0 <= prior < 5
    assert 1 < prior + sum(bits for _, bits in terms) < math.inf


def test_a_checkpoint_without_its_prior_is_refused(tmp_path: Path) -> None:
    trainer = trainer_of(FAMILIES["prior of the data"])
    folder = trainer.save(tmp_path)
    assert checkpoints(tmp_path) == [folder]
    other = trainer_of(PLAIN).save(tmp_path / "other")
    with pytest.raises(InputError, match="process"):
        open_trained(trainer.config, other, trainer.model)


def test_a_prior_is_that_of_all_images() -> None:
    trainer = trainer_of(FAMILIES["prior of the data"])
    with trainer.averaged() as model:
        trained = trainer.process.trained(model)
    assert isinstance(trained, TrainedPrior)
    values = IMAGES.double() / 8 - 1
    torch.testing.assert_close(trained.prior.mean.double(), values.mean(0), rtol=0, atol=1e-6)


@given(st.integers(0, 300), st.integers(0, 6), st.integers(1, 7))
def test_hidden_labels_are_those_of_their_rows(update: int, first: int, size: int) -> None:
    draws, rows = Draws(TOLD, CPU), slice(first, min(7, first + size))
    whole = draws.labels(update, slice(0, 7), torch.arange(7) % CLASSES)
    part = draws.labels(update, rows, (torch.arange(7) % CLASSES)[rows])
    assert torch.equal(part, whole[rows])
    kept = whole < CLASSES
    assert torch.equal(whole[kept], (torch.arange(7) % CLASSES)[kept])


def test_as_many_labels_are_hidden_as_were_asked_for() -> None:
    draws, updates = Draws(TOLD, CPU), 1000
    hidden = sum(
        int((draws.labels(u, slice(0, 7), torch.zeros(7, dtype=torch.int64)) == CLASSES).sum())
        for u in range(updates)
    )
    # Five standard deviations of a binomial law.
    assert abs(hidden - 0.3 * 7 * updates) < 5 * (7 * updates * 0.3 * 0.7) ** 0.5
    none = Draws(replace(TOLD, label_dropout=0.0), CPU)
    zeros = torch.zeros(7, dtype=torch.int64)
    assert torch.equal(none.labels(0, slice(0, 7), zeros), zeros)


@given(st.integers(0, 50), st.integers(0, 6), st.integers(1, 7))
def test_labels_come_with_their_images(update: int, first: int, size: int) -> None:
    marked = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1)
    rows = slice(first, min(7, first + size))
    labels = torch.arange(10) + 100
    for batches in (
        InMemory(marked, 7, 3, CPU, labels),
        Streamed(Held(marked), 7, 3, CPU, 0, labels),
    ):
        known = batches.labels(update, rows)
        assert known is not None
        assert torch.equal(known, 100 + batches.at(update, rows).flatten().long())
    assert InMemory(marked, 7, 3, CPU).labels(update, rows) is None


def test_classes_need_labels() -> None:
    with pytest.raises(InputError, match=r"model.classes = 3: allowed is 0 for images without"):
        Trainer(TOLD, IMAGES, CPU)


def test_a_learned_schedule_is_not_sharded() -> None:
    from ddpm.distributed import Ranks

    ranks, config = replace(Ranks(), world=2), FAMILIES["learned schedule"]
    with pytest.raises(InputError, match="parallel = 'fsdp': allowed is ddp with a learned"):
        Trainer(replace(config, batch_size=8), IMAGES, CPU, ranks, "fsdp")
