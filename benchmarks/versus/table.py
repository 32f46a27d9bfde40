"""The table of an evaluation, for a document."""

from collections.abc import Sequence
from typing import Any

HEADINGS = (
    "loop", "weights", "seed", "updates", "CPU minutes", "bits/dim", "prior + levels + decoder",
    "Fréchet, pixels", "Fréchet, features", "kernel, features", "precision", "recall",
)  # fmt: skip
FEATURES = (("frechet", ".3f"), ("kernel", ".5f"), ("precision", ".3f"), ("recall", ".3f"))


def markdown(rows: Sequence[dict[str, Any]], options: dict[str, Any]) -> str:
    """A line for each row, one for real images, and under them how it was evaluated.

    Args:
        rows: As `benchmarks.versus.evaluate` writes them, at least one.
        options: What it was asked.
    """
    lines = [_line(HEADINGS), _line(["---", "---", *["---:"] * (len(HEADINGS) - 2)])]
    lines += [_line(_cells(row)) for row in rows]
    real = rows[0]["quality"]
    lines.append(_line(["real training images", *[""] * 6, *_distances(real, "train_test")]))
    draws = rows[0]["bits"]["images"]
    lines += [
        "",
        f"Bits/dim: {draws} images and noises at every level, ± one standard error. Distances: "
        f"{options['samples']} samples, {options['sampler']}, {options['steps']} steps, against "
        f"the test set. Seed of the evaluation {options['seed']}.",
    ]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    run, bits = row["run"], row["bits"]
    name = f"{run['loop']}, tuned" if run["tuned"] else run["loop"]
    return [
        name,
        row["weights"],
        str(run["seed"]),
        str(run["updates"]),
        f"{run['cpu_seconds'] / 60:.1f}",
        f"{bits['total']:.3f} ± {bits['error']:.3f}",
        f"{bits['prior']:.4f} + {bits['levels']:.3f} + {bits['decoder']:.3f}",
        *_distances(row["quality"], "samples_test"),
    ]


def _distances(quality: dict[str, Any], of: str) -> list[str]:
    pixels = f"{quality['pixels'][of]:.0f}"
    small = quality.get("small")
    return [pixels, *("" if small is None else format(small[n][of], d) for n, d in FEATURES)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
