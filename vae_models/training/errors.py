"""What can stop a run. A message says what was wrong, where, and how to mend it.

TrainingError
├── Fenced                   this attempt has been superseded: stop at once, write nothing more
├── NonFiniteLoss            the loss, a term of it or a parameter is NaN or infinite
└── CheckpointError          a checkpoint cannot be written or used
    ├── CorruptCheckpoint    its bytes are not those that its manifest promises
    ├── IncompatibleCheckpoint  it is whole, but of another format or of another run
    └── NoRoom               the disk is full; the checkpoint before is untouched
"""

from __future__ import annotations

SHOWN = 8  # indices of a batch in a message


class TrainingError(Exception):
    pass


class Fenced(TrainingError):  # noqa: N818 - says what is the case
    pass


class NonFiniteLoss(TrainingError):  # noqa: N818 - says what is the case
    """`step`: the first step (counted from 1) whose value was not finite; `term`: which one; `data`: the indices in
    the training split of that step's global batch, where they are known."""

    def __init__(self, step: int, term: str, value: float, data: tuple[int, ...] = ()) -> None:
        super().__init__(
            f"{term} is {value} at step {step}{_batch(data)}. The last checkpoint was written before that and is kept. "
            "A smaller optimizer.lr, a longer schedule.warmup_epochs or an optimizer.clip_norm usually mend this."
        )
        self.step = step
        self.term = term
        self.value = value
        self.data = data

    def __reduce__(self) -> tuple[type[NonFiniteLoss], tuple[int, str, float, tuple[int, ...]]]:
        """Errors cross process borders; the default would call `__init__` with the message alone."""
        return (type(self), (self.step, self.term, self.value, self.data))


def _batch(data: tuple[int, ...]) -> str:
    shown = ", ".join(str(index) for index in data[:SHOWN]) + (", ..." if len(data) > SHOWN else "")
    return f", whose batch of {len(data)} has the training data {shown}" if data else ""


class CheckpointError(TrainingError):
    pass


class CorruptCheckpoint(CheckpointError):  # noqa: N818 - says what is the case
    pass


class IncompatibleCheckpoint(CheckpointError):  # noqa: N818 - says what is the case
    pass


class NoRoom(CheckpointError):  # noqa: N818 - says what is the case
    pass
