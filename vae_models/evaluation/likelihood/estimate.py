"""log p(x) of a batch from k samples of q(z|x): what is computed at a time keeps to the plan's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from vae_models.evaluation.likelihood.bound import dimensions
from vae_models.evaluation.memory import MIB, rows_within
from vae_models.evaluation.subject import Inapplicable, Rows, Subject
from vae_models.metrics.importance import RunningWeights, log_weights
from vae_models.protocols import LatentSpace
from vae_models.records import Encoding, Trace

BLOCK = 20  # samples of a datum whose noise is drawn together: a sample's noise is its own, however k is cut
IN_CACHE_MIB = 32  # of a CPU: a pass that takes more waits for memory, and is slower

Noise = Mapping[str, Tensor]  # [data, samples, ...] by name
Pass = Callable[[slice, Noise], Trace]  # of some data of a batch


class Estimate:
    """The estimate of each datum of a batch: `Subject.map` calls it. It measures small passes when it is first called.

    Where the model is a `LatentSpace` a batch is encoded once; else the model is called with a few samples at a time.
    """

    def __init__(self, subject: Subject, samples: int, beta: float | None) -> None:
        """Estimate by so many samples. beta: what the gates read, which q(z|x) and p(x|z) depend on."""
        self._subject, self._samples = subject, samples
        self._gates = subject.gates(beta)
        self._noise = subject.model.noise(BLOCK)
        mib = subject.plan.memory_mib
        self._budget = MIB * (min(mib, IN_CACHE_MIB) if subject.device.type == "cpu" else mib)
        self._beside: int | None = None  # data that are encoded at a time
        self._at_a_time: dict[torch.Size, int] = {}  # samples, of all data of a shape, that are decoded at a time

    def __call__(self, rows: Rows) -> dict[str, Tensor]:
        """Return nll, effective_samples and dimensions, float64 [batch]."""
        run, weights = self._pass(rows), RunningWeights(len(rows), rows.x.device)
        shape = rows.x.shape[1:]  # of a batch that is cut, another one
        for block in range(-(-self._samples // BLOCK)):
            noise = self._drawn(rows, block)
            most = self._at_a_time.get(shape) or self._at_a_time.setdefault(shape, self._measured(run, noise))
            count = min(BLOCK, self._samples - block * BLOCK)
            weights.add(_of_block(run, len(rows), _cut(noise, slice(None), slice(count)), most))
        return {
            "nll": -weights.log_mean(),
            "effective_samples": weights.effective_samples(),
            "dimensions": dimensions(rows, self._subject.model),
        }

    def _drawn(self, rows: Rows, block: int) -> Noise:
        """Return the noise of a block of samples, [batch, BLOCK, ...] by name."""
        stream = f"{self._subject.plan.split}/nll/{block}"
        return self._subject.draw(self._noise, len(rows), stream=stream, first=int(rows.indices[0]))

    def _pass(self, rows: Rows) -> Pass:
        """Return the pass over some data of the batch, with the encoder's part done where it can be."""
        module, gates = self._subject.module, self._gates
        if not isinstance(module, LatentSpace):
            model = self._subject.model
            return lambda data, noise: model(rows.x[data], _as_declared(noise), gates, _masked(rows, data))
        encoding = self._encoded(module, rows)
        return lambda data, noise: module.trace(
            rows.x[data], _some(encoding, data), _as_declared(noise), gates, _masked(rows, data)
        )

    def _encoded(self, space: LatentSpace, rows: Rows) -> Encoding:
        """Return q(z|x)'s parameters of the batch."""
        encode = partial(space.encode, beta=self._gates)
        if self._beside is None:
            self._beside = self._room("a datum's encoding", lambda few: encode(rows.x[:1].repeat_interleave(few, 0)))
        parts = [encode(x) for x in torch.split(rows.x, self._beside)]
        return Encoding(
            mean=torch.cat([part.mean for part in parts]),
            log_std=_joined([part.log_std for part in parts]),
            raw=_joined([part.raw for part in parts]),
        )

    def _measured(self, run: Pass, noise: Noise) -> int:
        """Return how many samples, of all data together, are decoded at a time."""

        def few(samples: int) -> Tensor:
            return log_weights(run(slice(1), _cut(noise, slice(1), slice(samples))))

        return self._room("a sample of a datum", few)

    def _room(self, what: str, compute: Callable[[int], object]) -> int:
        """Return how many rows fit into the budget. Raise Inapplicable where not one does."""
        rows = rows_within(self._budget, compute)
        if rows == 0:
            raise Inapplicable(f"{what} takes more than memory_mib, {self._subject.plan.memory_mib}: raise it")
        return rows


def _of_block(run: Pass, data: int, noise: Noise, most: int) -> Tensor:
    """Return log w of every datum's samples, float64 [data, samples]; most: samples of all data that a pass has."""
    count = next(iter(noise.values())).shape[1]
    beside, samples = max(1, most // count), min(count, most)
    weights = []
    for first in range(0, data, beside):
        part = slice(first, min(first + beside, data))
        cuts = (_cut(noise, part, slice(start, start + samples)) for start in range(0, count, samples))
        weights.append(torch.cat([log_weights(run(part, cut)) for cut in cuts], dim=1))
    return torch.cat(weights)


def _cut(noise: Noise, data: slice, samples: slice) -> Noise:
    return {name: value[data, samples] for name, value in noise.items()}


def _as_declared(noise: Noise) -> Noise:
    """Return the noise as `Model.noise` declares it: of one sample it has no axis for samples."""
    return {name: value.squeeze(1) if value.shape[1] == 1 else value for name, value in noise.items()}


def _masked(rows: Rows, data: slice) -> Tensor | None:
    return None if rows.mask is None else rows.mask[data]


def _some(encoding: Encoding, data: slice) -> Encoding:
    log_std, raw = encoding.log_std, encoding.raw
    return Encoding(
        mean=encoding.mean[data],
        log_std=None if log_std is None else log_std[data],
        raw=None if raw is None else raw[data],
    )


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    tensors = [part for part in parts if part is not None]
    return torch.cat(tensors) if tensors else None
