"""Optional dependencies: what an installation without an extra lacks, said in one line."""

from importlib.util import find_spec

from ddpm.errors import InputError


def require_extra(command: str, extra: str, *modules: str) -> None:
    """Refuse a command whose optional dependencies are not installed.

    Args:
        command: what the user asked for.
        extra: name of the extra that brings the modules.
        modules: modules that the command imports.

    Raises:
        InputError: a module is not installed; the message says how to install it.
    """
    absent = [module for module in modules if find_spec(module) is None]
    if absent:
        raise InputError(
            f"{command} needs {', '.join(absent)}: install it with pip install "
            f"'ddpm-proven[{extra}]'"
        )
