"""Run the proofs of the subjects or the proofs named on the command line, plainly."""

import sys

from ddpm.verify.registry import PROOFS, load
from ddpm.verify.runner import run


def main(names: list[str]) -> int:
    """Run the proofs whose name starts with one of `names`, all if there are none."""
    broken = load()
    for module, reason in broken.items():
        print(f"{module} cannot be imported: {reason}")
    failed = 0
    for proof in PROOFS.values():
        if not names or any(proof.name == n or proof.name.startswith(f"{n}.") for n in names):
            result = run(proof)
            failed += bool(result.failure)
            verdict = "FAILED" if result.failure else "refuted" if result.refutes else "proven"
            print(
                f"{verdict} {result.name}: {result.examples} examples, error {result.error:.2g} "
                f"of {result.tolerance:.2g}, {result.seconds:.2f} s"
            )
            if result.failure:
                print(result.failure)
    return int(bool(failed or broken))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
