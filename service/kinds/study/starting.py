"""Where the processes of Ray Tune begin: there, not in the driver that names these functions, torch is imported."""

from __future__ import annotations

from collections.abc import Sequence

from service.attempt import preload
from service.attempt.stacks import tell_when_asked
from service.collector import collect_rarely
from service.kinds.study.orders import PackOrder, TrialOrder


def train_pack(told: PackOrder, packs: Sequence[int]) -> None:
    """Train in this process what the board hands to the pack of this number."""
    _begin()
    from service.kinds.study import ray_pack

    for pack in packs:
        ray_pack.train_pack(told, pack)


def train_group(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Train the trial in `share` with a gang of `workers_per_trial`."""
    _begin()
    from service.kinds.study import ray_group

    ray_group.train_group(told, share)


def _begin() -> None:
    """Do first what every process of a job does first. Raises UnavailableError where a new process is needed."""
    preload.check_current()
    collect_rarely()
    tell_when_asked()
