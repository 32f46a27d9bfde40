"""A run folder whose content is made up, so that its page is the same every time."""

import json
import math
from pathlib import Path

from ddpm.config import OptimiserConfig, RunConfig, ScheduleConfig
from ddpm.data.digits import load
from ddpm.evaluation.figures import comparison_grid, sample_grid
from ddpm.models.unet import UNetConfig
from ddpm.runs.environment import Session, environment_file
from ddpm.runs.run_folder import RunFolder

STEPS = 4000
LEVELS = 40
LEARNING_RATE = 4e-3

CONFIG = RunConfig(
    data="digits",
    data_digest="0123456789abcdef",
    image_shape=(1, 8, 8),
    grey_levels=17,
    steps=STEPS,
    batch_size=64,
    schedule=ScheduleConfig(levels=LEVELS),
    model=UNetConfig(channels=8, multipliers=(1, 1), blocks=1, attention=(1,), dropout=0.1),
    optimiser=OptimiserConfig(learning_rate=LEARNING_RATE),
)


def make_run(path: Path, *, evaluated: bool = True, pictures: bool = True) -> RunFolder:
    """A run of the present version, trained to its end."""
    folder = RunFolder(path)
    folder.create(CONFIG)
    for step in range(20, STEPS + 1, 20):
        folder.append_metrics(line(step))
    session = Session(
        from_update=0, device="cpu", ranks=2, ddpm="0.1.0", torch="2.13.0", python="3.11.2",
        system="Linux x86_64",
    )  # fmt: skip
    environment_file(folder).write_text(json.dumps([session.__dict__]))
    if evaluated:
        folder.evaluation_file.write_text(json.dumps(evaluation()))
    if pictures:
        _draw(folder)
    return folder


def line(step: int) -> dict[str, object]:
    """What an update reports: a falling loss that wobbles."""
    wobble = 1 + 0.15 * math.sin(1.7 * step) + 0.1 * math.sin(0.31 * step)
    loss = (0.05 + 0.9 * math.exp(-step / 300)) * wobble
    return {
        "step": step,
        "seconds": step * 0.05,
        "loss": loss,
        "gradient_norm": 0.3 * wobble + 2 * math.exp(-step / 100),
        "learning_rate": LEARNING_RATE / 2 * (1 + math.cos(math.pi * step / STEPS)),
        "ema_decay": min(0.999, (1 + step) / (10 + step)),
        "images_per_second": 1280 * (1 + 0.02 * math.sin(step)),
        "loss_by_level": [
            loss * 4 * 0.55**bucket * (1 + 0.05 * math.sin(step + bucket)) for bucket in range(8)
        ],
    }


def evaluation() -> dict[str, object]:
    """Scores of the form that `ddpm eval` writes."""
    terms = [0.0, 0.0, *(0.12 * math.exp(-level / 9) + 0.001 for level in range(2, LEVELS + 1))]
    return {
        "bits_per_dim": 1.744,
        "terms": {"prior": 0.001, "kl": sum(terms), "decoder": 0.61, "kl_by_level": terms},
        "decoder_std": 0.0412,
        "baselines": {"histogram": 2.44, "gaussian": 2.98, "mixture": 2.61},
        "frechet": {"samples_test": 30.9, "train_test": 28.6},
        "class_fraction": [0.1, 0.11, 0.09, 0.1, 0.1, 0.12, 0.08, 0.1, 0.1, 0.1],
        "classifier_accuracy": 0.975,
        "nearest": {"samples_train": 18.0, "test_train": 16.7},
        "train_seconds": 200.0,
        "step": STEPS,
        "features": {
            "extractor": "small",
            "dimensions": 64,
            "frechet": {"samples_test": 17.9, "train_test": 16.3},
            "kernel": {"samples_test": 0.056, "train_test": 0.0089},
            "precision": {"samples_test": 0.82, "train_test": 0.87},
            "recall": {"samples_test": 0.79, "train_test": 0.805},
        },
        "seed": 3,
        "num": 360,
        "test_images": 360,
        "ema": 0.999,
        "samples": None,
    }


def _draw(folder: RunFolder) -> None:
    data = load()
    progress = folder.samples / "progress"
    progress.mkdir(parents=True)
    for number, step in enumerate((500, 1000, 2000, 4000)):
        dimmed = data.test[:16] // (4 - number)
        sample_grid(progress / f"{step:08}.png", dimmed, 17)
    comparison_grid(folder.path / "samples.png", data.test[:36], data.train[:36], 17)
    sample_grid(folder.samples / "ancestral-40-seed-1-num-64.png", data.train[:64], 17)
