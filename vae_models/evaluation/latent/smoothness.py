"""How smooth the decoder is where the data are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vae_models.evaluation.findings import Findings
from vae_models.evaluation.latent.encoded import at_each_beta, chosen, finite, how_many, layer, value_of
from vae_models.evaluation.subject import Subject
from vae_models.metrics.smoothness import AXES, Decode, local_smoothness, probed_smoothness, squared_gaps
from vae_models.records import NoiseSpec

SQUARE = "units of x squared"
SLOPE = "units of x squared per unit of z squared"
EXACT_AXES = 64  # of method auto: as many products with the Jacobian for each datum


@dataclass(frozen=True, kw_only=True)
class SmoothnessEvaluator:
    """AR-ELBO's expected gap at each variance, one pair of perturbations for each datum, and the expected local
    smoothness, both of E[x|z] about the posterior means, with standard errors over data.
    """

    variances: tuple[float, ...]
    method: Literal["auto", "exact", "probes"]
    probes: int
    data: int

    def __call__(self, subject: Subject) -> Findings:
        """Return expected_gap_<s^2>, and els or, by probes, els_probes."""
        return at_each_beta(subject, lambda beta: self._at(subject, beta))

    def _at(self, subject: Subject, beta: float | None) -> Findings:
        space, gates, (latent,) = subject.space, subject.gates(beta), layer(subject)[1].shape
        rows = chosen(subject, subject.count(), self.data)
        means = subject.posteriors(beta=beta).mean[rows]
        exact = self.method == "exact" or (self.method == "auto" and latent <= EXACT_AXES)
        noise = {"first": NoiseSpec(shape=(latent,)), "second": NoiseSpec(shape=(latent,))}
        if not exact:
            noise["probes"] = NoiseSpec(shape=(self.probes, latent))

        def decode(z: Tensor) -> Tensor:
            return space.decode(z, gates)

        def measure(start: int, end: int) -> dict[str, Tensor]:
            drawn = subject.draw(noise, end - start, stream="smoothness", first=start)
            return self._measured(decode, means[start:end].to(subject.device), drawn)

        size = max(1, subject.plan.batch_size // AXES)
        measured = subject.spread(measure, len(rows), size=size, what="smoothness")
        finite(*measured.values(), what="the decoder's output or its derivative")
        return self._findings(measured, how_many(len(rows), subject.count()))

    def _measured(self, decode: Decode, mean: Tensor, noise: dict[str, Tensor]) -> dict[str, Tensor]:
        measured = {
            f"expected_gap_{variance:g}": squared_gaps(decode, mean, noise["first"], noise["second"], variance)
            for variance in self.variances
        }
        if "probes" in noise:
            return measured | {"els_probes": probed_smoothness(decode, mean, noise["probes"])}
        return measured | {"els": local_smoothness(decode, mean)}

    def _findings(self, measured: dict[str, Tensor], share: str) -> Findings:
        notes = {"els": "exact Jacobian at each mean", "els_probes": f"{self.probes} random directions for each datum"}
        values = []
        for name, per_datum in measured.items():
            note = "; ".join(part for part in (notes.get(name, "one pair of perturbations"), share) if part)
            values.append(value_of(name, per_datum, unit=SLOPE if name in notes else SQUARE, note=note))
        return Findings(values=tuple(values))
