"""The command that a report prints leads to the configuration that it reports."""

import shlex
from dataclasses import fields
from typing import Any

import pytest

from ddpm.commands.defaults import make_config
from ddpm.commands.request import Request
from ddpm.config import RunConfig
from ddpm.data.digits import load
from ddpm.report.reproduce import commands
from tests.cli.command import run_here

EVERYTHING = Request(
    data="digits", steps=31, seed=-7, batch_size=12, learning_rate=3e-05, prediction="v",
    variance="learned_sigmoid", objective="hybrid", weighting="min_snr", bound_rate=0.01,
    schedule="linear", levels=77, level_sampling="loss_aware", beta_start=2e-4, beta_end=0.015,
    zero_terminal_snr=True, conditional=True, label_dropout=0.25, channels=12, multipliers=(1, 3),
    blocks=3, attention=(0, 1), fourier=(3, 4), warmup=7,
    weight_decay=0.3, dropout=0.25, threads=2, decay="linear", ema=(0.99, 0.9995),
    precision="bfloat16", compile=True, channels_last=True, checkpoint_activations=True,
    accumulation=3, skip_broken=True,
)  # fmt: skip
"""As much as goes together; --minutes becomes a number of updates."""

REQUESTS = [
    Request(steps=100),
    Request(steps=5, schedule="cosine", ema=(0.9,)),
    Request(steps=9, beta_start=1e-3, precision="float16"),
    EVERYTHING,
    Request(steps=9, prior="data", network="mlp", width=20, depth=2),
    Request(steps=9, prediction="score"),
    Request(steps=9, prediction="score", weighting="simple"),
    Request(steps=9, objective="vlb", attention=()),
    Request(steps=9, process="discrete", transition="uniform", auxiliary=0.1, levels=30),
    Request(steps=9, process="vae", latent=3, hidden=(20,)),
    Request(steps=9, network="untied", levels=5, hidden=(20, 30)),
    Request(steps=9, network="transformer", patch=4, width=32, depth=2, heads=2),
    Request(steps=9, preset="digits"),
]


def asked_by(line: list[str], monkeypatch: pytest.MonkeyPatch) -> Request:
    """What the command line understands by a printed command."""
    caught: list[Request] = []

    def train_run(_: object, request: Request, *__: object, **___: object) -> None:
        caught.append(request)

    monkeypatch.setattr("ddpm.commands.train.train_run", train_run)
    program, *arguments = shlex.split(" ".join(line))
    assert program == "ddpm"
    assert run_here(*arguments) == 0
    return caught[0]


def config_of(request: Request) -> RunConfig:
    return make_config(request, load(), request.data or "digits")


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_printed_command_asks_for_the_same_run(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(request_)
    (line,) = commands(config, "first run", {})
    assert "'runs/first run-again'" in " ".join(line)
    assert config_of(asked_by(line, monkeypatch)) == config


def test_every_option_of_training_takes_part() -> None:
    left = {
        field.name
        for field in fields(Request)
        if all(getattr(request, field.name) == field.default for request in REQUESTS)
    }
    assert left == {"minutes"}, "print this option in ddpm/runs/recorded.py"


def test_a_path_is_quoted_for_the_shell() -> None:
    config = config_of(Request(steps=1, data="/data/my $images"))
    (line,) = commands(config, "x", {})
    assert shlex.split(" ".join(line))[5] == "/data/my $images"


def test_an_evaluated_run_is_evaluated_again() -> None:
    config = config_of(Request(steps=1))
    scores: dict[str, Any] = {"num": 360, "seed": 3, "test_images": 50, "ema": 0.999}
    _, line = commands(config, "x", scores)
    assert " ".join(line) == "ddpm eval --run runs/x-again --num 360 --seed 3 --max-images 50"
    scores |= {"ema": 0.9, "samples": "my folder", "features": {"extractor": "pixels"}}
    _, line = commands(config, "x", scores)
    assert " ".join(line[2:]) == (
        "--samples 'my folder' --seed 3 --max-images 50 --ema 0.9 --features pixels"
    )
