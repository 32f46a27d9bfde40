"""How many units in the last place every coefficient is off: here, in production, and elsewhere.

The truth has 60 digits and starts from the float64 betas as they are. Errors are counted in units
of the last place of the number nearest to the truth, float64 for the reference, float32 for
production. What other libraries do - a running product of 1 - beta, then 1 - that product, then
differences - is computed here in both precisions and held against the same truth.

A step of DDIM has the mean a x_0 + b x_t, and b^2 (1 - alpha_bar_t) is its radicand
1 - alpha_bar_s - sigma^2; x_0 is k_x x_t + k_out eps.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mpmath as mp
import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from ddpm.reference.chain import Chain
from ddpm.reference.ddim import ddim_step
from ddpm.reference.objectives import bound_weight, simple_weight
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.posterior import posterior_coefficients
from ddpm.reference.schedules import cosine_schedule, linear_log_snr_schedule, linear_schedule
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.levels import trailing
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule

Array = NDArray[np.float64]
Levels = NDArray[np.int64]
Values = dict[str, Array]
"""One value for each pair of levels, by the name of the quantity."""

DIGITS = 60
MOST_LEVELS = 300
STRIDES = 50
ETAS = (0.5, 1.0)


@dataclass(frozen=True)
class AccuracyRow:
    """Largest error of one quantity over every schedule and length, in units of the last place."""

    quantity: str
    reference_ulp: float
    """float64 units; NaN where the reference has no such number."""
    production_ulp: float
    """float32 units; NaN where production has no such table."""
    peers_float32_ulp: float
    peers_float64_ulp: float


@dataclass(frozen=True)
class Pairs:
    """Jumps s -> t: single steps, both ends among them, then those of a subsequence."""

    s: Levels
    t: Levels
    single: NDArray[np.bool_]


def large_then_tiny(steps: int) -> Chain:
    """Nearly all noise in the first half, and steps of 1e-12 after it."""
    half = max(1, steps // 2)
    return Chain([*[-np.expm1(-20 / half)] * half, *[1e-12] * (steps - half)])


SCHEDULES: dict[str, Callable[[int], Chain]] = {
    "linear": linear_schedule,
    "cosine": cosine_schedule,
    "cosine to zero SNR": lambda steps: cosine_schedule(steps, clip=1.0),
    "linear in log-SNR": linear_log_snr_schedule,
    "constant 1e-12": lambda steps: Chain(np.full(steps, 1e-12)),
    "geometric": lambda steps: Chain(np.geomspace(1e-10, 0.02, steps)),
    "random": lambda steps: Chain(10 ** np.random.default_rng(0).uniform(-12, -1.5, steps)),
    "large, then 1e-12": large_then_tiny,
}


NATIVE = "linear in log-SNR"
"""The schedule that production builds from log-SNRs and not from betas."""


def accuracy_rows(
    steps: Sequence[int] = (1, 2, 10, 1000, 100000), schedules: Iterable[str] = tuple(SCHEDULES)
) -> list[AccuracyRow]:
    """Largest errors over schedules and numbers of levels.

    Args:
        steps: numbers T of levels; of long schedules 300 single steps are looked at, the ends among
            them, and a subsequence of 50 jumps.
        schedules: names of `SCHEDULES`.

    Returns:
        One row for each coefficient.
    """
    worst: dict[str, list[float]] = {}
    for name in schedules:
        for total in steps:
            for quantity, errors in _errors(name, total).items():
                worst[quantity] = np.fmax(worst.get(quantity, [np.nan] * 4), errors).tolist()
    return [AccuracyRow(quantity, *errors) for quantity, errors in worst.items()]


def accuracy_table(rows: Sequence[AccuracyRow]) -> Table:
    """The rows as a table for the terminal."""
    table = Table(title="Largest error in units of the last place")
    table.add_column("quantity", no_wrap=True)
    for heading in (
        "reference\nfloat64",
        "production\nfloat32",
        "elsewhere\nfloat32",
        "elsewhere\nfloat64",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        errors = row.reference_ulp, row.production_ulp, row.peers_float32_ulp, row.peers_float64_ulp
        table.add_row(row.quantity, *map(_shown, errors))
    return table


def _shown(error: float) -> str:
    if not np.isfinite(error):
        return "-" if np.isnan(error) else "inf"
    return f"{error:.2f}" if error < 100 else f"{error:.1e}"


def _errors(name: str, steps: int) -> dict[str, list[float]]:
    chain, pairs = SCHEDULES[name](steps), _pairs(steps)
    with mp.workdps(DIGITS):
        truth = own = _truth(_products(chain.betas, pairs), pairs)
        if name == NATIVE:
            schedule = Schedule.log_snr_linear(steps)
            own = _truth(_sigmoids(schedule.log_snr, pairs), pairs)
        else:
            schedule = Schedule.from_betas(chain.betas.tolist())
    reference, production = _reference(chain, pairs), _production(schedule, pairs)
    short, long = (_peers(chain.betas.astype(kind), pairs) for kind in (np.float32, np.float64))
    return {
        quantity: [
            _worst(reference[quantity], want, np.float64),
            _worst(production.get(quantity), own[quantity], np.float32),
            _worst(short[quantity], want, np.float32),
            _worst(long[quantity], want, np.float64),
        ]
        for quantity, want in truth.items()
    }


def _worst(got: Array | None, want: Sequence[mp.mpf], kind: type[np.floating[Any]]) -> float:
    """Largest error in units of the last place; NaN is undefined in `want`, wrong in `got`."""
    if got is None:
        return np.nan
    # What exists for single steps only is shorter; single steps come first.
    want = want[: got.size]
    with mp.workdps(DIGITS), np.errstate(over="ignore", invalid="ignore"):
        near = np.array([float(value) for value in want])
        rest = [
            float(v - mp.mpf(n)) if np.isfinite(n) else 0.0 for v, n in zip(want, near, strict=True)
        ]
        nearest, value = near.astype(kind), got.astype(np.float64)
        unit = np.spacing(np.abs(nearest)).astype(np.float64)
        error = np.abs((value - near) - rest) / unit
    error = np.where(np.isfinite(nearest) & np.isfinite(value), error, np.inf)
    error = np.where(np.isinf(nearest) & (value == nearest), 0.0, error)
    return float(np.max(error[~np.isnan(near)], initial=0.0))


def _pairs(steps: int) -> Pairs:
    chosen = np.unique(np.linspace(1, steps, min(steps, MOST_LEVELS)).round().astype(np.int64))
    path = np.array(trailing(steps, min(steps, STRIDES)))
    s, t = np.concatenate([chosen - 1, path[1:]]), np.concatenate([chosen, path[:-1]])
    return Pairs(s, t, np.arange(s.size) < chosen.size)


def _products(betas: Array, pairs: Pairs) -> dict[int, mp.mpf]:
    """Products of 1 - beta at the levels of the pairs."""
    wanted, product, one = {*pairs.s.tolist(), *pairs.t.tolist()}, mp.mpf(1), mp.mpf(1)
    found = {0: one}
    for t, beta in enumerate(betas.tolist(), start=1):
        product *= one - beta
        if t in wanted:
            found[t] = product
    return found


def _sigmoids(log_snr: torch.Tensor, pairs: Pairs) -> dict[int, mp.mpf]:
    """Signal power at the levels of the pairs, of a table of log-SNRs."""
    values = log_snr.tolist()
    return {t: 1 / (1 + mp.exp(-mp.mpf(values[t]))) for t in {*pairs.s.tolist(), *pairs.t.tolist()}}


def _truth(signal: dict[int, mp.mpf], pairs: Pairs) -> dict[str, list[mp.mpf]]:
    jumps = zip(pairs.s.tolist(), pairs.t.tolist(), pairs.single.tolist(), strict=True)
    columns = [_coefficients(signal[s], signal[t], single) for s, t, single in jumps]
    return {quantity: [column[quantity] for column in columns] for quantity in columns[0]}


def _coefficients(signal_s: mp.mpf, signal_t: mp.mpf, single: bool) -> dict[str, mp.mpf]:
    """Every quantity of one jump, by the papers' formulas with as many digits as they need."""
    noise_s, noise_t, alpha = 1 - signal_s, 1 - signal_t, signal_t / signal_s
    beta, snr = 1 - alpha, signal_t / noise_t
    s2, a = beta * noise_s / noise_t, mp.sqrt(signal_s) * beta / noise_t
    weight = a**2 / (2 * s2) if s2 else mp.nan
    found = {
        "alpha_bar": signal_t,
        "1 - alpha_bar": noise_t,
        "sqrt(alpha_bar)": mp.sqrt(signal_t),
        "sqrt(1 - alpha_bar)": mp.sqrt(noise_t),
        "SNR": snr,
        "log SNR": mp.log(snr) if snr else -mp.inf,
        "SNR drop": signal_s / noise_s - snr if noise_s else mp.inf,
        "posterior a": a,
        "posterior b": mp.sqrt(alpha) * noise_s / noise_t,
        "posterior variance": s2,
        "k_x, eps-prediction": 1 / mp.sqrt(signal_t) if snr else mp.nan,
        "k_out, eps-prediction": -1 / mp.sqrt(snr) if snr else mp.nan,
    }
    for eta in ETAS:
        share = mp.sqrt((noise_s - eta**2 * s2) / noise_t)
        found[f"DDIM sigma, eta {eta}"] = eta * mp.sqrt(s2)
        found[f"DDIM b, eta {eta}"] = share
        found[f"DDIM a, eta {eta}"] = mp.sqrt(signal_s) - mp.sqrt(signal_t) * share
    return found | {
        "bound weight of eps": weight / snr if snr else mp.nan,
        "bound weight of x0": weight,
        "bound weight of v": weight * noise_t,
        "simple weight": alpha * noise_t / beta if single else mp.nan,
    }


