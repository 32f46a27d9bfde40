"""Accuracy of a classifier on drawn digits against the weight of classifier-free guidance.

    ddpm train --run runs/classes --conditional --minutes 4
    python -m benchmarks.guidance --run runs/classes --out guidance.png

draws each class equally often with every weight and prints a table: how often a classifier that was
trained on real digits finds the class that was asked for, and how far the pictures are from real
ones of all classes. Weight 0 ignores the class and 1 follows it; more exaggerates.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.svm import SVC
from torch import Tensor

from ddpm.commands.trained import open_run
from ddpm.data.images import ImageData
from ddpm.data.load import load_images
from ddpm.errors import check
from ddpm.evaluation.summary import evaluate_samples
from ddpm.samplers.sampler import Sampler

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


def classifier(data: ImageData) -> SVC:
    """A support vector machine of the training images."""
    assert data.train_labels is not None
    return SVC(gamma="scale").fit(flat(data.train), data.train_labels.numpy())


def flat(images: Tensor) -> "list[list[float]]":
    """Images as rows of their grey levels."""
    rows: list[list[float]] = images.flatten(1).float().tolist()
    return rows


def accuracy(model: SVC, images: Tensor, labels: Tensor) -> float:
    """Share of the images whose class is found."""
    return float((torch.from_numpy(model.predict(flat(images))) == labels).float().mean())


def curve(path: Path, shares: list[float], distances: list[float], real: float) -> None:
    """Write a PNG of both measures against the weight."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    left.plot(WEIGHTS, shares, "o-", color="C0")
    left.axhline(real, color="C0", linestyle=":", label="real held-out images")
    left.set(xlabel="guidance", ylabel="classifier agrees, %", ylim=(0, 102))
    left.legend(loc="lower right")
    right = left.twinx()
    right.plot(WEIGHTS, distances, "s--", color="C1")
    right.set_ylabel("Fréchet distance", color="C1")
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)


def main(
    run: Annotated[Path, typer.Option(help="A run that was trained with --conditional.")],
    num: Annotated[int, typer.Option(help="Pictures for each weight.")] = 1000,
    steps: Annotated[int, typer.Option(help="Network calls, twice as many with guidance.")] = 100,
    out: Annotated[Path | None, typer.Option(help="PNG of the curve.")] = None,
) -> None:
    """Print the table and draw the curve."""
    opened = open_run(run, "cpu")
    classes = opened.trained.classes
    check(classes > 0, "run", str(run), "one that knows classes")
    data = load_images(opened.config.data)
    assert data.test_labels is not None
    judge, labels = classifier(data), torch.arange(num) % classes
    real = accuracy(judge, data.test, data.test_labels)
    print(f"On held-out images the classifier is right in {100 * real:.1f} %.\n")
    print("| guidance | classifier agrees, % | Fréchet distance |\n| ---: | ---: | ---: |")
    shares, distances = [], []
    for weight in WEIGHTS:
        pictures = opened.draw(num, 0, Sampler(name="ddim", steps=steps, eta=1.0, guidance=weight))
        share = 100 * accuracy(judge, pictures, labels)
        distance = evaluate_samples(pictures, data)["frechet"]["samples_test"]
        shares.append(share)
        distances.append(distance)
        print(f"| {weight:g} | {share:.1f} | {distance:.1f} |", flush=True)
    if out is not None:
        curve(out, shares, distances, 100 * real)


if __name__ == "__main__":
    typer.run(main)
