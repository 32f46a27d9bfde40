"""`ddpm eval`: how likely held-out images are, and how good the samples."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from torch import Tensor

from ddpm.commands.likelihoods import Likelihood, check_likelihood, likelihood
from ddpm.commands.shards import ShardFolder
from ddpm.commands.terminal import console
from ddpm.commands.trained import TrainedRun, open_run
from ddpm.config import RunConfig
from ddpm.data.images import ImageData
from ddpm.data.load import open_source
from ddpm.errors import InputError, check
from ddpm.evaluation.arrays import MOST_IMAGES
from ddpm.evaluation.baselines import baselines
from ddpm.evaluation.extractors import check_features, extractor
from ddpm.evaluation.feature_quality import Compared, FeatureQuality, feature_quality
from ddpm.evaluation.figures import comparison_grid, kl_curve
from ddpm.evaluation.library import metrics_installed
from ddpm.evaluation.summary import evaluate_samples
from ddpm.files import keep_old, write_atomically
from ddpm.runs import checkpoint

BY_IMAGE = "eval-likelihood.npz"
"""What each image costs; the order is that of the held-out images."""


def evaluate_run(
    path: Path,
    *,
    num: int,
    seed: int,
    max_images: int,
    device: str,
    ema: float | None = None,
    samples: Path | None = None,
    features: str | None = None,
    likelihood_by: str = "vlb",
) -> None:
    """Evaluate a run, write eval.json, bits by image and two pictures, and print a table.

    Args:
        path: The run folder.
        num: How many pictures to draw and compare.
        seed: Key of the random numbers.
        max_images: At most so many held-out images for the likelihood.
        device: "auto", "cpu" or "cuda".
        ema: Rate of the averaged weights; None for the main ones.
        samples: Folder of pictures drawn before from the same weights, all of which are compared
            in place of `num` new ones.
        features: Extractor, see `ddpm.evaluation.extractors.extractor`; "none" for no distances in
            a feature space; None for "small" where torchmetrics is installed.
        likelihood_by: "vlb" for the bound, "ode" for the probability flow beside it.

    Raises:
        InputError: an argument or the run cannot be used.
    """
    check(num >= 2, "num", num, "an integer of at least 2")
    check(max_images >= 1, "max_images", max_images, "an integer of at least 1")
    extractor_name = _chosen_features(features)
    run = open_run(path, device, ema)
    check_likelihood(likelihood_by, run)
    drawn = None if samples is None else _drawn_before(samples, run)
    data = _in_memory(run.config)
    scores = likelihood(run, data, seed, max_images, likelihood_by)
    if drawn is None:
        drawn = run.draw(num, seed, run.trained.usual)
    with console.status("baselines and sample quality"):
        result = _result(run, data, scores, drawn)
        if extractor_name is not None:
            network = extractor(extractor_name, data, run.device)
            result["features"] = feature_quality(drawn, data, extractor_name, network, run.device)
    result |= {"seed": seed, "num": len(drawn), "test_images": min(max_images, len(data.test))}
    result |= {"ema": run.ema, "samples": None if samples is None else str(samples)}
    _write(run, data, scores, drawn, result)
    _print(run, result)


def _chosen_features(name: str | None) -> str | None:
    """The extractor to use, looked for before any work is done, or None for none."""
    if name is None and not metrics_installed():
        console.print(
            "No distances in a feature space: torchmetrics is not installed (pip install "
            "'ddpm-proven[eval]')",
            soft_wrap=True,
            markup=False,
        )
    if name == "none" or (name is None and not metrics_installed()):
        return None
    chosen = name or "small"
    check_features(chosen)
    return chosen


def _drawn_before(path: Path, run: TrainedRun) -> Tensor:
    """Pictures of a folder, which must be of the weights that are evaluated.

    Raises:
        InputError: they are of others, or are not all there.
    """
    folder = ShardFolder.open(path)
    if folder.sampling.fingerprint != run.fingerprint():
        other = folder.sampling
        raise InputError(
            f"samples = {path}: drawn from {other.run} at update {other.step} with average "
            f"{other.ema}; allowed are pictures of the same weights as {run.folder.path} at "
            f"update {run.step} with average {run.ema}"
        )
    check(folder.sampling.num >= 2, "pictures in samples", folder.sampling.num, "at least 2")
    return folder.read()


def _in_memory(config: RunConfig) -> ImageData:
    """The data of a run; of a set beyond memory 10,000 images of each part, evenly spaced."""
    data = open_source(config.data, skip_broken=config.skip_broken)
    return data if isinstance(data, ImageData) else data.sample(MOST_IMAGES)


def _result(
    run: TrainedRun, data: ImageData, scores: Likelihood, samples: Tensor
) -> dict[str, Any]:
    bound = scores.bound
    seconds = checkpoint.load(run.folder.last_checkpoint(), ()).seconds
    return {
        "bits_per_dim": bound.total,
        "terms": {
            "prior": bound.prior,
            "kl": float(bound.kl.sum()),
            "decoder": bound.decoder,
            "kl_by_level": bound.kl.tolist(),
        },
        "decoder_std": scores.decoder_std,
        **({} if scores.flow is None else {"flow": scores.flow}),
        "baselines": baselines(data),
        **evaluate_samples(samples, data),
        "train_seconds": seconds,
        "step": run.step,
    }


def _write(
    run: TrainedRun, data: ImageData, scores: Likelihood, samples: Tensor, result: dict[str, Any]
) -> None:
    bound = scores.bound
    folder, text = run.folder, (json.dumps(result, indent=2) + "\n").encode()
    curve, grid = folder.path / "kl.png", folder.path / "samples.png"
    if folder.evaluation_file.exists() and folder.evaluation_file.read_bytes() != text:
        for old in (folder.evaluation_file, curve, grid, folder.path / BY_IMAGE):
            if moved := keep_old(old):
                console.print(f"Kept the earlier {old.name} as {moved.name}", soft_wrap=True)
    # Level 1 has the decoder in place of a divergence; a chain of one level has nothing else.
    first = min(2, len(bound.kl) - 1)
    levels, divergences = range(first, len(bound.kl)), bound.kl[first:].tolist()
    kl_curve(curve, levels, divergences, bound.prior, bound.decoder)
    comparison_grid(grid, data.test, samples, data.levels)
    if scores.by_image:
        arrays = io.BytesIO()
        np.savez_compressed(arrays, **scores.by_image)  # type: ignore[arg-type]
        write_atomically(folder.path / BY_IMAGE, arrays.getvalue())
    write_atomically(folder.evaluation_file, text)


def _print(run: TrainedRun, result: dict[str, Any]) -> None:
    base, frechet, nearest = result["baselines"], result["frechet"], result["nearest"]
    terms, fractions = result["terms"], result["class_fraction"]
    table = Table("what", "model", "to compare with", title=f"{run.folder.path}, update {run.step}")
    table.add_row(
        "bits/dim of held-out images, an upper bound: lower is better",
        f"{result['bits_per_dim']:.3f}",
        ", ".join(f"{name} {value:.3f}" for name, value in base.items()),
    )
    table.add_row(
        "  its terms: prior, levels, decoder",
        f"{terms['prior']:.4f}, {terms['kl']:.3f}, {terms['decoder']:.3f}",
        "their sum is the line above",
    )
    if flow := result.get("flow"):
        table.add_row(
            "bits/dim by the probability flow, an upper bound too",
            f"{flow['bits_per_dim']:.3f}",
            f"the line above it; dequantised by {flow['dequantisation']}",
        )
    table.add_row(
        "Frechet distance to held-out images: lower is better",
        f"{frechet['samples_test']:.2f}",
        f"real training images {frechet['train_test']:.2f}",
    )
    if fractions is not None:
        table.add_row(
            "share of each class, in percent",
            " ".join(f"{100 * share:.0f}" for share in fractions),
            f"even: {100 / len(fractions):.0f} each",
        )
    table.add_row(
        "distance to the nearest training image: far below means copying",
        f"{nearest['samples_train']:.1f}",
        f"held-out images {nearest['test_train']:.1f}",
    )
    if "features" in result:
        _feature_rows(table, result["features"])
    console.print(table)
    folder = run.folder.path
    console.print(
        f"Pictures, real beside drawn: {folder / 'samples.png'}\n"
        f"Bits/dim by level:           {folder / 'kl.png'}\n"
        f"All figures:                 {run.folder.evaluation_file}",
        soft_wrap=True,
    )


def _feature_rows(table: Table, quality: FeatureQuality) -> None:
    """Rows of the distances in the space of features."""
    rows: tuple[tuple[str, Compared, str], ...] = (
        ("Frechet distance, lower is better", quality["frechet"], ".3f"),
        ("kernel distance, lower is better", quality["kernel"], ".5f"),
        ("precision: samples that look real", quality["precision"], ".3f"),
        ("recall: real images within reach", quality["recall"], ".3f"),
    )
    for name, measure, digits in rows:
        table.add_row(
            f"features {quality['extractor']}: {name}",
            format(measure["samples_test"], digits),
            f"real training images {format(measure['train_test'], digits)}",
        )
