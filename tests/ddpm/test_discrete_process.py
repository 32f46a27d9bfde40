"""Losses, evaluation, samples and refusals of discrete diffusion."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from ddpm.data.images import to_levels
from ddpm.discrete import DiscreteDiffusion, Transition, chain, process
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.models.mlp import MLP, MLPConfig
from tests.ddpm.models.networks import awake
from tests.devices.pretend import GPU, pretend_gpu

K, T = 3, 6
KINDS: tuple[Transition, ...] = ("uniform", "absorbing")
BOTH = pytest.mark.parametrize("kind", KINDS)
DRAWS = 4000
RARE = 1e-6
"""Probability of a chi-squared statistic that is refused; the seeds are fixed."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def grey(*shape: int, levels: int = K, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, levels, shape, generator=generator, dtype=torch.uint8)


def network_for(diffusion: DiscreteDiffusion, channels: int = 2, side: int = 2) -> MLP:
    shape = (diffusion.input_channels(channels), side, side)
    outputs = diffusion.output_channels(channels)
    return awake(lambda: MLP(MLPConfig(width=10, depth=1), shape, outputs))


def constant(logits: Tensor) -> Callable[..., Tensor]:
    """A network that returns [C * K, H, W], whatever it sees."""
    return lambda x, _: logits.expand(len(x), *logits.shape)


@BOTH
def test_what_the_network_sees(kind: Transition) -> None:
    diffusion = DiscreteDiffusion(T, K, kind)
    x = torch.tensor([[0, 1], [2, diffusion.states - 1]]).view(1, 2, 1, 2)
    seen = diffusion.inputs(x)
    assert seen.dtype == torch.float32
    assert seen.shape == (1, diffusion.input_channels(2), 1, 2)
    if kind == "absorbing":
        assert seen.flatten().tolist() == [-1, 0, 1, 0, 0, 0, 0, 1]
    else:
        assert seen.flatten().tolist() == [-1, 0, 1, 1]
    assert diffusion.output_channels(2) == 2 * K


@BOTH
def test_losses_weigh_bound_and_cross_entropy(kind: Transition) -> None:
    """Sample by sample, with the logits of channel c at outputs c K to (c + 1) K."""
    diffusion = DiscreteDiffusion(T, K, kind, auxiliary=0.3)
    network, images, t = network_for(diffusion), grey(T, 2, 2, 2), torch.arange(1, T + 1)
    key = Key.of(3, range(T), step=8)
    weight = torch.linspace(0.5, 2, T)
    x = diffusion.q_sample(images, t, key)
    with torch.no_grad():
        losses = diffusion.training_losses(network, images, t, key)
        weighted = diffusion.training_losses(network, images, t, key, weight)
        output = network(diffusion.inputs(x), t)
    torch.testing.assert_close(weighted, losses * weight)
    for i in range(T):
        total = 0.0
        for c, row, column in itertools.product(range(2), range(2), range(2)):
            logits = output[i, c * K : (c + 1) * K, row, column].view(1, 1, K, 1, 1)
            place = (
                slice(i, i + 1),
                slice(c, c + 1),
                slice(row, row + 1),
                slice(column, column + 1),
            )
            terms = diffusion.chain.terms(logits, x[place], images[place].long(), t[i : i + 1])
            total += T * terms.bound.item() + 0.3 * terms.cross_entropy.item()
        np.testing.assert_allclose(losses[i].item(), total / 8, rtol=1e-5)


@BOTH
def test_gradient_of_a_network_is_the_slope_of_its_loss(kind: Transition) -> None:
    diffusion = DiscreteDiffusion(T, K, kind)
    network, images = network_for(diffusion), grey(16, 2, 2, 2)
    t, key = torch.arange(16) % T + 1, Key.of(1, range(16))

    def loss() -> Tensor:
        return diffusion.training_losses(network, images, t, key).mean()

    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    direction = [drawn(*p.shape, seed=i) for i, p in enumerate(parameters)]
    slope = sum((g * d).double().sum() for g, d in zip(gradients, direction, strict=True))
    values, h = [], 1e-3
    for sign in (1, -2, 1):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=sign * h)
            values.append(loss().item())
    np.testing.assert_allclose((values[0] - values[1]) / (2 * h), float(slope), rtol=5e-3)


@BOTH
def test_parts_of_a_batch_change_neither_loss_nor_gradient(
    kind: Transition, monkeypatch: pytest.MonkeyPatch
) -> None:
    diffusion = DiscreteDiffusion(T, K, kind)
    images, t, key = grey(7, 2, 2, 2), torch.arange(7) % T + 1, Key.of(1, range(7))
    results = []
    for part in (2**20, 50):
        monkeypatch.setattr(process, "PART", part)
        logits = drawn(7, 2 * K, 2, 2).requires_grad_()
        losses = diffusion.training_losses(lambda *_, out: out, images, t, key, out=logits)
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        *_, last = diffusion.sample_progressive(constant(drawn(2 * K, 2, 2)), images.shape, key)
        results.append((losses, gradient, last.x))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, parts)


