"""What all networks have in common: shapes, labels, dropout, compilation, configuration."""

# A compiled module and a loss of autograd have no types.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.models.initialise import build
from ddpm.models.network import build_network
from ddpm.samplers.loop import Guidance
from ddpm.schedule import Schedule
from ddpm.training.dropout import share_dropout
from tests.ddpm.models.networks import CASES, CLASSES, Case, T, images
from tests.devices.pretend import GPU, pretend_gpu

LABELS = torch.tensor([0, 2])
SCHEDULE = Schedule.log_snr_linear(20)
NONE = torch.full((2,), CLASSES)
ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@ALL
@pytest.mark.parametrize(("classes", "learned"), list(product([0, CLASSES], [False, True])))
def test_output_has_the_shape_of_the_input_or_twice_the_channels(
    case: Case, classes: int, learned: bool
) -> None:
    config = case.config(classes=classes, learned_variance=learned)
    start = build(lambda: build_network(config, case.shape), 3, "cpu")
    model = case.model(classes=classes, learned_variance=learned)
    channels = case.shape[0] * (2 if learned else 1)
    with torch.no_grad():
        zero, out = start(case.inputs(), T), model(case.inputs(), T)
    assert zero.shape == out.shape == (2, channels, *case.shape[1:])
    assert zero.eq(0).all()
    assert out.ne(0).all()


@pytest.mark.parametrize("kind", ["unet", "mlp", "transformer"])
@pytest.mark.parametrize("learned", [False, True])
def test_a_loss_and_guided_samples_of_sides_that_need_padding(kind: str, learned: bool) -> None:
    model = CASES[kind].model(classes=CLASSES, learned_variance=learned)
    diffusion = GaussianDiffusion(SCHEDULE, "eps", "learned" if learned else "posterior")
    x, t, key = torch.zeros(2, 2, 6, 5), torch.tensor([1, 20]), Key.of(1, range(2))
    losses = diffusion.training_losses(model, x, t, key=key, labels=LABELS)
    losses.sum().backward()
    assert losses.isfinite().all()
    guidance = Guidance(2.0, {"labels": NONE})
    drawn = diffusion.ddim_sample_loop(
        model, x.shape, seed=1, steps=2, guidance=guidance, labels=LABELS
    )
    plain = diffusion.ddim_sample_loop(model, x.shape, seed=1, steps=2, labels=LABELS)
    assert drawn.shape == x.shape
    assert drawn.ne(plain).any()


@ALL
def test_the_prediction_comes_before_the_raw_variance(case: Case) -> None:
    """The first half of the channels is that of a network with the first half of the head."""
    model = case.model(learned_variance=True)
    plain = build_network(case.config(), case.shape).eval()
    state = {
        name: value[tuple(map(slice, plain.state_dict()[name].shape))]
        for name, value in model.state_dict().items()
    }
    plain.load_state_dict(state)
    with torch.no_grad():
        both, first = model(case.inputs(), T), plain(case.inputs(), T)
    torch.testing.assert_close(both.chunk(2, dim=1)[0], first, rtol=1e-5, atol=1e-6)


