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


class TrainingError(Exception):
    pass


class Fenced(TrainingError):  # noqa: N818 - says what is the case
    pass


class NonFiniteLoss(TrainingError):  # noqa: N818 - says what is the case
    """`step`: the first step (counted from 1) whose value was not finite; `term`: which one."""

    def __init__(self, step: int, term: str, value: float) -> None:
        super().__init__(
            f"{term} is {value} at step {step}. The last checkpoint was written before that and is kept. "
            "A smaller optimizer.lr, a longer schedule.warmup_epochs or an optimizer.clip_norm usually mend this."
        )
        self.step = step
        self.term = term
        self.value = value

    def __reduce__(self) -> tuple[type[NonFiniteLoss], tuple[int, str, float]]:
        """Errors cross process borders; the default would call `__init__` with the message alone."""
        return (type(self), (self.step, self.term, self.value))


class CheckpointError(TrainingError):
    pass


class CorruptCheckpoint(CheckpointError):  # noqa: N818 - says what is the case
    pass


class IncompatibleCheckpoint(CheckpointError):  # noqa: N818 - says what is the case
    pass


class NoRoom(CheckpointError):  # noqa: N818 - says what is the case
    pass
