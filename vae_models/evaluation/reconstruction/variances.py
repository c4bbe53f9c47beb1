"""Two variances of each element: that which p(x|z) leaves, and that which comes from not knowing z."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vae_models.evaluation.memory import data_within
from vae_models.evaluation.subject import Rows, Subject
from vae_models.protocols import HasVariance

COPIES = 12  # of the decoder's output that its layers and a variance over 256 levels hold at a time


@dataclass(frozen=True, kw_only=True)
class Variances:
    """Per-element maps of some data, [n, *data], on the CPU, in units of x squared.

    given_z: E_q(z|x) Var[x'|z]; None where the likelihood does not tell it
    of_mean: Var_q(z|x) E[x'|z]; None where q(z|x) has no density
    Their sum is the variance of x' ~ p(x'|z), z ~ q(z|x): the law of total variance.
    """

    x: Tensor
    mean: Tensor
    given_z: Tensor | None
    of_mean: Tensor | None


def variances(subject: Subject, *, count: int, samples: int, beta: float | None = None) -> Variances:
    """Return the variances of the first `count` data, over `samples` of q(z|x) of each; of_mean is unbiased.

    mean: E_q(z|x) E[x'|z]. Raise Inapplicable of a model of several latents.
    """
    space, gates, bound = subject.space, subject.gates(beta), subject.model.bound
    likelihood = space.likelihood

    def maps(rows: Rows) -> dict[str, Tensor]:
        n = len(rows)
        trace = space.trace(rows.x, space.encode(rows.x, gates), rows.noise, gates, rows.mask)
        means = trace.mean.reshape(n, samples, *trace.mean.shape[1:])
        tensors = {"x": rows.x, "mean": means.mean(1)}
        if bound:
            tensors["of_mean"] = means.var(1)
        if isinstance(likelihood, HasVariance):
            tensors["given_z"] = likelihood.variance(trace.decoded, trace.target).reshape(means.shape).mean(1)
        return tensors

    made = subject.map(
        maps, what="variances", noise=subject.model.noise(samples), stream="variances", first=count,
        batch_size=max(1, data_within(subject, COPIES) // samples),
    )  # fmt: skip
    return Variances(x=made["x"], mean=made["mean"], given_z=made.get("given_z"), of_mean=made.get("of_mean"))
