"""Configurations are checked at construction and survive JSON."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.config import (
    OptimiserConfig,
    RunConfig,
    ScheduleConfig,
    from_json,
    log_snr_end,
    log_snr_start,
    to_json,
)
from ddpm.errors import InputError
from tests.ddpm.small import small_config

FILE = Path("run/config.json")


@given(
    steps=st.integers(1, 10**9),
    seed=st.integers(-(2**63), 2**63 - 1),
    rate=st.floats(1e-9, 1e3),
    kind=st.sampled_from(["log_snr_linear", "linear", "cosine"]),
    levels=st.integers(1, 50),
)
def test_round_trip(steps: int, seed: int, rate: float, kind: Any, levels: int) -> None:
    config = RunConfig(
        data="digits", data_digest="ab", image_shape=(1, 8, 8), grey_levels=17, steps=steps,
        seed=seed, schedule=ScheduleConfig(kind=kind, levels=levels),
        optimiser=OptimiserConfig(learning_rate=rate),
    )  # fmt: skip
    assert from_json(to_json(config).encode(), FILE) == config


def changed(path: str, value: object) -> bytes:
    content = asdict(small_config())
    *parents, name = path.split(".")
    inner = content
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps", 0), ("steps", "many"), ("steps", None), ("batch_size", 0),
        ("batch_size", 2**25), ("threads", 0), ("threads", 5000), ("image_shape", [1, 2**17, 8]),
        ("seed", 2**63), ("grey_levels", 1), ("grey_levels", 257), ("prediction", "noise"),
        ("variance", "small"), ("image_shape", [1, 4]), ("model.image_channels", 3),
        ("unknown", 1), ("schedule.levels", 0), ("schedule.kind", "sigmoid"),
        ("schedule.levels", 10**12),
        ("schedule.log_snr_min", 20.0), ("schedule.extra", 1), ("model.channels", 0),
        ("model.channels", 5), ("model.multipliers", []), ("model.attention", [2]),
        ("model.dropout", 1.0), ("optimiser.learning_rate", 0.0),
        ("optimiser.learning_rate", math.nan), ("optimiser.ema_decay", 1.0),
        ("optimiser.warmup", -1), ("optimiser.weight_decay", 1.0),
        ("optimiser.gradient_clip", 0.0),
    ],
)  # fmt: skip
def test_a_bad_field_is_named_on_one_line(path: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        from_json(changed(path, value), FILE)
    message = str(caught.value)
    assert message.startswith("run/config.json: ")
    assert path.split(".")[-1] in message or path.split(".")[0] in message
    assert "\n" not in message


@given(text=st.binary(max_size=60))
def test_anything_else_is_refused_not_crashed_on(text: bytes) -> None:
    with pytest.raises(InputError):
        from_json(text, FILE)


@pytest.mark.parametrize("dimensions", [1, 64, 3072])
def test_the_last_level_hides_the_whole_image(dimensions: int) -> None:
    """The best guess of a brightness that all values share is hardly better than none."""
    schedule = ScheduleConfig(log_snr_max=20.0, log_snr_min=log_snr_start(dimensions)).build()
    alpha_bar = float(schedule.alpha_bar[-1])
    # x_T = sqrt(abar) m 1 + sqrt(1 - abar) eps with m ~ N(0, 1): posterior variance of m by
    # conditioning the joint covariance of (m, x_T).
    cross = np.full(dimensions, math.sqrt(alpha_bar))
    covariance = np.outer(cross, cross) + (1 - alpha_bar) * np.eye(dimensions)
    left = 1 - cross @ np.linalg.solve(covariance, cross)
    assert 0.85 < left < 0.9


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_chain_ends_below_the_spacing_of_the_grey_levels(levels: int) -> None:
    schedule = ScheduleConfig(log_snr_max=log_snr_end(levels)).build()
    spacing = 2 / (levels - 1)
    assert float(schedule.sigma[1]) == pytest.approx(0.32 * spacing, rel=1e-6)
