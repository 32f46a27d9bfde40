"""Where the numbers of a run go: one JSON line each, and TensorBoard."""

from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from ddpm.run_folder import RunFolder
from ddpm.trainer import Record


class Metrics:
    """Writer of metrics.jsonl and TensorBoard events.

    Args:
        folder: The run.
        step: Updates done before; TensorBoard forgets what an interrupted run wrote after it.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self.folder = folder
        self.board = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)

    def write(self, record: Record, seconds: float, batch_size: int) -> None:
        """Write one record.

        Args:
            record: The update.
            seconds: Time spent training so far.
            batch_size: Images in an update.
        """
        values = {
            "loss": float(record.loss),
            "gradient_norm": float(record.gradient_norm),
            "learning_rate": record.learning_rate,
            "images_per_second": record.step * batch_size / seconds,
        }
        self.folder.append_metrics({"step": record.step, "seconds": round(seconds, 3), **values})
        for name, value in values.items():
            self.board.add_scalar(name, value, record.step)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.board.close()