def _reference(chain: Chain, pairs: Pairs) -> Values:
    s, t = pairs.s, pairs.t
    one, zero, signal = np.ones(t.size), np.zeros(t.size), chain.betas[t - 1] < 1
    a, b, s2 = posterior_coefficients(chain, s, t)
    found = {
        "alpha_bar": chain.alpha_bar[t],
        "1 - alpha_bar": chain.one_minus_alpha_bar[t],
        "sqrt(alpha_bar)": chain.c[t],
        "sqrt(1 - alpha_bar)": chain.d[t],
        "SNR": chain.snr[t],
        "log SNR": chain.log_snr[t],
        "SNR drop": chain.snr_drop(s, t),
        "posterior a": a,
        "posterior b": b,
        "posterior variance": s2,
        "k_x, eps-prediction": _where(
            signal, lambda i: predict_x0("eps", zero[i], one[i], chain, t[i])
        ),
        "k_out, eps-prediction": _where(
            signal, lambda i: predict_x0("eps", one[i], zero[i], chain, t[i])
        ),
        "bound weight of eps": _where(
            signal & (s > 0), lambda i: bound_weight("eps", chain, s[i], t[i])
        ),
        "bound weight of x0": _where(s > 0, lambda i: bound_weight("x0", chain, s[i], t[i])),
        "bound weight of v": _where(s > 0, lambda i: bound_weight("v", chain, s[i], t[i])),
        "simple weight": _where(pairs.single, lambda i: simple_weight(chain, t[i])),
    }
    for eta in ETAS:
        found[f"DDIM sigma, eta {eta}"] = ddim_step(chain, s, t, zero, zero, one, eta)
        found[f"DDIM b, eta {eta}"] = ddim_step(chain, s, t, one, zero, zero, eta)
        found[f"DDIM a, eta {eta}"] = ddim_step(chain, s, t, zero, one, zero, eta)
    return found


