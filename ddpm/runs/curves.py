"""TensorBoard's writer, whose failures are one line like any other."""

import threading
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ddpm.files import writing


class Curves(SummaryWriter):
    """TensorBoard's writer of a run.

    It writes in a thread of its own. What fails there is raised here by the next call, so the
    thread need not print it too.

    Args:
        folder: Where to.
        first: The first update that is going to be written; later ones that lie there are void.

    Raises:
        InputError: the folder cannot be written to, as in every method.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self.folder = folder
        self.hook = threading.excepthook
        with writing(folder):
            super().__init__(str(folder), purge_step=first)
        threading.excepthook = self._note

    def add_scalar(self, *arguments: Any, **options: Any) -> None:
        """Add a point to a curve."""
        with writing(self.folder):
            super().add_scalar(*arguments, **options)

    def add_image(self, *arguments: Any, **options: Any) -> None:
        """Add a picture."""
        with writing(self.folder):
            super().add_image(*arguments, **options)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        try:
            with writing(self.folder):
                super().close()
        finally:
            threading.excepthook = self.hook

    def _note(self, failure: threading.ExceptHookArgs) -> None:
        own = failure.thread is not None and type(failure.thread).__module__.startswith("tensorb")
        if not (own and isinstance(failure.exc_value, OSError)):
            self.hook(failure)
