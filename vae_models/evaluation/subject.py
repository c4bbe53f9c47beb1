"""A trained model with its data: what every evaluator is given.

`Subject.map` is the one way over a split: batches go round the workers, and every worker gets every row back, in the
data's order. An evaluator then computes from whole tensors, the same on every worker, and knows nothing of gangs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from vae_models import random
from vae_models.collectives import gather_rows, rank, world_size
from vae_models.config.run import RunConfig
from vae_models.data.records import Dataset
from vae_models.data.residency import Residence
from vae_models.data.spec import LabelSpec
from vae_models.evaluation.findings import Findings
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.protocols import LatentSpace, Model
from vae_models.records import Encoding, NoiseSpec

T = TypeVar("T")


class Inapplicable(ValueError):  # noqa: N818 - says what is the case
    """What was asked cannot be found out about this model or these data: why, and what can be done."""


class Stopped(Exception):  # noqa: N818 - says what is the case
    """The evaluation was asked to stop: what is done is kept."""


@runtime_checkable
class Evaluator(Protocol):
    """One thing to find out: every worker calls it with the same subject, and gets the same findings."""

    def __call__(self, subject: Subject) -> Findings:
        """Return what was found out. Raise Inapplicable where it cannot be."""
        ...


Tick = Callable[[str, int, int], bool]  # (what is done, how much, of how much) -> whether to stop


def _never(what: str, done: int, total: int) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some data of a split, on the subject's device.

    x:       [batch, *data], as the model reads it
    mask:    as `records.Batch` has it
    indices: int64 [batch], where they are in the split
    noise:   by name, [batch, *shape], what was asked for: a function of (seed, stream, datum) alone
    """

    x: Tensor
    mask: Tensor | None
    indices: Tensor
    noise: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)


