"""The only arrows allowed between the layers, and what importing must not bring along."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD = set(sys.stdlib_module_names)

# What a file of each layer may import besides the standard library.
REFERENCE = {"numpy", "scipy", "ddpm.reference"}
KERNELS = {"torch", "ddpm.kernels"}
TRITON = KERNELS | {"triton"}
NUMBA = KERNELS | {"numba", "llvmlite"}
PRODUCTION = {
    "torch", "numpy", "safetensors", "pydantic", "sklearn", "PIL", "matplotlib", "rich", "typer",
    "jinja2", "markupsafe", "torchmetrics", "torch_fidelity", "torchvision", "datasets", "wandb",
    "trackio", "torchdiffeq", "torchsde", "ddpm",
}  # fmt: skip

# What proves the reference meets all layers; only its commands, and nothing else, import it.
VERIFY = PRODUCTION | {
    "scipy", "mpmath", "hypothesis", "latex2mathml", "jinja2", "markupsafe", "pygments", "tomli",
}  # fmt: skip
VERIFY_COMMANDS = {f"ddpm/commands/{name}.py" for name in ("verify", "figures", "accuracy")}

# What is timed beside us: the reference and the peers. Only its command imports it.
BENCH = PRODUCTION | {"diffusers", "denoising_diffusion_pytorch", "torchvision"}
BENCH_COMMANDS = {
    "ddpm/commands/bench.py", "ddpm/commands/bench_training.py", "ddpm/cli/proofs.py",
}  # fmt: skip


def allowed_for(path: Path) -> set[str]:
    if path.is_relative_to("ddpm/verify"):
        return VERIFY
    if path.is_relative_to("ddpm/bench"):
        return BENCH
    if path.parts[0] == "reference":
        return REFERENCE
    if path.parts[0] == "kernels":
        return {"gpu": TRITON, "cpu": NUMBA}.get(path.parts[1], KERNELS)
    return PRODUCTION


def sources() -> list[Path]:
    folders = ("reference", "kernels", "ddpm")
    found = [p.relative_to(ROOT) for folder in folders for p in (ROOT / folder).rglob("*.py")]
    linked = ("ddpm/kernels/", "ddpm/reference/")
    return [p for p in found if not p.as_posix().startswith(linked)]


def imports(source: str, path: Path) -> Iterator[tuple[str, bool]]:
    """Modules that a file imports, each with whether that happens when the file is imported."""
    tree = ast.parse(source)
    delayed = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.If))
        for inner in ast.walk(node)
    }
    package = list(path.parts[:-1]) if path.parts[0] == "ddpm" else ["ddpm", *path.parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node not in delayed
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}", node not in delayed


def forbidden(source: str, path: Path) -> list[str]:
    """Imports of a file that its layer does not allow."""
    allowed = allowed_for(path)
    wrong = []
    for module, immediate in imports(source, path):
        root = module.split(".")[0]
        inside = any(module == name or module.startswith(f"{name}.") for name in allowed)
        # A launcher, and with it triton, is imported by the CUDA implementation when it is called;
        # what numba compiles, and with it numba, by the first draw.
        early = immediate and any(
            f"kernels.{compiled}" in module and compiled not in path.parts
            for compiled in ("gpu", "cpu")
        )
        proving = path.is_relative_to("ddpm/verify")
        timing = path.is_relative_to("ddpm/bench")
        outside = path.parts[0] == "ddpm" and not (proving or timing)
        oracle = outside and module.startswith("ddpm.reference")
        prover = module.startswith("ddpm.verify") and not proving
        timer = module.startswith("ddpm.bench") and not timing
        name = path.as_posix()
        unproven, untimed = name not in VERIFY_COMMANDS, name not in BENCH_COMMANDS
        stray = oracle or (prover and unproven) or (timer and untimed)
        if (root not in STANDARD and not inside) or early or stray:
            wrong.append(module)
    return wrong


def test_there_are_sources_of_every_layer() -> None:
    assert {p.parts[0] for p in sources()} == {"reference", "kernels", "ddpm"}


@pytest.mark.parametrize("path", sources(), ids=str)
def test_imports_only_what_its_layer_allows(path: Path) -> None:
    assert forbidden((ROOT / path).read_text(), path) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("reference/forward.py", "import torch"),
        ("reference/forward.py", "from ddpm.schedule import Schedule"),
        ("reference/forward.py", "from ddpm.kernels.philox import words"),
        ("kernels/q_sample.py", "import triton"),
        ("kernels/q_sample.py", "from ddpm.kernels.gpu import q_sample"),
        ("kernels/q_sample.py", "from .gpu import q_sample"),
        ("kernels/gpu/q_sample.py", "from ddpm.diffusion import GaussianDiffusion"),
        ("kernels/gpu/q_sample.py", "import numpy"),
        ("kernels/philox.py", "from ddpm.reference.philox import words"),
        ("kernels/philox.py", "import numba"),
        ("kernels/philox.py", "from ddpm.kernels.cpu import philox"),
        ("kernels/gpu/philox.py", "import numba"),
        ("kernels/cpu/philox.py", "import triton"),
        ("ddpm/schedule.py", "from ddpm.reference import schedules"),
        ("ddpm/schedule.py", "import triton.language as tl"),
        ("ddpm/schedule.py", "from ddpm.kernels.gpu.q_sample import launch"),
        ("ddpm/schedule.py", "import pandas"),
        ("ddpm/schedule.py", "from ddpm.verify.oracles import condition"),
        ("ddpm/schedule.py", "import mpmath"),
        ("ddpm/commands/verify.py", "from ddpm.reference import schedules"),
        ("ddpm/verify/runner.py", "import triton"),
        ("ddpm/verify/runner.py", "from ddpm.bench import timed"),
        ("ddpm/schedule.py", "from ddpm.bench.cards import CARDS"),
        ("ddpm/schedule.py", "import diffusers"),
        ("ddpm/bench/timed.py", "from ddpm.verify.oracles import condition"),
        ("ddpm/bench/timed.py", "import triton"),
        ("reference/forward.py", "from ddpm.verify.oracles import condition"),
    ],
)
def test_a_forbidden_import_is_noticed(path: str, line: str) -> None:
    source = (ROOT / path).read_text()
    assert forbidden(f"{source}\n{line}\n", Path(path)) != []


def python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )


BLOCK_TRITON = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "triton" or name.startswith("triton."):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


def test_import_works_without_triton() -> None:
    code = BLOCK_TRITON + (
        "import ddpm, torch\n"
        "d = ddpm.GaussianDiffusion(ddpm.Schedule.log_snr_linear(10))\n"
        "key = ddpm.Key.of(0, range(2))\n"
        "x = d.q_sample(torch.zeros(2, 1, 8, 8), torch.tensor([1, 10]), key=key)\n"
        "print(x.shape)\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "[2, 1, 8, 8]" in done.stdout


def test_import_brings_neither_triton_nor_numba() -> None:
    names = "ddpm.diffusion, ddpm.training.trainer, ddpm.commands.train, ddpm.commands.evaluate"
    code = (
        f"import sys, {names}\nprint([m for m in sys.modules if m.startswith(('triton', 'numba'))])"
    )
    # torch itself looks for triton; what counts is that nothing of ours loads its language.
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "triton.language" not in done.stdout
    assert "numba" not in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_needs_neither_torch_nor_triton(arguments: list[str]) -> None:
    code = (
        f"import sys\nsys.argv = ['ddpm', *{arguments!r}]\n"
        "from ddpm.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'triton', 'numpy', 'sklearn'}\n"
        "loaded = {m.split('.')[0] for m in sys.modules} & heavy\n"
        "assert not loaded, loaded\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "ddpm" in done.stdout or "0." in done.stdout


def test_every_public_name_exists() -> None:
    import ddpm

    for name in ddpm.__all__:
        assert getattr(ddpm, name) is not None
    assert set(ddpm.__all__) <= set(dir(ddpm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddpm.nothing


def test_no_module_is_too_long() -> None:
    long = {str(p): n for p in sources() if (n := len((ROOT / p).read_text().splitlines())) > 400}
    assert long == {}
