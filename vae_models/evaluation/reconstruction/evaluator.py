"""Squared errors and SSIM of a split's reconstructions, and the variances of a part of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models.config.run import RunConfig
from vae_models.data.spec import AXES
from vae_models.evaluation.averages import finite, mean, standard_error
from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.memory import data_within
from vae_models.evaluation.reconstruction import partitions
from vae_models.evaluation.reconstruction.variances import variances
from vae_models.evaluation.subject import Rows, Subject
from vae_models.measures import prefix
from vae_models.metrics.ssim import WINDOW, ssim
from vae_models.protocols import LatentSpace

SQUARE = "units of x squared"
COPIES = 24  # of the decoder's output that two passes, and the moments of SSIM, hold at a time
AT_MEAN = "at_mean/"  # z = E[z|x] in place of z ~ q(z|x)


@dataclass(frozen=True, kw_only=True)
class ReconstructionEvaluator:
    """Errors of E[x|z] for z ~ q(z|x) and, under "at_mean/", for z = E[z|x]; at beta = 1 and each beta of the plan.

    squared_error_sum:       E|x - E[x|z]|^2, summed over elements: AR-ELBO's MSE (tables 1, 4, 6 and E.8)
    squared_error:           its mean over elements: C of VHP, whose bound is kappa^2
    root_mean_squared_error: over data and elements: sigma-VAE's optimal sigma, VHP's kappa
    ssim:                    of images (see `metrics.ssim`)
    variance_given_z, variance_of_mean: see `variances`
    """

    variance_data: int
    variance_samples: int

    def __call__(self, subject: Subject) -> Findings:
        """Return errors, variances, and the fitted variances of each partition where the data are digits."""
        values: list[Value] = []
        for beta in (None, *subject.plan.betas):
            values += _error_values(_errors(subject, beta), prefix(beta))
            values += self._variance_values(subject, beta)
        notes = tuple(_left_out(subject.config))
        return Findings(values=tuple(values), notes=notes) + partitions.findings(subject)

    def _variance_values(self, subject: Subject, beta: float | None) -> Iterator[Value]:
        if not isinstance(subject.module, LatentSpace):
            return
        where = prefix(beta)
        estimated = variances(subject, count=self.variance_data, samples=self.variance_samples, beta=beta)
        for name, maps in (("variance_given_z", estimated.given_z), ("variance_of_mean", estimated.of_mean)):
            if maps is not None:
                note = f"mean over elements, and over z ~ q(z|x): {self.variance_samples} for each of the first data"
                yield mean(where + name, maps.double().flatten(1).mean(1), unit=SQUARE, note=note)


def _errors(subject: Subject, beta: float | None) -> dict[str, Tensor]:
    """Return per datum, float64 [n]: squared errors, summed; "elements"; and, of images, SSIM."""
    gates, module = subject.gates(beta), subject.module
    images = _has_ssim(subject.config)

    def errors(rows: Rows) -> dict[str, Tensor]:
        if not isinstance(module, LatentSpace):
            trace = subject.model(rows.x, rows.noise, gates, rows.mask)
            return _compared(trace.target, trace.mean, trace.mask, images=images)
        encoding = module.encode(rows.x, gates)
        trace = module.trace(rows.x, encoding, rows.noise, gates, rows.mask)
        at_mean = _compared(trace.target, module.decode(encoding.mean, gates), rows.mask, images=images)
        own = _compared(trace.target, trace.mean, rows.mask, images=images)
        return own | {AT_MEAN + name: each for name, each in at_mean.items()}

    return subject.map(
        errors, what="reconstructions", noise=subject.model.noise(), stream="reconstruction",
        batch_size=data_within(subject, COPIES),
    )  # fmt: skip


def _compared(x: Tensor, mean: Tensor, mask: Tensor | None, *, images: bool) -> dict[str, Tensor]:
    squared = (x.double() - mean.double()).square()
    counted = torch.ones_like(squared) if mask is None else mask.expand_as(squared).double()
    errors = {"squared_error_sum": (squared * counted).flatten(1).sum(1), "elements": counted.flatten(1).sum(1)}
    if images:
        errors["ssim"] = ssim(x, mean)
    return errors


def _error_values(per_datum: Mapping[str, Tensor], where: str) -> Iterator[Value]:
    for at_mean in ("", AT_MEAN):
        if f"{at_mean}squared_error_sum" not in per_datum:
            continue
        total, elements = per_datum[f"{at_mean}squared_error_sum"], per_datum[f"{at_mean}elements"]
        name = where + at_mean
        yield mean(f"{name}squared_error_sum", total, unit=f"{SQUARE}, per datum", mode="min")
        if at_mean:  # of z ~ q(z|x) it is among the likelihood's
            yield mean(f"{name}squared_error", total / elements, unit=SQUARE, mode="min")
        yield _root(f"{name}root_mean_squared_error", total, elements)
        if f"{at_mean}ssim" in per_datum:
            yield mean(f"{name}ssim", per_datum[f"{at_mean}ssim"], unit="1", mode="max")


def _root(name: str, total: Tensor, elements: Tensor) -> Value:
    """Return r = sqrt(sum of total / sum of elements); its error is that of the ratio r^2, over 2 r."""
    finite(name, total)
    square = total.sum() / elements.sum()
    error, root = standard_error((total - square * elements) / elements.mean()), float(square.sqrt())
    error = None if error is None or root == 0 else error / (2 * root)
    return Value(name=name, value=root, error=error, unit="units of x", mode="min", count=len(total))


def _has_ssim(config: RunConfig) -> bool:
    facts = config.data.facts
    return facts.axes == AXES and min(facts.shape[1:]) >= WINDOW and not config.data.reals


def _left_out(config: RunConfig) -> Iterator[str]:
    if not _has_ssim(config):
        yield f"SSIM was left out: it is of images of {WINDOW} x {WINDOW} pixels or more, with values in [0, 1]"