class Subject:
    """A trained model and its data, on one device; several workers make one together, each with its own copy.

    What several evaluators need (posteriors of a split, samples) is computed once and kept.
    """

    def __init__(
        self,
        model: nn.Module,
        config: RunConfig,
        dataset: Dataset,
        plan: EvaluationPlan | None = None,
        *,
        device: torch.device | None = None,
        tick: Tick = _never,
        history: Mapping[str, Sequence[tuple[int, float]]] | None = None,
        samplers: Path | None = None,
    ) -> None:
        """Take the model into evaluation.

        tick:     is told of progress, on every worker, and says whether to stop
        history:  of the run that trained it, by metric: (step, value), where it is known
        samplers: the first worker's folder of fitted samplers, which are taken from there, and put there
        """
        self.plan = plan or EvaluationPlan()
        self.device = device or torch.device("cpu")
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self.module = model.to(self.device).eval()
        self.config = config
        self.dataset = dataset
        self.history = history or {}
        self._residence = Residence(dataset, config.data, self.device, self.dtype, workers=world_size())
        self._posteriors: dict[tuple[str, float | None], Encoding] = {}
        self._made: dict[str, Any] = {}
        self._tick = tick
        self.samplers = samplers

    @property
    def model(self) -> Model:
        """Return the model as a topology."""
        return cast(Model, self.module)

    @cached_property
    def space(self) -> LatentSpace:
        """Return the model as one of a single latent vector. Raise Inapplicable where it is none."""
        if not isinstance(self.module, LatentSpace):
            raise Inapplicable(
                f"this needs a model of one latent vector, and {self.config.model.kind} has "
                f"{', '.join(self.config.model.latents())}: leave it out"
            )
        return self.module

    def count(self, split: str | None = None) -> int:
        """Return how many data of the split are evaluated. Raise Inapplicable where it is empty."""
        name = split or self.plan.split
        total = len(getattr(self.dataset, name))
        if total == 0:
            raise Inapplicable(f"the {name} split of {self.config.data.name} is empty: name another split")
        return min(total, self.plan.limit or total)

    def labels(self, split: str | None = None) -> tuple[Tensor, LabelSpec]:
        """Return the labels of the split's data, [n] or [n, k], on the CPU. Raise Inapplicable where there are none."""
        labels, spec = getattr(self.dataset, split or self.plan.split).labels, self.dataset.labels
        if labels is None or spec is None:
            raise Inapplicable(f"{self.config.data.name} has no labels: leave out what needs them")
        return labels[: self.count(split)], spec

    def gates(self, beta: float | None) -> Tensor | None:
        """Return beta as a multi-rate model's gates read it."""
        return None if beta is None else torch.tensor(beta, dtype=self.dtype, device=self.device)

    def draw(self, specs: Mapping[str, NoiseSpec], count: int, *, stream: str, first: int = 0) -> dict[str, Tensor]:
        """Return noise of the data, or samples, first .. first + count - 1: [count, *shape] by name.

        Each one's noise depends on the seed, the stream and its own number alone.
        """
        return random.draw_rows(
            specs, count, first=first, seed=self.plan.seed, stream=f"evaluation/{stream}", device=self.device,
            dtype=self.dtype,
        )  # fmt: skip

    def data(self, indices: Tensor, split: str | None = None) -> Tensor:
        """Return x of these data, [n, *data], on the CPU, with the noise that `map` gives them; computed by each worker
        for itself."""
        name = split or self.plan.split
        data = self._residence[name]
        drawn = [self.draw(data.noise(), 1, stream=f"{name}/data", first=int(index)) for index in indices]
        noise = {key: torch.cat([each[key] for each in drawn]) for key in data.noise()}
        return data.batch(indices.to(data.index_device), noise).cpu()

    def map(
        self,
        function: Callable[[Rows], Mapping[str, Tensor]],
        *,
        what: str,
        split: str | None = None,
        noise: Mapping[str, NoiseSpec] | None = None,
        stream: str = "",
        batch_size: int | None = None,
        first: int | None = None,
        trim: bool = False,
    ) -> dict[str, Tensor]:
        """Return what `function` makes of the split's data, [n, ...] by name, on the CPU, in the data's order.

        function:   of a batch -> tensors with a row for each datum; called without gradients
        what:       for progress, in a word or two
        noise:      what `function` needs, per datum; stream: other noise than another stream's
        batch_size: at most the plan's
        first:      of the first so many data alone, where there are as many
        trim:       cut a batch to its longest datum, as training does: for what has no axis "time" in it

        The data themselves (a binarization that is drawn) are the same for every stream. Raise Stopped, on all workers,
        when the tick says so.
        """
        name = split or self.plan.split
        data = self._residence[name]
        masks = self._residence.masks(name, shortest=self.config.shortest if trim else None)

        def batch(start: int, end: int) -> Mapping[str, Tensor]:
            indices = torch.arange(start, end, device=data.index_device)
            x_noise = self.draw(data.noise(), len(indices), stream=f"{name}/data", first=start)
            rows = Rows(
                x=masks.cut(data.batch(indices, x_noise), indices),
                mask=masks.of(indices),
                indices=indices.to(self.device),
                noise=self.draw(noise or {}, len(indices), stream=f"{name}/{stream}", first=start),
            )
            return function(rows)

        size = min(batch_size or self.plan.batch_size, self.plan.batch_size)
        total = self.count(name)
        return self.spread(batch, min(total, first or total), size=size, what=what)

    def spread(
        self, function: Callable[[int, int], Mapping[str, Tensor]], total: int, *, size: int, what: str
    ) -> dict[str, Tensor]:
        """Return the rows 0 .. total - 1, [total, ...] by name, on the CPU, the same on every worker.

        function: of (start, end) -> the tensors of these rows; called without gradients, for batches of `size` that go
        round the workers. what: for progress. Raise Stopped, on all workers, when the tick says so.
        """
        starts = range(0, total, size)
        made: list[Mapping[str, Tensor]] = []
        for turn in range(-(-len(starts) // world_size())):
            place, own = turn * world_size() + rank(), dict[str, Tensor]()
            if place < len(starts):
                with torch.no_grad():
                    batch = function(starts[place], min(starts[place] + size, total))
                own = {name: value.detach() for name, value in batch.items()}
            made.append(self._gathered(own, whole=(turn + 1) * world_size() <= len(starts)))
            self.tell(what, min(total, (turn + 1) * world_size() * size), total)
        return {name: torch.cat([rows[name] for rows in made]) for name in made[0]}

    def _gathered(self, own: dict[str, Tensor], *, whole: bool) -> dict[str, Tensor]:
        """Return all workers' rows of one turn, on the CPU. whole: every worker has some; the first one always has."""
        if world_size() > 1 and not whole:
            own = self._like_first(own) | own
        return {name: gather_rows(rows)[0].cpu() for name, rows in own.items()}

    def _like_first(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors without rows, as the first worker's."""
        import json

        from vae_models.collectives import broadcast_text

        said = {name: [str(value.dtype), list(value.shape[1:])] for name, value in own.items()}
        described: dict[str, tuple[str, list[int]]] = json.loads(broadcast_text(json.dumps(said), self.device))
        return {
            name: torch.empty((0, *shape), dtype=getattr(torch, dtype.removeprefix("torch.")), device=self.device)
            for name, (dtype, shape) in described.items()
        }

    def tell(self, what: str, done: int, total: int) -> None:
        """Tell of progress; every worker does. Raise Stopped, on all of them, when the tick says so."""
        if self._tick(what, done, total):
            raise Stopped(what)

    def once(self, key: str, make: Callable[[], T]) -> T:
        """Return what `make` makes, made at the first call with this key: for what several evaluators share."""
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])

    def posteriors(self, split: str | None = None, beta: float | None = None) -> Encoding:
        """Return q(z|x)'s parameters of all the split's data, on the CPU: computed once. raw is None."""
        name = split or self.plan.split
        if (name, beta) not in self._posteriors:
            gates, space = self.gates(beta), self.space

            def encode(rows: Rows) -> dict[str, Tensor]:
                encoding = space.encode(rows.x, gates)
                return {"mean": encoding.mean} | ({} if encoding.log_std is None else {"log_std": encoding.log_std})

            made = self.map(encode, what="encoding", split=name)
            self._posteriors[name, beta] = Encoding(mean=made["mean"], log_std=made.get("log_std"), raw=None)
        return self._posteriors[name, beta]

    def close(self) -> None:
        """End the background work."""
        self._residence.close()