@BOTH
@pytest.mark.parametrize("t", [1, 4])
def test_bits_of_a_level(kind: Transition, t: int) -> None:
    """The mean over images, more than one batch of them, of the terms of the evaluation noise."""
    count, diffusion = 150, DiscreteDiffusion(T, K, kind)
    images, labels = grey(count, 2, 2, 2), drawn(count, 2 * K, 2, 2)

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return labels + x[:, :1] + t.view(-1, 1, 1, 1)

    got = diffusion.level_bits(network, images, t, seed=9, labels=labels)
    level = torch.full((count,), t)
    key = Key.of(9, range(count), step=t)
    x = diffusion.q_sample(images, level, key, Stream.EVALUATION_NOISE)
    logits = network(diffusion.inputs(x), level, labels).view(count, 2, K, 2, 2)
    bound = diffusion.chain.terms(logits.double(), x, images.long(), level).bound
    np.testing.assert_allclose(got, bound.mean().item() / np.log(2), rtol=1e-10)
    assert diffusion.prior_bits(images) == 0.0


@BOTH
@pytest.mark.parametrize("steps", [None, 1, 3, (6, 4, 3, 0)])
def test_samples_of_an_exact_network_have_the_law_of_the_data(
    kind: Transition, steps: int | tuple[int, ...] | None
) -> None:
    """Independent pixels of different laws; the exact logits do not depend on the level."""
    diffusion, logits = DiscreteDiffusion(T, K, kind), drawn(K, 1, 2)
    key = Key.of(2, range(DRAWS))
    states = list(diffusion.sample_progressive(constant(logits), (DRAWS, 1, 1, 2), key, steps))
    images = to_levels(states[-1].x, K).view(DRAWS, 2)
    for pixel in range(2):
        law = logits[:, 0, pixel].double().softmax(0).numpy()
        count = np.bincount(images[:, pixel].numpy(), minlength=K)
        statistic = float(np.sum((count - DRAWS * law) ** 2 / (DRAWS * law)))
        assert chi2.sf(statistic, K - 1) > RARE
    pairs = np.bincount((images[:, 0].long() * K + images[:, 1]).numpy(), minlength=K * K)
    joint = np.outer(*logits[:, 0].double().softmax(0).numpy().T).ravel()
    statistic = float(np.sum((pairs - DRAWS * joint) ** 2 / (DRAWS * joint)))
    assert chi2.sf(statistic, K * K - 1) > RARE


def test_samples_of_pixels_that_depend_on_each_other() -> None:
    """Pixels revealed one after the other have the joint law, in one step the product of two."""
    joint = torch.tensor([[0.4, 0.05, 0.05], [0.0, 0.1, 0.2], [0.1, 0.1, 0.0]])
    steps, diffusion = 4, DiscreteDiffusion(4, K, "absorbing")

    def network(x: Tensor, t: Tensor) -> Tensor:  # noqa: ARG001
        masked = x[:, 1, 0] == 1
        other = ((x[:, 0, 0] + 1) * (K - 1) / 2).round().long()
        laws = []
        for pixel, table in enumerate((joint, joint.T)):
            known = table[:, other[:, 1 - pixel]].T
            laws.append(torch.where(masked[:, 1 - pixel, None], table.sum(1), known))
        return torch.stack(laws, dim=-1)[:, :, None].log()

    key = Key.of(7, range(DRAWS))
    *_, last = diffusion.sample_progressive(network, (DRAWS, 1, 1, 2), key)
    images = to_levels(last.x, K).view(DRAWS, 2).long()
    count = np.bincount((images[:, 0] * K + images[:, 1]).numpy(), minlength=K * K)
    apart = torch.outer(joint.sum(1), joint.sum(0))
    law = ((1 - 1 / steps) * joint + apart / steps).double().flatten().numpy()
    statistic = float(np.sum((count - DRAWS * law) ** 2 / (DRAWS * law)))
    assert chi2.sf(statistic, K * K - 1) > RARE


@BOTH
def test_states_on_the_way(kind: Transition) -> None:
    diffusion = DiscreteDiffusion(T, K, kind)
    network, shape = network_for(diffusion), (5, 2, 2, 2)
    whole = list(diffusion.sample_progressive(network, shape, Key.of(4, range(5)), (6, 5, 2, 0)))
    assert [(s.t, s.step, s.steps) for s in whole] == [(5, 1, 3), (2, 2, 3), (0, 3, 3)]
    part = list(
        diffusion.sample_progressive(network, (2, 2, 2, 2), Key.of(4, (1, 3)), (6, 5, 2, 0))
    )
    for state, own in zip(whole, part, strict=True):
        assert torch.equal(state.x[[1, 3]], own.x)
        assert set(state.x.flatten().tolist()) <= {-1.0, 0.0, 1.0}
        assert not state.x.requires_grad
    (other,) = diffusion.sample_progressive(network, shape, Key.of(5, range(5)), 1)
    (again,) = diffusion.sample_progressive(network, shape, Key.of(4, range(5)), 1)
    assert not torch.equal(other.x, again.x)


