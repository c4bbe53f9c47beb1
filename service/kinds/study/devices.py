"""Packs and devices: a worker with several GPUs has a pack for each of them, and a pack knows its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.queue.jobs import Resources

if TYPE_CHECKING:
    import torch


def packs(resources: Resources) -> int:
    """Return how many packs train at a time: one for each worker, or for each GPU of a worker that has several."""
    return resources.workers * _of_worker(resources)


def bundle(resources: Resources) -> dict[str, float]:
    """Return what one pack takes, in Ray's resource names (memory in bytes): an even share of its worker's."""
    return {name: amount / _of_worker(resources) for name, amount in resources.bundle().items()}


def device(resources: Resources, given: Sequence[int | str]) -> torch.device:
    """Return the device of this process, and have torch use it: the CPU, or the first GPU that Ray gave its actor.

    given: what `ray.get_gpu_ids()` says. Ray shows a process its own GPUs alone, unless operators keep it from that
    (`RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES`): then the device's number is that among all that are shown.
    """
    import torch

    if resources.gpus_per_worker == 0:
        return torch.device("cpu")
    names = [str(each) for each in given[:1]]
    shown = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    number = next((shown.index(name) if shown else int(name) for name in names if name in shown or not shown), 0)
    chosen = torch.device("cuda", number)
    torch.cuda.set_device(chosen)
    return chosen


def _of_worker(resources: Resources) -> int:
    return max(1, int(resources.gpus_per_worker))