def _where(defined: NDArray[np.bool_], function: Callable[[Levels], Array]) -> Array:
    values = np.full(defined.size, np.nan)
    values[defined] = function(np.flatnonzero(defined))
    return values


def _production(schedule: Schedule, pairs: Pairs) -> Values:
    """Tables in float32, and float64 numbers rounded as they would be stored."""
    s, t = torch.from_numpy(pairs.s), torch.from_numpy(pairs.t)
    single = t[torch.from_numpy(pairs.single)]
    step = _rows(schedule, pairs, partial(ancestral_table, schedule, "eps", variance="posterior"))
    found = {
        "alpha_bar": schedule.alpha_bar[t],
        "1 - alpha_bar": schedule.one_minus_alpha_bar[t],
        "sqrt(alpha_bar)": schedule.signal[t],
        "sqrt(1 - alpha_bar)": schedule.sigma[t],
        "SNR": schedule.snr[t],
        "log SNR": schedule.log_snr[t],
        "SNR drop": schedule.snr_drop[single],
        "posterior a": step[:, 2],
        "posterior b": step[:, 3],
        "posterior variance": schedule.posterior(s, t)[2],
        "k_x, eps-prediction": step[:, 0],
        "k_out, eps-prediction": step[:, 1],
        "bound weight of x0": schedule.snr_drop[single] / 2,
    }
    for eta in ETAS:
        step = _rows(schedule, pairs, partial(ddim_table, schedule, "eps", eta=eta))
        found[f"DDIM sigma, eta {eta}"] = step[:, 5]
        found[f"DDIM b, eta {eta}"] = step[:, 3]
        found[f"DDIM a, eta {eta}"] = step[:, 2]
    return {name: value.float().numpy() for name, value in found.items()}


