"""Settings that cannot go together are refused on one line before training, with the reason."""

from pathlib import Path

import pytest

from tests.cli.test_bad_input import TRAIN, png, refused

PLAIN = [word for word in TRAIN if word not in ("--channels", "4", "--dropout", "0.1")]
"""Without sizes that only some networks have."""


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--network", "gru"], ["network = 'gru'", "unet, mlp, transformer, untied"]),
        (["--width", "5"], ["width = 5", "nothing for network = 'unet'", "mlp and transformer"]),
        (["--multipliers", "1,a"], ["multipliers = '1,a'", "integers, such as 1,2,2"]),
        (["--network", "transformer", "--width", "6"], ["width = 6", "a multiple of 4"]),
        (["--preset", "mnist"], ["preset = 'mnist'", "digits, fashion-mnist"]),
        (["--preset", "imagenet64"], ["data = None", "a path of images"]),
        (["--process", "ddpm"], ["process", "gaussian"]),
        (["--process", "vae", "--network", "mlp"], ["model.kind = 'mlp'", "vae"]),
        (["--network", "vae"], ["model.kind = 'vae'", "process = 'vae'"]),
        (["--process", "vae", "--hidden", "5,6"], ["hidden = (5, 6)", "one size"]),
        (["--process", "vae", "--conditional"], ["conditional = True", "nothing for an auto"]),
        (["--process", "vae", "--level-sampling", "loss_aware"], ["level_sampling", "one level"]),
        (["--process", "discrete", "--prediction", "v"], ["prediction = 'v'", "'eps' with"]),
        (["--process", "discrete", "--variance", "beta"], ["variance = 'beta'", "'posterior'"]),
        (["--process", "discrete", "--schedule", "learned"], ["schedule.kind = 'learned'"]),
        (["--process", "discrete", "--prior", "data"], ["prior = 'data'", "'standard' with"]),
        (["--transition", "gaussian"], ["transition = 'gaussian'", "absorbing"]),
        (["--auxiliary", "-1"], ["auxiliary = -1", "at least 0"]),
        (["--objective", "elbo"], ["objective = 'elbo'", "simple, hybrid, vlb"]),
        (["--objective", "hybrid"], ["objective = 'hybrid'", "fixed variance is simple or vlb"]),
        (
            ["--objective", "simple", "--variance", "learned"],
            ["objective = 'simple'", "learned variance is hybrid or vlb"],
        ),
        (
            ["--objective", "vlb", "--weighting", "p2"],
            ["weighting = p2", "'simple'", "no weight but its own"],
        ),
        (["--weighting", "snr"], ["weighting = 'snr'", "min_snr"]),
        (["--bound-rate", "-1"], ["bound_rate = -1", "at least 0"]),
        (["--variance", "big"], ["variance", "posterior"]),
        (["--level-sampling", "sobol"], ["level_sampling = 'sobol'", "loss_aware"]),
        (["--zero-terminal-snr", "--prediction", "eps"], ["prediction = 'eps'", "zero terminal"]),
        (
            ["--schedule", "learned", "--variance", "learned"],
            ["variance = 'learned'", "posterior or beta with a learned schedule"],
        ),
        (["--schedule", "learned", "--prior", "data"], ["prior = 'data'", "learned schedule"]),
        (["--schedule", "learned", "--weighting", "p2"], ["objective.weighting = 'p2'"]),
        (["--schedule", "learned", "--levels", "1"], ["levels = 1", "at least 2"]),
        (["--schedule", "learned", "--compile"], ["compute.compile = True", "False with"]),
        (["--prior", "data", "--variance", "learned"], ["variance = 'learned'", "prior = 'data'"]),
        (["--prior", "pixels"], ["prior", "standard"]),
        (["--label-dropout", "0.2"], ["label_dropout = 0.2", "--conditional"]),
        (["--conditional", "--label-dropout", "1"], ["label_dropout = 1.0", "[0, 1)"]),
        (["--network", "untied", "--levels", "2000"], ["levels = 2000", "at most 1000"]),
        (["--fourier", "99"], ["fourier = (99,)", "0 to 16"]),
        (["--warmup", "-1"], ["warmup = -1", "at least 0"]),
        (["--weight-decay", "2"], ["weight_decay = 2.0", "[0, 1)"]),
    ],
)
def test_settings_that_do_not_go_together(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], names: list[str]
) -> None:
    refused(capfd, tmp_path, *PLAIN, "--run", tmp_path / "r", *options, names=names)


def test_classes_of_images_without_labels(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for i in range(5):
        png(tmp_path / "data" / f"{i}.png")
    data, names = tmp_path / "data", ["conditional = True", "data with labels"]
    run = tmp_path / "r"
    refused(capfd, tmp_path, *TRAIN, "--run", run, "--data", data, "--conditional", names=names)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--guidance", "2"], ["guidance = 2.0", "1 for a model without classes"]),
        (["--label", "3"], ["label = 3", "none for a model without classes"]),
    ],
)
def test_classes_of_a_model_without(
    trained: Path, capfd: pytest.CaptureFixture[str], options: list[str], names: list[str]
) -> None:
    arguments: list[str | Path] = [
        "sample",
        "--run",
        trained,
        "--num",
        "2",
        "--device",
        "cpu",
        *options,
    ]
    refused(capfd, trained, *arguments, names=names)


def test_a_run_cannot_take_on_another_objective(
    trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for options, names in (
        (["--objective", "vlb"], ["objective = 'vlb'", "the run has 'simple'"]),
        (["--network", "mlp"], ["network = 'mlp'", "the run has 'unet'"]),
        (["--width", "5"], ["width = 5", "the run has none"]),
    ):
        arguments: list[str | Path] = ["train", "--run", trained, "--resume", "--device", "cpu"]
        arguments += options
        refused(capfd, trained, *arguments, names=names)
