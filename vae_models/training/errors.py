"""What can stop a run. A message says what was wrong, where, and how to mend it.

TrainingError
├── Fenced                   this attempt has been superseded: stop at once, write nothing more
├── NonFiniteLoss            a number of training or of an evaluation, or of the state, is NaN or infinite
└── CheckpointError          a checkpoint cannot be written or used
    ├── CorruptCheckpoint    its bytes are not those that its manifest promises
    ├── IncompatibleCheckpoint  it is whole, but of another format or of another run
    └── NoRoom               the disk is full; the checkpoint before is untouched
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

SHOWN = 8  # indices of a batch in a message


class TrainingError(Exception):
    pass


class Fenced(TrainingError):  # noqa: N818 - says what is the case
    pass


class NonFiniteLoss(TrainingError):  # noqa: N818 - says what is the case
    """step: the first (counted from 1) whose value was not finite, as far as that is known: losses are looked at when
    they are logged, the state when it is saved. term: which number; split: which data it is of; data: their indices
    in that split, the global batch's; unfit: of those, the ones that are not finite themselves; kept: the step of the
    last checkpoint, None where there is none."""

    def __init__(
        self,
        step: int,
        term: str,
        value: float,
        data: tuple[int, ...] = (),
        *,
        split: str = "training",
        unfit: tuple[int, ...] = (),
        kept: int | None = None,
    ) -> None:
        super().__init__(
            f"{term} is {value} at step {step}{_batch(data, split)}. {_checkpoint(kept)} {_mend(unfit, split)}"
        )
        self.step = step
        self.term = term
        self.value = value
        self.data = data
        self.split = split
        self.unfit = unfit
        self.kept = kept

    def __reduce__(self) -> tuple[Callable[..., NonFiniteLoss], tuple[int, str, float, tuple[int, ...]]]:
        """Return how to pickle the error across process borders:
        the default would call `__init__` with the message alone.
        """
        made = partial(type(self), split=self.split, unfit=self.unfit, kept=self.kept)
        return (made, (self.step, self.term, self.value, self.data))


def _shown(data: tuple[int, ...]) -> str:
    return ", ".join(str(index) for index in data[:SHOWN]) + (", ..." if len(data) > SHOWN else "")


def _batch(data: tuple[int, ...], split: str) -> str:
    return f", whose batch of {len(data)} has the {split} data {_shown(data)}" if data else ""


def _checkpoint(kept: int | None) -> str:
    if kept is None:
        return "No checkpoint was written before that: there is nothing to go on from."
    return f"The last checkpoint, of step {kept}, was written before that and is kept."


def _mend(unfit: tuple[int, ...], split: str) -> str:
    if unfit:
        return f"The {split} data {_shown(unfit)} are not finite themselves: take them out, or mend them."
    return "A smaller optimizer.lr, a longer schedule.warmup_epochs or an optimizer.clip_norm usually mend this."


class CheckpointError(TrainingError):
    pass


class CorruptCheckpoint(CheckpointError):  # noqa: N818 - says what is the case
    pass


class IncompatibleCheckpoint(CheckpointError):  # noqa: N818 - says what is the case
    pass


class NoRoom(CheckpointError):  # noqa: N818 - says what is the case
    pass
