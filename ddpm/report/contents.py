"""Everything that the page of a run shows, read from its folder."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ddpm.config import RunConfig
from ddpm.report.chart import Chart, chart, short
from ddpm.report.embedding import Picture, progress_pictures, sample_pictures
from ddpm.report.history import History, number, read_history
from ddpm.report.reproduce import commands
from ddpm.report.scores import Row, level_terms, read_scores, rows
from ddpm.runs.checkpoint import checkpoints
from ddpm.runs.environment import Session, sessions
from ddpm.runs.metrics import bucket_names
from ddpm.runs.run_folder import RunFolder


@dataclass(frozen=True)
class LevelLoss:
    """Losses of one bucket of levels: the first that is known, the last and the least."""

    levels: str
    first: str
    last: str
    least: str


@dataclass(frozen=True)
class Contents:
    """What the template of the page fills in.

    Attributes:
        name: What the run is called.
        summary: One sentence on how far it is.
        facts: Short figures, each with its name.
        charts: Curves over the updates.
        level_losses: The curve by level as numbers.
        level_chart: Bits of each level from the evaluation, if there are any.
        progress: Samples drawn during training.
        samples: Samples drawn afterwards.
        scores: Table of the evaluation.
        settings: Configuration in groups of name and value.
        sessions: Starts of the training with versions and machine.
        commands: How to get the run again; each line in parts that belong together.
        notes: What was found wrong with the folder's files.
    """

    name: str
    summary: str
    facts: Sequence[tuple[str, str]]
    charts: Sequence[Chart]
    level_losses: Sequence[LevelLoss]
    level_chart: Chart | None
    progress: Sequence[Picture]
    samples: Sequence[Picture]
    scores: Sequence[Row]
    settings: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    sessions: Sequence[Session]
    commands: Sequence[Sequence[str]]
    notes: Sequence[str]


def contents(folder: RunFolder) -> Contents:
    """Read a run.

    Raises:
        InputError: there is no run, or its configuration or its eval.json is broken.
    """
    config, name = folder.config(), folder.path.resolve().name
    history = read_history(folder.metrics_file)
    scores = read_scores(folder.evaluation_file)
    known = sessions(folder)
    return Contents(
        name=name,
        summary=_summary(config, _done(folder, history), history),
        facts=_facts(config, history, scores),
        charts=_charts(config, history),
        level_losses=_level_losses(config, history),
        level_chart=_level_chart(scores),
        progress=progress_pictures(folder),
        samples=sample_pictures(folder),
        scores=rows(scores),
        settings=_settings(config),
        sessions=known or [],
        commands=commands(config, name, scores),
        notes=_notes(history, unreadable=known is None),
    )


def duration(seconds: float) -> str:
    """A time in its two largest units: 3 h 12 min."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days:,} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _done(folder: RunFolder, history: History) -> int:
    """Updates that a checkpoint or a line tells of."""
    saved = [int(path.name.removeprefix("step-")) for path in checkpoints(folder.checkpoints)]
    return max([0, *saved[-1:], *history.steps[-1:]])


def _summary(config: RunConfig, done: int, history: History) -> str:
    channels, height, width = config.image_shape
    seconds = history.last("seconds")
    time = "" if seconds is None else f" in {duration(seconds)}"
    return (
        f"{done:,} of {config.steps:,} updates{time}, each of {config.batch_size:,} images from "
        f"{config.data}: {height} × {width} pixels, {channels} channel{'s' * (channels > 1)}, "
        f"{config.grey_levels} grey levels."
    )


def _facts(config: RunConfig, history: History, scores: dict[str, Any]) -> list[tuple[str, str]]:
    # On the meta device a network has sizes and no memory.
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in config.network().parameters())
    known = [
        ("bits/dim", number(scores.get("bits_per_dim"))),
        ("loss", history.last("loss")),
        ("images/s", history.last("images_per_second")),
    ]
    shown = [(name, short(value)) for name, value in known if value is not None]
    return [*shown, ("parameters", f"{size:,}")]


def _charts(config: RunConfig, history: History) -> list[Chart]:
    steps, curves = history.steps, history.curves
    names = bucket_names(config.schedule.levels)
    by_level = {f"t {n}": v for n, v in zip(names, history.by_level, strict=False)}
    found = [
        chart("Loss", steps, {"loss": curves["loss"]}),
        chart("Loss by level", steps, by_level, note="t from clean data to noise"),
        chart("Gradient norm", steps, {"norm": curves["gradient_norm"]}, note="before clipping"),
        chart("Learning rate", steps, {"rate": curves["learning_rate"]}, zero=True),
        chart("Images per second", steps, {"speed": curves["images_per_second"]}, zero=True),
        chart("Averaging", steps, {"decay": curves["ema_decay"]}, note="share kept by an update"),
    ]
    return [one for one in found if one is not None]


def _level_losses(config: RunConfig, history: History) -> list[LevelLoss]:
    found = []
    for name, values in zip(bucket_names(config.schedule.levels), history.by_level, strict=False):
        known = [value for value in values if value is not None]
        if known:
            found.append(LevelLoss(name, short(known[0]), short(known[-1]), short(min(known))))
    return found


def _level_chart(scores: dict[str, Any]) -> Chart | None:
    values = [number(value) for value in level_terms(scores)]
    total = math.fsum(value for value in values if value is not None)
    return chart(
        "Bits/dim of each level", range(len(values)), {"bits": values},
        note=f"together {short(total)}", x_label="level t",
    )  # fmt: skip


def _settings(config: RunConfig) -> list[tuple[str, list[tuple[str, str]]]]:
    groups: list[tuple[str, list[tuple[str, str]]]] = [("Run", [])]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            inner = [(f.name, _setting(getattr(value, f.name))) for f in dataclasses.fields(value)]
            groups.append((field.name.capitalize(), inner))
        else:
            groups[0][1].append((field.name, _setting(value)))
    return groups


def _setting(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _notes(history: History, *, unreadable: bool) -> list[str]:
    notes = []
    if history.unread:
        lines = "1 line" if history.unread == 1 else f"{history.unread:,} lines"
        notes.append(f"{lines} of metrics.jsonl cannot be read.")
    if not history.steps:
        notes.append("There are no curves yet: metrics.jsonl holds no line.")
    if unreadable:
        notes.append("environment.json cannot be read, so versions and machine are unknown.")
    return notes
