"""The generator that numba compiles: torch's bits, whatever numba may keep on disk."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddpm.kernels import philox
from ddpm.kernels.compiled import available
from ddpm.kernels.philox import normals, words
from tests.kernels.test_philox import SEEDS

compiled = pytest.importorskip("ddpm.kernels.cpu.philox")
compiling = pytest.importorskip("ddpm.kernels.cpu.compiling")
ROOT = Path(__file__).parents[2]


def by_torch(draw: Callable[..., Tensor], *arguments: Any) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(philox, "_compiled", lambda: None)
        return draw(*arguments)


def assert_same_bits(got: Tensor, want: Tensor) -> None:
    """Compare zeros with their signs too."""
    assert torch.equal(got, want)
    if want.dtype == torch.float32:
        assert torch.equal(got.view(torch.int32), want.view(torch.int32))


def test_it_is_what_draws() -> None:
    assert philox._compiled() is compiled


@given(
    SEEDS,
    st.lists(
        st.tuples(st.integers(0, 2**56 - 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=5
    ),
    st.integers(0, 255),
    st.integers(0, 300),
    st.booleans(),
)
def test_torch_bit_for_bit(
    seed: int, places: list[tuple[int, int]], stream: int, size: int, many_steps: bool
) -> None:
    samples, steps = (torch.tensor(column) for column in zip(*places, strict=True))
    place = (torch.tensor(seed), steps if many_steps else steps[0], samples, stream, size)
    for draw in (words, normals):
        assert_same_bits(draw(*place), by_torch(draw, *place))


def test_torch_bit_for_bit_on_a_million_words() -> None:
    place = (torch.tensor(-3), torch.tensor(4), torch.arange(8), 5, 2**17)
    for draw in (words, normals):
        assert_same_bits(draw(*place), by_torch(draw, *place))


@pytest.mark.parametrize(
    ("sample", "element", "word"), [(58, 524_730, 0xFFFFFF83), (13, 171_704, 3)]
)
def test_torch_bit_for_bit_at_a_rare_word(sample: int, element: int, word: int) -> None:
    # The first rounds to a radius of zero, whose sign is the angle's; the second is 6.6 away.
    place = (torch.tensor(1), torch.tensor(2), torch.tensor([sample]), 3, element + 2)
    assert words(*place)[0, element] == word
    assert_same_bits(normals(*place), by_torch(normals, *place))


def test_many_threads_may_draw_at_once() -> None:
    def draw(sample: int) -> Tensor:
        return normals(torch.tensor(1), torch.tensor(2), torch.tensor([sample]), 3, 10_000)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(40)))
    for sample, drawn in enumerate(together):
        assert torch.equal(drawn, draw(sample))


def test_a_traced_draw_is_torch_and_the_same() -> None:
    place = (torch.tensor(1), torch.tensor(2), torch.arange(3))
    traced = torch.compile(words, backend="eager")
    assert torch.equal(traced(*place, 4, 10), words(*place, 4, 10))


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the installation nor a folder of the user can be written."""
    from numba.core import caching

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])


@pytest.mark.usefixtures("uncached")
def test_no_folder_for_the_cache() -> None:
    fill: Any = compiled._compiled.__wrapped__(torch.float32)
    out = torch.empty(2, 64)
    assert fill(1, torch.tensor([2]).numpy(), torch.arange(2).numpy(), 3, out.numpy())
    place = (torch.tensor(1), torch.tensor(2), torch.arange(2), 3, 64)
    assert_same_bits(out, by_torch(normals, *place))
    (assembly,) = fill.inspect_asm().values()
    assert "vfmadd" not in assembly
    if platform.machine() == "x86_64":
        # 32-bit products of several counters at a time.
        assert "pmuludq" in assembly


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from numba.core import caching, config

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    fill: Any = compiled._compiled.__wrapped__(torch.int64)
    out = torch.empty(1, 4, dtype=torch.int64)
    assert fill(1, torch.tensor([2]).numpy(), torch.tensor([9]).numpy(), 3, out.numpy())
    place = (torch.tensor(1), torch.tensor(2), torch.tensor([9]), 3, 4)
    assert_same_bits(out, by_torch(words, *place))


def test_other_constants_are_other_files() -> None:
    digest = compiling.digest(10, compiled._INTEGERS, compiled._FITS)
    assert digest == compiling.digest(10, compiled._INTEGERS, compiled._FITS)
    assert digest != compiling.digest(9, compiled._INTEGERS, compiled._FITS)
    assert digest != compiling.digest(10, compiled._INTEGERS, None)


@pytest.mark.parametrize(("step", "sample"), [(-1, 0), (2**32, 0), (0, -1), (0, 2**56)])
def test_nothing_is_written_outside_the_range(step: int, sample: int) -> None:
    steps, samples = torch.tensor([0, step]), torch.tensor([0, sample])
    out = torch.full((2, 4), 7)
    assert not compiled.words(torch.tensor(1), steps, samples, 2, out)
    assert (out == 7).all()


DRAWS = """
import torch
from ddpm.kernels.philox import normals
drawn = normals(torch.tensor(1), torch.tensor(2), torch.arange(3), 4, 5)
print(bool(sys.modules.get("ddpm.kernels.cpu.philox")), drawn.view(torch.int32).tolist())
"""


@pytest.mark.parametrize(
    ("before", "variables", "loaded"),
    [
        ("", {}, True),
        ("sys.modules['numba'] = None", {}, False),
        ("", {"NUMBA_DISABLE_JIT": "1"}, False),
    ],
)
def test_the_same_numbers_with_numba_and_without(
    before: str, variables: dict[str, str], loaded: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{before}\n{DRAWS}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stderr
    want = normals(torch.tensor(1), torch.tensor(2), torch.arange(3), 4, 5)
    assert done.stdout.strip() == f"{loaded} {want.view(torch.int32).tolist()}"


def test_switched_off_by_numba_s_own_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "DISABLED", True)
    assert not available.__wrapped__()
    monkeypatch.setattr("ddpm.kernels.compiled.available", lambda: False)
    assert philox._compiled.__wrapped__() is None
