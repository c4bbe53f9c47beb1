"""Rate, distortion and ELBO of a split, over all workers: sums and counts are added up, the division comes last."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from vae_models.records import NoiseSpec
from vae_models.topologies.over_betas import OverBetas
from vae_models.training.step import NoiseSource


class NotFinite(ValueError):  # noqa: N818 - says what is the case
    """metric: the first that is NaN or infinite; data: the indices of the first batch that makes it so."""

    def __init__(self, metric: str, value: float, data: tuple[int, ...]) -> None:
        super().__init__(f"{metric} is {value}")
        self.metric = metric
        self.value = value
        self.data = data


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is evaluated: a model, by the noise of `source`, at beta = 1 and, a multi-rate one, at `betas` too."""

    model: nn.Module
    source: NoiseSource
    betas: Sequence[float] = ()
    measures: Sequence[str] = ()


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
    subject = Subject(model=model, source=source, betas=betas, measures=config.measures)
    made = evaluate_together(
        [subject], data, name=name, size=config.batch_size, limit=config.limit, masks=masks, stop=stop
    )
    if made is None:
        return None
    (metrics,) = made
    if isinstance(metrics, NotFinite):
        raise metrics
    return metrics


@torch.no_grad()
def evaluate_together(
    subjects: Sequence[Subject],
    data: Resident,
    *,
    name: str,
    size: int,
    limit: int | None = None,
    masks: Masks | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, float] | NotFinite] | None:
    """Return what `evaluate` returns of each subject, or raises of it, to the bit, in one pass over the split.

    A batch is read once, and noise drawn once, for all subjects of one seed. size: data in a batch; limit: at most so
    many data. None where `stop` says so.
    """
    total = min(len(data), limit or len(data))
    starts = list(range(0, total, size))
    own = len(range(rank(), len(starts), world_size()))

    def indices(turn: int) -> torch.Tensor:
        start = starts[turn * world_size() + rank()]
        return torch.arange(start, min(start + size, total), device=data.index_device)

    reader = data.reader(indices, end=own)
    were_training = [subject.model.training for subject in subjects]
    for subject in subjects:
        subject.model.eval()
    evaluations = [_Evaluation(subject, size) for subject in subjects]
    try:
        for turn in range(-(-len(starts) // world_size())):
            if turn < own:
                batch = turn * world_size() + rank()
                draws = _Draws(min(size, total - starts[batch]), name, batch)
                given: dict[NoiseSource | None, tuple[torch.Tensor, torch.Tensor | None]] = {}
                for evaluation in evaluations:
                    source = evaluation.source
                    noise = draws(source, {**data.noise(), **evaluation.noise})
                    drawn_for = source if data.noise() else None  # x is drawn, too
                    if drawn_for not in given:
                        given[drawn_for] = _masked(reader.batch(turn, noise), masks, indices(turn))
                    evaluation.add(*given[drawn_for], noise)
            if stop():
                return None
    finally:
        reader.close()
        for subject, was_training in zip(subjects, were_training, strict=True):
            subject.model.train(was_training)
    return [evaluation.metrics(name, len(starts), size, total) for evaluation in evaluations]


class _Draws:
    """The noise of one batch, each name of a seed drawn once."""

    def __init__(self, rows: int, stream: str, batch: int) -> None:
        self._rows, self._stream, self._batch = rows, stream, batch
        self._drawn: dict[tuple[NoiseSource, str, NoiseSpec], torch.Tensor] = {}

    def __call__(self, source: NoiseSource, specs: Mapping[str, NoiseSpec]) -> dict[str, torch.Tensor]:
        for name, spec in specs.items():
            if (source, name, spec) not in self._drawn:
                drawn = source.draw({name: spec}, self._rows, stream=self._stream, step=self._batch)
                self._drawn[source, name, spec] = drawn[name]
        return {name: self._drawn[source, name, spec] for name, spec in specs.items()}


class _Evaluation:
    """The sums of one subject, batch by batch."""

    def __init__(self, subject: Subject, rows: int) -> None:
        """Take a subject in evaluation. rows: see `OverBetas`."""
        self.source = subject.source
        self.noise = cast(Model, subject.model).noise()
        self._model, self._betas = subject.model, tuple(subject.betas)
        self._bound = cast(Model, subject.model).bound
        self._asked = tuple(part for part in map(MEASURES.get, subject.measures) if self._bound or not part.bound)
        self._others = tuple(beta for beta in dict.fromkeys(subject.betas) if beta != 1)
        self._batches: dict[float, list[Sums]] = {beta: [] for beta in (1.0, *self._others)}  # this worker's
        gates = torch.tensor(self._others, dtype=self.source.dtype, device=self.source.device)
        self._at_others = OverBetas(subject.model, gates, rows=rows) if self._others else None

    def add(self, x: torch.Tensor, mask: torch.Tensor | None, noise: Mapping[str, torch.Tensor]) -> None:
        """Add a batch; noise: its own, and that of the data."""
        self._batches[1.0].append(Sums.of(self._model(x, noise, None, mask), self._asked))
        if self._at_others is not None:
            own = {key: noise[key] for key in self.noise}
            of_betas = self._at_others(lambda trace: values(trace, self._asked), x, own, mask)
            for place, beta in enumerate(self._others):
                at_beta = {key: each[place] for key, each in of_betas.items()}
                self._batches[beta].append(Sums.of_values(at_beta))

    def metrics(self, name: str, count: int, size: int, total: int) -> dict[str, float] | NotFinite:
        """Return the means by name, or the first that is not finite; every worker calls it.

        count, size: of the split's batches; total: of its data.
        """
        device = self.source.device
        means = {beta: _means(sums, self._asked, device) for beta, sums in self._batches.items()}
        more = tuple(quantity.name for quantity in self._asked)
        metrics: dict[str, float] = {}
        for prefix, beta in ((name, 1.0), *((f"{name}/{of_beta(beta)}", beta) for beta in self._betas)):
            for metric in evaluated(bound=self._bound, where=(prefix,), more=more):
                metrics[metric] = value = means[beta][metric.rpartition("/")[2]]
                if not math.isfinite(value):
                    first = _first_batch(self._batches[beta], count, device) * size
                    return NotFinite(metric, value, tuple(range(first, min(first + size, total))))
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
