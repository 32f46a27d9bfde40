"""The commands that make a run again, from its configuration."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ddpm.config import RunConfig
from ddpm.runs.recorded import recorded


def commands(config: RunConfig, name: str, evaluation: Mapping[str, Any]) -> list[list[str]]:
    """Command lines that train the run again under another name, and evaluate it alike.

    Each comes in parts, an option together with its value, quoted for a shell.

    Args:
        config: The run.
        name: What the run is called.
        evaluation: Content of eval.json, empty where there is none.
    """
    run = ["--run", f"runs/{name}-again"]
    lines = [_parts("train", [*run, *train_options(config)])]
    if evaluation:
        lines.append(_parts("eval", [*run, *eval_options(config, evaluation)]))
    return lines


def eval_options(config: RunConfig, evaluation: Mapping[str, Any]) -> list[str]:
    """Options of `ddpm eval` that lead to these scores; what cannot be read is left out."""
    found = {
        "num": evaluation.get("num"),
        "seed": evaluation.get("seed"),
        "max-images": evaluation.get("test_images"),
    }
    options: dict[str, object] = {k: value for k, value in found.items() if isinstance(value, int)}
    rate, samples, features = (evaluation.get(key) for key in ("ema", "samples", "features"))
    if isinstance(rate, float) and rate != config.optimiser.ema_decay:
        options["ema"] = rate
    if isinstance(samples, str):
        options = {"samples": samples, **options}
        options.pop("num", None)
    extractor = features.get("extractor") if isinstance(features, dict) else None
    if isinstance(extractor, str):
        options["features"] = extractor
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _parts(command: str, words: Sequence[str]) -> list[str]:
    starts = [i for i, word in enumerate(words) if word.startswith("--")]
    ends = [*starts[1:], len(words)]
    options = [words[first:last] for first, last in zip(starts, ends, strict=True)]
    return [f"ddpm {command}", *(shlex.join(option) for option in options)]


def train_options(config: RunConfig) -> list[str]:
    """Options of `ddpm train` that lead to this configuration, on the same data."""
    words: list[str] = []
    for name, (value, usual) in recorded(config).items():
        if usual is not None and value == usual:
            continue
        words += _option(f"--{name.replace('_', '-')}", value, repeated=name == "ema")
    return words


def _option(option: str, value: object, *, repeated: bool) -> list[str]:
    if value is True:
        return [option]
    if not isinstance(value, tuple):
        return [option, str(value)]
    if repeated:
        return [word for part in value for word in (option, str(part))]
    return [option, ",".join(str(part) for part in value)]
