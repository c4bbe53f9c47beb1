"""Where the processes of Ray Tune begin: there, not in the driver that names these functions, torch is imported."""

from __future__ import annotations

from collections.abc import Sequence

from service.launch.study_orders import PackOrder, TrialOrder


def train_pack(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Trains the trials in `share` that have not ended yet, side by side in this process."""
    from service.launch import study_worker

    study_worker.train_pack(told, share)


def train_group(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Trains the trial in `share` with a Ray Train group of `workers_per_trial`."""
    from service.launch import study_group

    study_group.train_group(told, share)
