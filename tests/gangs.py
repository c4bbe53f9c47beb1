"""Real processes on this machine that meet in a gloo group: worker i of n, without a cluster."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp


def run(work: Callable[..., None], arguments: tuple[Any, ...], workers: int) -> None:
    """work(rank, *arguments) in so many processes, forked from one that has the slow imports behind it."""
    multiprocessing.set_forkserver_preload(["vae_models.training.loop"])
    mp.start_processes(work, arguments, workers, start_method="forkserver")
