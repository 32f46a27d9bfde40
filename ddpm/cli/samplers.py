"""`ddpm samplers`: what `ddpm sample --sampler` can be."""

from ddpm.cli.options import app


@app.command(epilog="Example: ddpm sample --run runs/digits --sampler dpm-solver-2m --steps 20")
def samplers() -> None:
    """List the samplers: what each costs, and when to use it."""
    from ddpm.commands.samplers import print_samplers

    print_samplers()
