"""Every name of the catalogue makes the table that it says, and refuses what it does not know."""

import re
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch

from ddpm.errors import InputError
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.catalogue import CATALOGUE, Entry, levels_of, table_of
from ddpm.samplers.corrector import predictor_corrector_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.equations import Equation
from ddpm.samplers.flow_tables import euler_table
from ddpm.samplers.levels import spaced
from ddpm.samplers.multistep import dpm_solver_first_table, dpm_solver_table, heun_table
from ddpm.samplers.sampler import Sampler
from ddpm.samplers.sde import euler_maruyama_table
from ddpm.samplers.stochastic import dpm_solver_sde_table, stochastic_heun_table
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule

SCHEDULE = Schedule.log_snr_linear(30)
LEVELS = spaced(SCHEDULE, "log_snr", 7)
PLACE: tuple[Schedule, Any, list[int]] = (SCHEDULE, "v", LEVELS)
USUAL = Sampler(steps=7, spacing="log_snr")

WANTED = {
    "ancestral": ancestral_table(*PLACE, "posterior"),
    "ddim": ddim_table(*PLACE, 0.0),
    "dpm-solver-1": dpm_solver_first_table(*PLACE),
    "dpm-solver-2m": dpm_solver_table(*PLACE),
    "dpm-solver-sde": dpm_solver_sde_table(*PLACE),
    "euler": euler_table(*PLACE, "ve"),
    "heun": heun_table(*PLACE),
    "euler-maruyama": euler_maruyama_table(*PLACE, "vp"),
    "stochastic-heun": stochastic_heun_table(*PLACE),
    "predictor-corrector": predictor_corrector_table(*PLACE, "vp"),
}
OPTIONS = {"eta": 0.25, "variance": "beta", "sde": "sub-vp"}


def made(sampler: Sampler) -> StepTable:
    return table_of(sampler, SCHEDULE, "v", "posterior")


def refusal(sampler: Sampler) -> str:
    with pytest.raises(InputError) as caught:
        made(sampler)
    return str(caught.value)


def test_all_names_are_here() -> None:
    assert set(CATALOGUE) == set(WANTED)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_table_of_a_name(name: str) -> None:
    got, want = made(replace(USUAL, name=name)), WANTED[name]
    assert torch.equal(got.exact, want.exact)
    assert torch.equal(got.draws, want.draws)
    assert got.path == want.path
    assert got.learned == "none"


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_an_entry_says_of_its_table(name: str) -> None:
    entry, table, steps = CATALOGUE[name], WANTED[name], len(LEVELS) - 1
    assert entry.random == table.noisy
    assert len(table.levels) == {"1": steps, "2, the last step 1": 2 * steps - 1}[entry.calls]
    assert re.fullmatch(r"[12]( in distribution)?", entry.order)
    assert entry.random == entry.order.endswith("in distribution")
    assert entry.when


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", CATALOGUE)
def test_an_option_changes_the_table_or_is_refused(name: str, option: str) -> None:
    chosen = Sampler(name=name, **{option: OPTIONS[option]})  # type: ignore[arg-type]
    if option in CATALOGUE[name].options:
        usual = made(Sampler(name=name)).exact
        assert not torch.equal(made(chosen).exact, usual)
        return
    value = OPTIONS[option]
    takers = ", ".join(each for each, entry in CATALOGUE.items() if option in entry.options)
    wanted = f"{option} = {value!r}: allowed is none with sampler = {name!r}, only with {takers}"
    assert refusal(chosen) == wanted


@pytest.mark.parametrize("name", [n for n, e in CATALOGUE.items() if "sde" in e.options])
def test_equations(name: str) -> None:
    tables = [made(replace(USUAL, name=name, sde=sde)).exact for sde in get_args(Equation)]
    assert sum(torch.equal(table, WANTED[name].exact) for table in tables) == 1
    for wrong in ("magic", ""):
        allowed = f"sde = {wrong!r}: allowed is one of vp, ve, sub-vp"
        assert refusal(Sampler(name=name, sde=wrong)) == allowed


def test_variances() -> None:
    for variance in ("posterior", "beta"):
        want = ancestral_table(*PLACE, variance).exact
        assert torch.equal(made(replace(USUAL, variance=variance)).exact, want)
    learned = table_of(USUAL, SCHEDULE, "v", "learned_range")
    assert learned.learned == "log"
    fixed = table_of(replace(USUAL, variance="beta"), SCHEDULE, "v", "learned_range")
    assert fixed.learned == "none"
    assert "variance = 'optimal': allowed for a model" in refusal(Sampler(variance="optimal"))
    assert "variance = 'learned': allowed for a model" in refusal(Sampler(variance="learned"))
    assert "variance = 'magic': allowed is one of" in refusal(Sampler(variance="magic"))


def test_names_and_numbers_that_are_refused() -> None:
    assert refusal(Sampler(name="magic")) == (
        "sampler = 'magic': allowed is " + ", ".join(CATALOGUE)
    )
    assert refusal(Sampler(name="ddim", eta=1.5)) == "eta = 1.5: allowed is [0, 1]"
    for steps in (0, 31):
        want = f"steps = {steps}: allowed is 1 to T = 30"
        assert refusal(Sampler(name="heun", steps=steps)) == want
    assert "spacing = 'magic': allowed is trailing" in refusal(Sampler(spacing="magic"))
    assert "levels = [3, 5, 0]: allowed is a strictly" in refusal(Sampler(levels=(3, 5, 0)))
    both = refusal(Sampler(levels=(3, 0), steps=1))
    assert both == "steps = 1: allowed with levels of your own is None"


def test_levels_of_a_sampler() -> None:
    assert levels_of(Sampler(), SCHEDULE) == list(range(30, -1, -1))
    assert levels_of(USUAL, SCHEDULE) == LEVELS
    assert levels_of(Sampler(levels=(9, 4, 0)), SCHEDULE) == [9, 4, 0]


@pytest.mark.parametrize("name", CATALOGUE)
def test_zero_terminal_snr(name: str) -> None:
    """Each starts from pure noise, or says that it cannot."""
    silent, times = SCHEDULE.with_zero_terminal_snr(), ("euler-maruyama", "predictor-corrector")
    sampler = Sampler(name=name, steps=5)
    if name in times:
        with pytest.raises(InputError, match="allowed for Euler-Maruyama is a first level with"):
            table_of(sampler, silent, "v", "posterior")
        return
    assert bool(table_of(sampler, silent, "v", "posterior").exact.isfinite().all())


def test_an_entry_has_one_call_and_no_options_unless_it_says_so() -> None:
    entry = Entry(make=lambda *_: WANTED["ddim"], order="1", when="never")
    assert (entry.options, entry.random, entry.calls) == ((), False, "1")
