"""Where a model is unsure: standard deviations of each element, given z and of its mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from vae_models.evaluation.findings import Picture
from vae_models.evaluation.pictures import shown, style
from vae_models.evaluation.reconstruction.variances import variances
from vae_models.evaluation.subject import Subject
from vae_models.metrics.pictures import as_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLES = 16  # of q(z|x) of each datum
INCHES = 0.75  # of a map
CAPTION = (
    "Data x, their reconstructions, and standard deviations of each element: what p(x|z) leaves, sqrt E Var[x|z], and "
    "what comes of not knowing z, sqrt Var E[x|z], both over z ~ q(z|x)."
)


def variance_maps(subject: Subject, *, columns: int) -> Iterator[Picture]:
    """Yield the maps of the first data; nothing where neither variance is known."""
    estimated = variances(subject, count=columns, samples=SAMPLES)
    named = {"sd given z": estimated.given_z, "sd of mean": estimated.of_mean}
    deviations = {name: variance.double().sqrt() for name, variance in named.items() if variance is not None}
    if not deviations:
        return
    if shown.has_images(subject.config):
        yield _maps({"x": estimated.x, "E[x|z]": estimated.mean}, deviations)
        return
    yield shown.rows(
        "variance-maps",
        subject.config,
        list(deviations.values()),
        list(deviations),
        column_name="datum",
        caption=CAPTION,
    )


def _maps(data: dict[str, Tensor], deviations: dict[str, Tensor]) -> Picture:
    """Return rows of images: x and E[x|z] in grey or colour; deviations (over channels, the root of their mean square)
    in the colours of one scale."""
    columns = len(data["x"])
    rows = {name: as_images(images).double().clamp(0, 1) for name, images in data.items()}
    maps = {name: as_images(each).square().mean(1).sqrt() for name, each in deviations.items()}
    most = max(float(each.max()) for each in maps.values())

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(rows) + len(maps), columns, squeeze=False)
        for axes, name in zip(grid, (*rows, *maps), strict=True):
            axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axes, images in zip(grid, rows.values(), strict=False):
            for axis, image in zip(axes, images, strict=True):
                colours = image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)
                _bare(axis).imshow(colours.permute(1, 2, 0).numpy(), interpolation="nearest")
        for axes, each in zip(grid[len(rows) :], maps.values(), strict=True):
            for axis, deviations in zip(axes, each, strict=True):
                last = _bare(axis).imshow(deviations.numpy(), vmin=0, vmax=most, interpolation="nearest")
        figure.colorbar(last, ax=list(grid[len(rows) :].flat), label="sd [units of x]", fraction=0.02, pad=0.01)

    height, width = rows["x"].shape[-2:]
    inches = (INCHES * columns * width / height + 2, INCHES * (len(rows) + len(maps)) + 0.3)
    png, svg = style.rendered(draw, inches)
    return Picture(name="variance-maps", png=png, svg=svg, caption=CAPTION)


def _bare(axis: Axes) -> Axes:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    return axis
