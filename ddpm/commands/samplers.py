"""`ddpm samplers`: every sampler with what it costs and when to use it."""

from rich.box import HORIZONTALS
from rich.table import Table

from ddpm.commands.terminal import console
from ddpm.samplers.adaptive_catalogue import ADAPTIVE, EXTRA
from ddpm.samplers.catalogue import CATALOGUE, USUAL, USUAL_STEPS

NOTES = (
    f"Without --sampler pictures are drawn by {USUAL}, without --steps in {USUAL_STEPS} of them.",
    "A step goes from one of the --steps levels to the next; guidance doubles the work of a call.",
    "All take --steps with --spacing, or --levels; --label and --guidance where the model has "
    "classes; those of whole steps --ilvr too. Order: the error falls as steps^-order.",
    f"Adaptive ones choose their own steps, and need pip install 'ddpm-proven[{EXTRA}]'.",
    "Discrete models and autoencoders know ancestral alone, which is their usual one; models with "
    "a prior none that is adaptive, and no --ilvr.",
)


def print_samplers() -> None:
    """Print a table of all samplers and what they have in common."""
    table = Table(box=HORIZONTALS, show_lines=True)
    table.add_column("sampler\nits options", no_wrap=True)
    table.add_column("network\ncalls a step", width=12, overflow="fold")
    table.add_column("order\nnoise on the way", width=16, overflow="fold")
    table.add_column("when to use it", overflow="fold")
    for name, entry in CATALOGUE.items():
        options = " ".join(f"--{option}" for option in entry.options)
        noise = "random" if entry.random else "with --eta" if "eta" in entry.options else "none"
        label = f"{name}\n{options}" if options else name
        table.add_row(label, entry.calls, f"{entry.order}\n{noise}", entry.when)
    for name, adaptive in ADAPTIVE.items():
        noise = "random" if adaptive.random else "none"
        table.add_row(name, adaptive.calls, f"{adaptive.order}\n{noise}", adaptive.when)
    console.print(table)
    for note in NOTES:
        console.print(note, markup=False)
