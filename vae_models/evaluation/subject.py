"""A trained model with its data: what every evaluator is given.

`Subject.map` is the one way over a split: batches go round the workers, and every worker gets every row back, in the
data's order. An evaluator then computes from whole tensors, the same on every worker, and knows nothing of gangs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, cast, runtime_checkable

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

NOISE_BLOCK = 64  # data whose noise is drawn together: a datum's noise is its own, however the data are cut


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
    ) -> None:
        """Take the model into evaluation. tick: is told of progress, on every worker, and says whether to stop."""
        self.plan = plan or EvaluationPlan()
        self.device = device or torch.device("cpu")
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self.module = model.to(self.device).eval()
        self.config = config
        self.dataset = dataset
        self._residence = Residence(dataset, config.data, self.device, self.dtype, workers=world_size())
        self._posteriors: dict[tuple[str, float | None], Encoding] = {}
        self._tick = tick

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
        blocks = range(first // NOISE_BLOCK, -(-(first + count) // NOISE_BLOCK))
        skip = first - blocks.start * NOISE_BLOCK
        drawn = {}
        for name, spec in specs.items():
            whole = [
                random.draw(
                    spec, NOISE_BLOCK, seed=self.plan.seed, step=block, stream=f"evaluation/{stream}/{name}",
                    device=self.device, dtype=self.dtype,
                )
                for block in blocks
            ]  # fmt: skip
            drawn[name] = torch.cat(whole)[skip : skip + count]
        return drawn

    def map(
        self,
        function: Callable[[Rows], Mapping[str, Tensor]],
        *,
        what: str,
        split: str | None = None,
        noise: Mapping[str, NoiseSpec] | None = None,
        stream: str = "",
        batch_size: int | None = None,
    ) -> dict[str, Tensor]:
        """Return what `function` makes of the split's data, [n, ...] by name, on the CPU, in the data's order.

        function:   of a batch -> tensors with a row for each datum; called without gradients
        what:       for progress, in a word or two
        noise:      what `function` needs, per datum; stream: other noise than another stream's
        batch_size: at most the plan's

        The data themselves (a binarization that is drawn) are the same for every stream. Raise Stopped, on all workers,
        when the tick says so.
        """
        name = split or self.plan.split
        total, size = self.count(name), min(batch_size or self.plan.batch_size, self.plan.batch_size)
        data, masks = self._residence[name], self._residence.masks(name)
        starts = range(0, total, size)
        rounds = -(-len(starts) // world_size())
        made: list[dict[str, Tensor]] = []
        for turn in range(rounds):
            place = turn * world_size() + rank()
            if place < len(starts):
                start = starts[place]
                indices = torch.arange(start, min(start + size, total), device=data.index_device)
                x_noise = self.draw(data.noise(), len(indices), stream=f"{name}/data", first=start)
                rows = Rows(
                    x=data.batch(indices, x_noise),
                    mask=masks.of(indices),
                    indices=indices.to(self.device),
                    noise=self.draw(noise or {}, len(indices), stream=f"{name}/{stream}", first=start),
                )
                with torch.no_grad():
                    made.append({key: value.detach() for key, value in function(rows).items()})
            if self._tick(what, min(total, (turn + 1) * world_size() * size), total):
                raise Stopped(what)
        return self._gathered(made, len(starts), size, total)

    def _gathered(self, made: list[dict[str, Tensor]], batches: int, size: int, total: int) -> dict[str, Tensor]:
        """Return every worker's rows in the data's order. made: this worker's batches."""
        if world_size() == 1:
            return {name: torch.cat([rows[name].cpu() for rows in made]) for name in made[0]}
        order = torch.cat(
            [
                torch.arange(place * size, min((place + 1) * size, total))
                for worker in range(world_size())
                for place in range(worker, batches, world_size())
            ]
        )
        back = torch.empty_like(order)
        back[order] = torch.arange(total)
        empty = self._like_first(made)
        gathered = {}
        for name, none in empty.items():
            own = torch.cat([rows[name] for rows in made]) if made else none
            gathered[name] = gather_rows(own)[0].cpu()[back]
        return gathered

    def _like_first(self, made: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return tensors without rows, as the first worker's batches have them: it has one at least."""
        import json

        from vae_models.collectives import broadcast_text

        said = {name: [str(value.dtype), list(value.shape[1:])] for name, value in (made[0] if made else {}).items()}
        told: dict[str, tuple[str, list[int]]] = json.loads(broadcast_text(json.dumps(said), self.device))
        return {
            name: torch.empty((0, *shape), dtype=getattr(torch, dtype.removeprefix("torch.")), device=self.device)
            for name, (dtype, shape) in told.items()
        }

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
