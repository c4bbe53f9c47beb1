"""How much is computed at a time: two small passes are measured, and the rest is proportion."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from vae_models.collectives import broadcast_integers
from vae_models.nn.meter import Meter
from vae_models.protocols import LatentSpace

if TYPE_CHECKING:
    from vae_models.evaluation.subject import Subject

MIB = 2**20
SEEN = 1 / 3  # of the budget, for tensors: convolutions reorder what they read and write, and nobody sees those copies


def data_within(subject: Subject, copies: int) -> int:
    """Return how many data are computed at a time: at most the plan's batch, and as many as its memory has room for
    where each takes `copies` of the decoder's output, in float64; one at least.
    """
    space = subject.module
    parameters = space.likelihood.parameters_per_element() if isinstance(space, LatentSpace) else 1
    each = math.prod(subject.dataset.shape) * parameters * 8 * copies
    return max(1, min(subject.plan.batch_size, subject.plan.memory_mib * MIB // each))


def room(subject: Subject, batch: Callable[[int, int], object]) -> int:
    """Return how many rows are computed at a time, the same on every worker: at most the plan's batch, and what its
    memory has room for, one at least. batch: computes the rows start .. end - 1.
    """
    with torch.no_grad():
        rows = rows_within(subject.plan.memory_mib * MIB, lambda count: batch(0, count))
    (agreed,) = broadcast_integers([max(1, min(subject.plan.batch_size, rows))], subject.device)
    return agreed


def rows_within(budget: int, compute: Callable[[int], object], few: tuple[int, int] = (2, 10)) -> int:
    """Return how many rows `compute(rows)` may have so that what it makes takes at most `budget` bytes, 0 if not one.

    Memory is taken to be a + b x rows, from two passes of a `few` rows.
    """
    peaks: list[int] = []
    for rows in few:
        with Meter() as meter:
            compute(rows)
        peaks.append(meter.peak)
    each = max(1, -(-(peaks[1] - peaks[0]) // (few[1] - few[0])))
    fixed = max(0, peaks[0] - few[0] * each)
    return max(0, int(SEEN * budget - fixed) // each)
