"""ELBO and log-likelihood of each datum, by k samples of its posterior."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vae_models.metrics.importance import RunningWeights, log_weights
from vae_models.protocols import LatentSpace, Model
from vae_models.records import Trace

DECODED = 2**22  # numbers of x that are decoded at a time: 16 MiB in float32, and a network's layers a few times that


def of_batch(
    model: Model, x: Tensor, noise: Mapping[str, Tensor], samples: int, beta: Tensor | None, mask: Tensor | None
) -> dict[str, Tensor]:
    """Return the scores of each datum of a batch, float64 [n], nats per datum. noise: as `model.noise(samples)` says.

    elbo       the mean over the samples of -(rate + distortion), at beta = 1 of the sum
    rate       the mean over the samples of log q(z|x) - log p(z), in closed form where there is one
    distortion the mean over the samples of -log p(x|z)
    nll        -log (1/k) sum_k p(x|z_k) p(z_k) / q(z_k|x): an upper bound on -log p(x) in expectation that falls with k
               (Burda et al. 2016, "Importance weighted autoencoders", eq 8)

    Of a model whose q(z|x) has no density there is the distortion alone.
    """
    encoding = model.encode(x, beta) if isinstance(model, LatentSpace) else None
    weights, sums = RunningWeights(len(x), x.device), dict[str, Tensor]()
    at_a_time = max(1, min(samples, DECODED // max(1, x.numel())))
    for start in range(0, samples, at_a_time):
        some = min(at_a_time, samples - start)
        part = {name: _part(values, start, some, samples) for name, values in noise.items()}
        if encoding is not None and isinstance(model, LatentSpace):
            trace = model.trace(x, encoding, part, beta, mask)
        else:
            trace = model(x, part, beta, mask)
        if model.bound:
            weights.add(log_weights(trace).view(len(x), some))
        for name, values in _terms(trace, bound=model.bound).items():
            sums[name] = sums.get(name, 0) + values.view(len(x), some).sum(1)
    means = {name: total / samples for name, total in sums.items()}
    if not model.bound:
        return means
    return {"elbo": -(means["rate"] + means["distortion"]), "nll": -weights.log_mean(), **means}


def _terms(trace: Trace, *, bound: bool) -> dict[str, Tensor]:
    """Return what a score is the mean of, for each row of the trace."""
    distortion = trace.distortion.double()
    return {"rate": trace.rate.double(), "distortion": distortion} if bound else {"distortion": distortion}


def _part(values: Tensor, start: int, some: int, samples: int) -> Tensor:
    """Return some samples' noise as a model reads it: one sample has no axis of its own."""
    if samples == 1:
        return values
    return values[:, start] if some == 1 else values[:, start : start + some]
