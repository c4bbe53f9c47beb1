"""Where the processes of Ray Tune begin: there, not in the driver that names these functions, torch is imported."""

from __future__ import annotations

from collections.abc import Sequence

from service.kinds.study.orders import PackOrder, TrialOrder


def train_pack(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Train the trials in `share` that have not ended yet, side by side in this process."""
    from service.kinds.study import ray_pack

    ray_pack.train_pack(told, share)


def train_group(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Train the trial in `share` with a Ray Train group of `workers_per_trial`."""
    from service.kinds.study import ray_group

    ray_group.train_group(told, share)
