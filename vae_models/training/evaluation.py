"""Rate, distortion and ELBO of a split, over all workers: sums and counts are added up, the division comes last."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from vae_models.collectives import all_reduce_sum, rank, world_size
from vae_models.config import EvaluationConfig
from vae_models.data.batching import Resident
from vae_models.measures import evaluated
from vae_models.metrics.sums import Sums
from vae_models.protocols import Model
from vae_models.training.step import NoiseSource


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Resident,
    config: EvaluationConfig,
    *,
    name: str,
    source: NoiseSource,
    beta: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """{"<name>/<metric>"} for each of `measures.EVALUATED`, means over the split; elbo at beta = 1.

    beta: what a multi-rate model's gates read; the names are then "<name>/beta_<beta>/<metric>". None: 1.
    A model whose posterior has no density (an autoencoder) has no rate and no elbo: they are left out.

    Batches go round the workers; their noise is a function of (seed, split, batch), the same at every evaluation and
    for any number of workers. `stop` is called once per round on every worker; None when it said so.
    """
    total = min(len(data), config.limit or len(data))
    size = config.batch_size
    starts = list(range(0, total, size))
    sums = Sums.zero(source.device)
    was_training = model.training
    model.eval()
    try:
        for first in range(0, len(starts), world_size()):
            if first + rank() < len(starts):
                batch = first + rank()
                indices = torch.arange(starts[batch], min(starts[batch] + size, total), device=source.device)
                sums = sums + _batch_sums(model, data, indices, name=name, batch=batch, source=source, beta=beta)
            if stop():
                return None
    finally:
        model.train(was_training)
    means = Sums.unpacked(all_reduce_sum(sums.packed())).means()
    prefix = name if beta is None else f"{name}/beta_{beta:g}"
    names = evaluated(bound=cast(Model, model).bound, where=(prefix,))
    return {metric: means[metric.rpartition("/")[2]] for metric in names}


def _batch_sums(
    model: nn.Module,
    data: Resident,
    indices: torch.Tensor,
    *,
    name: str,
    batch: int,
    source: NoiseSource,
    beta: float | None,
) -> Sums:
    specs = {**data.noise(), **cast(Model, model).noise()}
    size = indices.shape[0]
    noise = source.draw(specs, size, stream=name, step=batch)
    gates = None if beta is None else torch.tensor(beta, dtype=source.dtype, device=source.device)
    return Sums.of(model(data.batch(indices, noise), noise, gates))