def _rows(
    schedule: Schedule, pairs: Pairs, table: Callable[[list[int]], StepTable]
) -> torch.Tensor:
    """Rows of a sampler that visits every level, then those of the subsequence."""
    total, chosen = schedule.steps, pairs.t[pairs.single]
    every = table(trailing(total)).coefficients[total - chosen]
    return torch.cat([every, table([*pairs.t[~pairs.single].tolist(), 0]).coefficients])


def _peers(betas: NDArray[np.floating[Any]], pairs: Pairs) -> Values:
    """The usual way: a running product, its complement, and differences, all in one precision."""
    s, t, kind = pairs.s, pairs.t, betas.dtype.type
    with np.errstate(all="ignore"):
        alpha_bar = np.cumprod(np.concatenate([[kind(1)], 1 - betas]), dtype=kind)
        signal_s, signal_t = alpha_bar[s], alpha_bar[t]
        noise_s, noise_t = 1 - signal_s, 1 - signal_t
        beta = np.where(pairs.single, betas[t - 1], 1 - signal_t / signal_s)
        snr, s2 = signal_t / noise_t, beta * noise_s / noise_t
        a, b = np.sqrt(signal_s) * beta / noise_t, np.sqrt(1 - beta) * noise_s / noise_t
        drop = signal_s / noise_s - snr
        found = {
            "alpha_bar": signal_t,
            "1 - alpha_bar": noise_t,
            "sqrt(alpha_bar)": np.sqrt(signal_t),
            "sqrt(1 - alpha_bar)": np.sqrt(noise_t),
            "SNR": snr,
            "log SNR": np.log(snr),
            "SNR drop": drop,
            "posterior a": a,
            "posterior b": b,
            "posterior variance": s2,
            "k_x, eps-prediction": np.sqrt(1 / signal_t),
            "k_out, eps-prediction": -np.sqrt(1 / signal_t - 1),
            "bound weight of eps": beta**2 / (2 * s2 * (1 - beta) * noise_t),
            "bound weight of x0": drop / 2,
            "bound weight of v": drop / 2 * noise_t,
            "simple weight": (1 - beta) * noise_t / beta,
        }
        for eta in map(kind, ETAS):
            sigma = eta * np.sqrt(noise_s / noise_t) * np.sqrt(1 - signal_t / signal_s)
            share = np.sqrt(noise_s - sigma**2) / np.sqrt(noise_t)
            found[f"DDIM sigma, eta {eta}"] = sigma
            found[f"DDIM b, eta {eta}"] = share
            found[f"DDIM a, eta {eta}"] = np.sqrt(signal_s) - np.sqrt(signal_t) * share
    return found