def test_masks_are_mid_grey_until_they_are_revealed() -> None:
    """With an even number of grey levels no level is mid grey, and revealed pixels stay."""
    diffusion = DiscreteDiffusion(20, 4, "absorbing")
    network, shape = constant(drawn(4, 8, 8)), (50, 1, 8, 8)
    before = torch.zeros(shape)
    for state in diffusion.sample_progressive(network, shape, Key.of(1, range(50)), 10):
        revealed = before != 0
        assert torch.equal(state.x[revealed], before[revealed])
        share = (state.x == 0).float().mean().item()
        assert abs(share - state.t / 20) < 5 * 0.5 / np.sqrt(state.x.numel())
        before = state.x
    assert before.ne(0).all()


@BOTH
def test_nothing_but_the_words_is_read_on_the_host(
    kind: Transition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything stays where the images are, in a loss and in a sampling loop."""
    diffusion = DiscreteDiffusion(T, K, kind)
    network, images = network_for(diffusion).to(GPU), grey(2, 2, 2, 2).to(GPU)
    t, key = torch.ones(2, dtype=torch.int64, device=GPU), Key.of(1, range(2), device=GPU)

    def words(seed: Tensor, step: Tensor, sample: Tensor, stream: int, size: int) -> Tensor:
        assert {seed.device, step.device, sample.device} == {GPU}
        assert stream in tuple(Stream)
        return sample[:, None].expand(-1, size)

    monkeypatch.setattr(chain, "words", words)
    # The tables are copied to the device before the first step.
    diffusion.training_losses(network, images, t, key)
    with pretend_gpu(), monkeypatch.context() as patch:
        # `to_float` calls it for arrays; a tensor it gives back as it is.
        patch.setattr(torch, "as_tensor", lambda tensor: tensor)
        diffusion.training_losses(network, images, t, key).sum().backward()  # type: ignore[no-untyped-call]
        states = list(diffusion.sample_progressive(network, (2, 2, 2, 2), key, 3))
    assert {state.x.device for state in states} == {GPU}


def refusals() -> list[tuple[str, Callable[[], object]]]:
    good = DiscreteDiffusion(T, K, "absorbing")
    images, t, key = grey(2, 1, 2, 2), torch.tensor([1, T]), Key.of(0, range(2))
    network, shape = constant(torch.zeros(K, 2, 2)), (2, 1, 2, 2)
    return [
        ("steps = 0: allowed is 1 to", lambda: DiscreteDiffusion(0, K, "uniform")),
        ("grey_levels = 1: allowed is 2 to 256", lambda: DiscreteDiffusion(T, 1, "uniform")),
        ("grey_levels = 257", lambda: DiscreteDiffusion(T, 257, "uniform")),
        (
            "transition = 'gauss': allowed is one of uniform, absorbing",
            lambda: DiscreteDiffusion(T, K, "gauss"),  # type: ignore[arg-type]
        ),
        ("auxiliary = -1: allowed", lambda: DiscreteDiffusion(T, K, "uniform", -1)),
        ("auxiliary = nan", lambda: DiscreteDiffusion(T, K, "uniform", float("nan"))),
        ("type torch.float32: allowed is", lambda: good.q_sample(images.float(), t, key)),
        (r"shape \[2, 2, 2\]", lambda: good.q_sample(images[:, 0], t, key)),
        ("images reach 3: allowed is 0 to 2", lambda: good.q_sample(images * 0 + 3, t, key)),
        (r"t has shape \[1\]", lambda: good.q_sample(images, t[:1], key)),
        (r"type torch.int32: allowed is \[2\]", lambda: good.q_sample(images, t.int(), key)),
        (r"t lies in \[2, 7\]: allowed is 0", lambda: good.q_sample(images, t + 1, key)),
        (
            r"t lies in \[0, 5\]: allowed is 1 to T = 6",
            lambda: good.training_losses(network, images, t - 1, key),
        ),
        (
            r"weight has shape \[3\]: allowed is \[2\]",
            lambda: good.training_losses(network, images, t, key, torch.ones(3)),
        ),
        (
            r"returned shape \[2, 5, 2, 2\]: allowed is \[2, 3, 2, 2\]",
            lambda: good.training_losses(constant(torch.zeros(5, 2, 2)), images, t, key),
        ),
        (r"shape = \[3, 1, 2, 2\]", lambda: good.sample_progressive(network, (3, 1, 2, 2), key)),
        (r"shape = \[2, 4\]", lambda: good.sample_progressive(network, (2, 4), key)),
        ("steps = 7: allowed", lambda: good.sample_progressive(network, shape, key, 7)),
        ("levels = ", lambda: good.sample_progressive(network, shape, key, (6, 3, 3, 0))),
        ("begin at 5", lambda: good.sample_progressive(network, shape, key, (5, 3, 0))),
        ("t = 0: allowed is 1 to T = 6", lambda: good.level_bits(network, images, 0, 1)),
        ("images reach 3", lambda: good.prior_bits(images * 0 + 3)),
    ]


@pytest.mark.parametrize(("message", "call"), refusals(), ids=[name for name, _ in refusals()])
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
