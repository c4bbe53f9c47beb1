"""-log p(x) by importance sampling, each datum encoded once and its samples decoded a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.likelihood import statistics
from vae_models.evaluation.likelihood.bound import betas
from vae_models.evaluation.likelihood.estimate import Estimate
from vae_models.evaluation.likelihood.scale import scale_of
from vae_models.evaluation.subject import Subject
from vae_models.measures import prefix
from vae_models.protocols import HasPrediction
from vae_models.random import NOISE_BLOCK


@dataclass(frozen=True, kw_only=True)
class NllEvaluator:
    """-log (1/k) sum_i p(x, z_i) / q(z_i|x), z_i ~ q(z|x), k samples: nats per datum.

    In expectation it is an upper bound on -log p(x), which falls with k. The standard error is over the data, with the
    sampling's own share in it.
    """

    samples: int

    def __call__(self, subject: Subject) -> Findings:
        """Return nll_<k>, how many effective samples there were, and of a mass bits per dimension; at the plan's betas
        too. Raise NotFinite where one is NaN or infinite of a datum, Inapplicable where one sample has no room.
        """
        values = [value for beta in (None, *betas(subject)) for value in self._values(subject, beta)]
        return Findings(values=tuple(values), notes=tuple(_notes(subject)))

    def _values(self, subject: Subject, beta: float | None) -> Iterator[Value]:
        scale, name = scale_of(subject.config), f"{prefix(beta)}nll_{self.samples}"
        few = NOISE_BLOCK if subject.device.type == "cpu" else None  # of a CPU: whoever stops it waits for one batch
        estimates = subject.map(Estimate(subject, self.samples, beta), what=name, batch_size=few, trim=True)
        nats = statistics.finite(name, estimates["nll"], subject)
        yield statistics.mean(name, nats, unit=statistics.NATS, mode="min", scale=scale)
        yield statistics.mean(f"{name}/effective_samples", estimates["effective_samples"], unit="samples", mode="max")
        if scale.measure == "mass":
            yield statistics.bits_per_dim(f"{name}/bits_per_dim", nats, estimates["dimensions"], scale)
        if subject.config.data.support == "tokens":
            yield statistics.perplexity(f"{name}/perplexity", nats, estimates["dimensions"], scale)


def _notes(subject: Subject) -> Iterator[str]:
    """Yield what is to be known of the estimate beside its error."""
    if any(layer.prior.noise() for layer in subject.model.latents().values()):
        yield (
            "log p(z) is estimated from samples itself (a hierarchical prior's bound): the weights' mean is p(x) "
            "still, and the NLL lies higher than with p(z) exact"
        )
    if not subject.model.sampled and not isinstance(subject.model, HasPrediction):
        yield (
            "the likelihood takes its parameters from x itself (maximum likelihood of each datum): it is normalized "
            "over no x, and its nats are not to be compared with another model's"
        )
