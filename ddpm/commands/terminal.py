"""What the commands write to a terminal: one console, one form of progress bar."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

console = Console(highlight=False)


def progress(*columns: ProgressColumn, unit: str = "", output: Console = console) -> Progress:
    """A progress bar with what is done, extra columns and the remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}" + unit),
        *columns,
        TimeRemainingColumn(),
        console=output,
    )