@ALL
def test_gradient_reaches_every_parameter(case: Case) -> None:
    model = case.model(classes=CLASSES, learned_variance=True, dropout=0.1).train()
    labels = torch.arange(CLASSES + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model(case.inputs(4), torch.tensor([1, 20, 300, 999]), labels).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []
    rows = dict(model.named_parameters())["labels.table.weight"].grad
    assert rows is not None
    assert rows.ne(0).any(dim=1).all()


@ALL
def test_a_network_has_no_state_but_its_parameters(case: Case) -> None:
    """Weights are built without memory and filled one by one, which buffers would not be."""
    model = case.model(classes=CLASSES)
    assert list(model.buffers()) == []
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@ALL
def test_labels_change_the_output_of_their_own_sample(case: Case) -> None:
    model, x = case.model(classes=CLASSES), case.inputs()
    with torch.no_grad():
        out, other = model(x, T, LABELS), model(x, T, torch.tensor([0, 1]))
    assert torch.equal(out[0], other[0])
    assert out[1].ne(other[1]).any()
    kinds = [model(x, T, torch.full((2,), label)) for label in range(CLASSES + 1)]
    assert all(not torch.equal(kinds[i], kinds[j]) for i in range(4) for j in range(i))


@ALL
def test_no_labels_are_the_null_label(case: Case) -> None:
    model, x = case.model(classes=CLASSES), case.inputs()
    with torch.no_grad():
        assert torch.equal(model(x, T), model(x, T, NONE))
        assert torch.equal(model(x, T, None), model(x, T, labels=NONE))
        mixed = model(x, T, torch.tensor([1, CLASSES]))
        assert torch.equal(mixed[1], model(x, T)[1])


@ALL
def test_classes_change_no_other_weight(case: Case) -> None:
    plain, conditional = (
        build(lambda c=c: build_network(case.config(classes=c), case.shape), 5, "cpu").state_dict()  # type: ignore[misc]
        for c in (0, CLASSES)
    )
    assert set(conditional) - set(plain) == {"labels.table.weight"}
    assert all(torch.equal(value, conditional[name]) for name, value in plain.items())


@ALL
def test_labels_that_are_refused(case: Case) -> None:
    x, model = case.inputs(), case.model(classes=CLASSES)
    with pytest.raises(ValueError, match="allowed for a network with classes = 0 is None"):
        case.model()(x, T, LABELS)
    wrong: list[tuple[Tensor, str]] = [
        (LABELS[:1], r"labels have shape \[1\] and type torch.int64: allowed is \[2\]"),
        (LABELS[:, None], r"labels have shape \[2, 1\]"),
        (LABELS.float(), "type torch.float32: allowed is"),
        (LABELS.int(), "type torch.int32: allowed is"),
        (LABELS + 2, r"labels lie in \[2, 4\]: allowed is 0 to 3, which means no label"),
        (LABELS - 1, r"labels lie in \[-1, 1\]"),
    ]
    for labels, message in wrong:
        with pytest.raises(ValueError, match=message):
            model(x, T, labels)


@ALL
def test_inputs_that_are_refused(case: Case) -> None:
    model, (first, *rest) = case.model(), case.shape
    for shape in ((first + 1, *rest), (*case.shape, 1), ()):
        with pytest.raises(ValueError, match=r"^x has shape \[2.*: allowed is \[any, "):
            model(images(2, *shape), T)


@ALL
def test_dropout_follows_the_seed_and_acts_in_training_only(case: Case) -> None:
    model, x = case.model(dropout=0.5), case.inputs()

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        out: Tensor = model(x, T)
        return out

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        assert torch.equal(run(0), run(1))
        model.train()
        assert torch.equal(run(0), run(0))
        assert not torch.equal(run(0), run(1))


@ALL
def test_dropout_can_be_shared_among_parts_of_a_batch(case: Case) -> None:
    """All dropout is that of modules, which is what a batch in parts replaces."""
    whole, parts = (case.model(dropout=0.5).train() for _ in range(2))
    part = share_dropout(parts, 2, torch.device("cpu"))
    x, t, outputs = case.inputs(4), torch.tensor([1, 20, 300, 999]), []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        want = whole(x, t)
        for number in range(2):
            part.fill_(number)
            torch.manual_seed(4)
            rows = slice(2 * number, 2 * number + 2)
            outputs.append(parts(x[rows], t[rows]))
    torch.testing.assert_close(torch.cat(outputs), want, rtol=1e-4, atol=1e-5)


@ALL
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(case: Case, dtype: torch.dtype) -> None:
    model, x = case.model(classes=CLASSES), case.inputs()
    with torch.no_grad():
        want, got = model(x, T, LABELS), model.to(dtype)(x.to(dtype), T, LABELS)
    assert got.dtype == dtype
    # bfloat16 has 8 bits; outputs add up some tens of terms of size 1.
    bound = 1e-4 if dtype == torch.float64 else 0.2
    torch.testing.assert_close(got.float(), want, rtol=bound, atol=bound)


@ALL
def test_a_network_reads_nothing_on_the_host(case: Case) -> None:
    model = case.model(classes=CLASSES, dropout=0.5).to(GPU).train()
    x, t, labels = (value.to(GPU) for value in (case.inputs(), T, LABELS))
    with pretend_gpu():
        for out in (model(x, t, labels), model(x, t)):
            out.sum().backward()
    assert {p.grad.device for p in model.parameters() if p.grad is not None} == {GPU}


@pytest.fixture
def counter() -> Iterator[CompileCounterWithBackend]:
    """Counts graphs, with nothing compiled before."""
    torch._dynamo.reset()
    counters.clear()
    yield CompileCounterWithBackend("eager")
    assert not counters["graph_break"]
    torch._dynamo.reset()


@ALL
def test_a_network_compiles_to_one_graph(counter: CompileCounterWithBackend, case: Case) -> None:
    model = case.model(classes=CLASSES)
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for number in range(3):
        x, labels = case.inputs(seed=number), (LABELS + number) % (CLASSES + 1)
        got, want = compiled(x, T + number, labels), model(x, T + number, labels)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1
    torch.testing.assert_close(compiled(x, T), model(x, T), rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 2
