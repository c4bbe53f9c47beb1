"""The latent as people see it: the plane of the first two principal components, and t-SNE, coloured by label."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_models.evaluation.drawing import latents
from vae_models.evaluation.findings import Findings, Picture, Value
from vae_models.evaluation.latent.encoded import at_each_beta, at_least, chosen, finite, how_many, means
from vae_models.evaluation.latent.factors import Factor, factors
from vae_models.evaluation.pictures.style import CYCLIC, PALETTE, SEQUENTIAL, plot
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.samplers.specs import PriorSamplerConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "os^DvPX"  # beside the colours: classes are told apart without them too
MOST_CLASSES = len(MARKERS) * 3  # in a legend that can be read; more are coloured by their number
PRIOR_COLOUR = "#999999"
Draw = Callable[["Axes"], None]


@dataclass(frozen=True, kw_only=True)
class ScatterEvaluator:
    """Pictures of the posterior means and of z ~ p(z) in one plane, coloured by the labels' first column.

    A latent of two dimensions is drawn as it is; others by the principal components of the means, and by t-SNE of both
    together (van der Maaten and Hinton 2008; AR-ELBO's figures D.4 and E.5).
    """

    data: int
    prior: int
    tsne: bool
    perplexity: float

    def __call__(self, subject: Subject) -> Findings:
        """Return latent_plane, or latent_pca and latent_tsne, and which share of the variance the plane has."""
        return at_each_beta(subject, lambda beta: self._at(subject, beta))

    def _at(self, subject: Subject, beta: float | None) -> Findings:
        total = subject.count()
        at_least(total, 3)
        rows = chosen(subject, total, self.data)
        z, factor = means(subject, beta=beta)[rows], _first_factor(subject, rows)
        p = self._samples(subject, beta, z)
        caption = "; ".join(
            part for part in ("Posterior means and samples of the prior", how_many(len(z), total)) if part
        )
        if z.shape[1] <= 2:
            return Findings(pictures=(_plane(z, p, factor, caption),))
        findings = _principal(z, p, factor, caption)
        if self.tsne and beta is None:
            findings += Findings(pictures=(self._neighbours(z, p, factor, subject.plan.seed, caption),))
        return findings

    def _samples(self, subject: Subject, beta: float | None, z: Tensor) -> Tensor:
        """Return z ~ p(z), float64: no more of them than there are data."""
        count = min(self.prior, len(z))
        if count == 0:
            return z[:0]
        drawn = latents(subject, PriorSamplerConfig(), count, beta=beta, stream="scatter").double()
        finite(drawn, what="z ~ p(z)")
        return drawn

    def _neighbours(self, z: Tensor, p: Tensor, factor: Factor | None, seed: int, caption: str) -> Picture:
        from sklearn.manifold import TSNE

        both = torch.cat([z, p])
        perplexity = min(self.perplexity, (len(both) - 1) / 3)
        learner = TSNE(perplexity=perplexity, init="pca", random_state=seed % 2**32)
        places = torch.from_numpy(learner.fit_transform(both.numpy()))
        labels = ("t-SNE 1", "t-SNE 2")
        caption = f"{caption}; t-SNE of perplexity {perplexity:g}"
        return _picture("latent_tsne", places[: len(z)], places[len(z) :], factor, labels, caption)


def _first_factor(subject: Subject, rows: Tensor) -> Factor | None:
    try:
        return factors(subject)[0].at(rows)
    except Inapplicable:
        return None


def _plane(z: Tensor, p: Tensor, factor: Factor | None, caption: str) -> Picture:
    if z.shape[1] == 1:  # beside its number in the data's order, which says nothing
        place = torch.linspace(0, 1, len(z), dtype=z.dtype)[:, None]
        z, p = torch.cat([z, place], 1), torch.cat([p, torch.full_like(p, 0.5)], 1)
        return _picture("latent_plane", z, p, factor, ("z", "place in the data"), caption)
    return _picture("latent_plane", z, p, factor, ("$z_1$", "$z_2$"), caption)


def _principal(z: Tensor, p: Tensor, factor: Factor | None, caption: str) -> Findings:
    """Return the plane of most variance of the means, and its share of their variance."""
    centre = z.mean(0)
    _, deviations, axes = torch.linalg.svd(z - centre, full_matrices=False)
    total = float(deviations.square().sum())
    if total == 0:
        raise Inapplicable("the posterior means of all data are the same: there is nothing to draw")
    shares = deviations.square() / total
    signs = torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))  # an axis points where its largest part does
    plane = (axes * signs)[:2].T
    labels = (f"PC 1 ({float(shares[0]):.0%} of the variance)", f"PC 2 ({float(shares[1]):.0%} of the variance)")
    picture = _picture("latent_pca", (z - centre) @ plane, (p - centre) @ plane, factor, labels, caption)
    share = Value(
        name="latent_plane_share", value=float(shares[:2].sum()), unit="1", count=len(z),
        note="of the variance of the means, in their first two principal components",
    )  # fmt: skip
    return Findings(values=(share,), pictures=(picture,))


def _picture(name: str, z: Tensor, p: Tensor, factor: Factor | None, labels: tuple[str, str], caption: str) -> Picture:
    """Return the points, coloured by the factor, over the prior's in grey."""

    def draw(axes: Axes) -> None:
        if len(p):
            axes.scatter(
                p[:, 0], p[:, 1], c=PRIOR_COLOUR, marker="x", s=8, linewidths=0.6, label="p(z)", rasterized=True
            )
        title = _points(axes, z, factor)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        if title:
            axes.legend(title=title, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.5)
        elif len(p):
            axes.legend(loc="upper right", frameon=True)

    return plot(name, draw, caption=caption, inches=(6.0, 4.2))


def _points(axes: Axes, z: Tensor, factor: Factor | None) -> str | None:
    """Draw the means; return the title of a legend of classes, None where there is a bar or nothing to tell apart."""
    if factor is None:
        axes.scatter(z[:, 0], z[:, 1], s=7, label="q(z|x)", rasterized=True)
        return None
    classes = torch.unique(factor.values).tolist()
    if factor.is_class and len(classes) <= MOST_CLASSES:
        _classes(axes, z, factor, classes)
        return factor.name
    limits = {"cmap": CYCLIC, "vmin": -math.pi, "vmax": math.pi} if factor.is_angle else {"cmap": SEQUENTIAL}
    points = axes.scatter(z[:, 0], z[:, 1], c=factor.values, s=7, rasterized=True, **limits)
    unit = f" [{factor.unit}]" if factor.unit else ""
    axes.figure.colorbar(points, ax=axes, label=f"{factor.name}{unit}")
    return None


def _classes(axes: Axes, z: Tensor, factor: Factor, classes: Sequence[int]) -> None:
    for number, value in enumerate(classes):
        rows = factor.values == value
        axes.scatter(
            z[rows, 0], z[rows, 1], s=14, linewidths=0, rasterized=True, label=factor.name_of(value),
            color=PALETTE[number % len(PALETTE)], marker=MARKERS[number // len(PALETTE) % len(MARKERS)],
        )  # fmt: skip
