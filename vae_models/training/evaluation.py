"""Rate, distortion and ELBO of a split, over all workers: sums and counts are added up, the division comes last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from vae_models.collectives import all_gather, all_reduce_sum, rank, world_size
from vae_models.config.run import EvaluationConfig
from vae_models.data.batching import Resident
from vae_models.data.masks import Masks
from vae_models.measures import MEASURES, evaluated, of_beta
from vae_models.metrics.sums import Sums
from vae_models.protocols import Model
from vae_models.training.step import NoiseSource


class NotFinite(ValueError):  # noqa: N818 - says what is the case
    """metric: the first that is NaN or infinite; data: the indices of the first batch that makes it so."""

    def __init__(self, metric: str, value: float, data: tuple[int, ...]) -> None:
        super().__init__(f"{metric} is {value}")
        self.metric = metric
        self.value = value
        self.data = data


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Resident,
    config: EvaluationConfig,
    *,
    name: str,
    source: NoiseSource,
    beta: float | None = None,
    masks: Masks | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Return {"<name>/<metric>"} of `measures.EVALUATED` and `config.measures`, means over the split; elbo at beta = 1.

    beta: what a multi-rate model's gates read; the names are then "<name>/beta_<beta>/<metric>". None: 1.
    masks: which elements of the data are no padding (`records.Batch`), and how batches are cut; None: all are data.
    A model whose posterior has no density (an autoencoder) has no rate and no elbo: they are left out.

    Batches go round the workers; their noise is a function of (seed, split, batch), the same at every evaluation and
    for any number of workers. `stop` is called once per round on every worker; None is returned when it says so.
    Raise NotFinite, on every worker, where a mean is NaN or infinite.
    """
    total = min(len(data), config.limit or len(data))
    size = config.batch_size
    starts = list(range(0, total, size))
    bound = cast(Model, model).bound
    asked = tuple(part for part in map(MEASURES.get, config.measures) if bound or not part.bound)
    batches: list[Sums] = []  # this worker's
    own = len(range(rank(), len(starts), world_size()))

    def indices(turn: int) -> torch.Tensor:
        start = starts[turn * world_size() + rank()]
        return torch.arange(start, min(start + size, total), device=data.index_device)

    gates = None if beta is None else torch.tensor(beta, dtype=source.dtype, device=source.device)
    reader = data.reader(indices, end=own)
    was_training = model.training
    model.eval()
    specs = {**data.noise(), **cast(Model, model).noise()}
    try:
        for turn in range(-(-len(starts) // world_size())):
            if turn < own:
                batch = turn * world_size() + rank()
                rows = min(size, total - starts[batch])
                noise = source.draw(specs, rows, stream=name, step=batch)
                x, mask = _masked(reader.batch(turn, noise), masks, indices(turn))
                trace = model(x, noise, gates, mask)
                batches.append(Sums.of(trace, asked))
            if stop():
                return None
    finally:
        reader.close()
        model.train(was_training)
    more = tuple(quantity.name for quantity in asked)
    sums = sum(batches, start=Sums.zero(source.device, more))
    means = Sums.unpacked(all_reduce_sum(sums.packed()), more).means()
    prefix = name if beta is None else f"{name}/{of_beta(beta)}"
    names = evaluated(bound=bound, where=(prefix,), more=more)
    metrics = {metric: means[metric.rpartition("/")[2]] for metric in names}
    for metric, value in metrics.items():
        if not math.isfinite(value):
            first = _first_batch(batches, len(starts), source.device) * size
            raise NotFinite(metric, value, tuple(range(first, min(first + size, total))))
    return metrics


def _masked(x: torch.Tensor, masks: Masks | None, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return x of the data `indices`, as long as the longest of them where batches are cut, and its mask."""
    return (x, None) if masks is None else (masks.cut(x, indices), masks.of(indices))


def _first_batch(batches: Sequence[Sums], total: int, device: torch.device) -> int:
    """Return the number of the first batch, of all workers', with a sum that is not finite; every worker calls it.

    It is 0 where each batch's sums are finite and only their total is not.
    """
    own = [rank() + world_size() * place for place, sums in enumerate(batches) if not sums.packed().isfinite().all()]
    where = torch.tensor(min(own, default=total), device=device)
    first = int(all_gather(where).min())
    return first if first < total else 0
