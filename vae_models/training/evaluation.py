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
from vae_models.measures import MEASURES, Quantity, evaluated, of_beta
from vae_models.metrics.sums import Sums, values
from vae_models.protocols import Model
from vae_models.topologies.over_betas import OverBetas
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
    betas: Sequence[float] = (),
    masks: Masks | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Return {"<name>/<metric>"} of `measures.EVALUATED` and `config.measures`, means over the split; elbo at beta = 1.

    betas: what a multi-rate model's gates read beside 1, in one pass; the names are "<name>/beta_<beta>/<metric>" then.
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
    own = len(range(rank(), len(starts), world_size()))

    def indices(turn: int) -> torch.Tensor:
        start = starts[turn * world_size() + rank()]
        return torch.arange(start, min(start + size, total), device=data.index_device)

    others = tuple(beta for beta in dict.fromkeys(betas) if beta != 1)
    batches: dict[float, list[Sums]] = {beta: [] for beta in (1.0, *others)}  # this worker's
    gates = torch.tensor(others, dtype=source.dtype, device=source.device)
    at_others = OverBetas(model, gates, rows=size) if others else None
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
                batches[1.0].append(Sums.of(model(x, noise, None, mask), asked))
                if at_others is not None:
                    own_noise = {key: noise[key] for key in cast(Model, model).noise()}
                    of_betas = at_others(lambda trace: values(trace, asked), x, own_noise, mask)
                    for place, beta in enumerate(others):
                        batches[beta].append(Sums.of_values({key: each[place] for key, each in of_betas.items()}))
            if stop():
                return None
    finally:
        reader.close()
        model.train(was_training)
    means = {beta: _means(sums, asked, source.device) for beta, sums in batches.items()}
    metrics: dict[str, float] = {}
    for prefix, beta in ((name, 1.0), *((f"{name}/{of_beta(beta)}", beta) for beta in betas)):
        for metric in evaluated(bound=bound, where=(prefix,), more=tuple(quantity.name for quantity in asked)):
            metrics[metric] = value = means[beta][metric.rpartition("/")[2]]
            if not math.isfinite(value):
                first = _first_batch(batches[beta], len(starts), source.device) * size
                raise NotFinite(metric, value, tuple(range(first, min(first + size, total))))
    return metrics


def _means(batches: Sequence[Sums], asked: Sequence[Quantity], device: torch.device) -> dict[str, float]:
    """Return the means over the data of all workers' batches; every worker calls it."""
    more = tuple(quantity.name for quantity in asked)
    sums = sum(batches, start=Sums.zero(device, more))
    return Sums.unpacked(all_reduce_sum(sums.packed()), more).means()


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
