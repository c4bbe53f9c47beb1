"""Data as pictures: images and videos as tiles, vectors and sequences as maps of their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from vae_models.config.run import RunConfig
from vae_models.data.spec import AXES
from vae_models.evaluation.findings import Picture
from vae_models.evaluation.pictures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW_INCHES, COLUMN_INCHES, LEAST_INCHES = 0.9, 0.45, 4.0


def has_images(config: RunConfig) -> bool:
    """Return whether a datum is an image, or a video of them."""
    return config.data.facts.axes[-3:] == AXES


def tiles(name: str, config: RunConfig, data: Tensor, columns: int, *, caption: str = "") -> Picture:
    """Return data [n, *data] row by row, `columns` in each; of those that are no images one map, a column for each."""
    if has_images(config):
        return style.grid(name, data, columns, caption=caption)
    return rows(name, config, [data], ["x"], column_name="number", caption=caption)


def rows(
    name: str,
    config: RunConfig,
    data: Sequence[Tensor],
    labels: Sequence[str],
    *,
    column_labels: Sequence[str] | None = None,
    column_name: str = "number",
    group: int | None = None,
    caption: str = "",
) -> Picture:
    """Return rows of data, each [columns, *data] with its label: the same number in each.

    Images are tiles, with `column_labels` above; `group` rows belong together. Of others each row is a map with the
    elements upwards and the columns, of which `column_name` says what they are, to the right; all maps have the same
    colours.
    """
    import torch

    if has_images(config):
        return style.grid(
            name, torch.cat(list(data)), len(data[0]), caption=caption, row_labels=labels, column_labels=column_labels,
            group=group,
        )  # fmt: skip
    values = [row.detach().double().cpu().flatten(1).T.numpy() for row in data]
    low, high = min(float(each.min()) for each in values), max(float(each.max()) for each in values)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
        for axis, label, each in zip(axes, labels, values, strict=True):
            axis.grid(visible=False)
            shown = axis.imshow(each, aspect="auto", origin="lower", vmin=low, vmax=high, interpolation="nearest")
            axis.set_ylabel(label, rotation=0, ha="right", va="center")
            axis.set_yticks([0, len(each) - 1])
        if column_labels is not None:
            axes[-1].set_xticks(range(len(column_labels)), column_labels)
        axes[-1].set_xlabel(column_name)
        figure.supylabel("element")
        figure.colorbar(shown, ax=list(axes), label="x [units of x]", fraction=0.03, pad=0.02, aspect=12 * len(values))

    width = max(LEAST_INCHES, COLUMN_INCHES * len(data[0]) + 2)
    png, svg = style.rendered(draw, (width, ROW_INCHES * len(values) + 0.6))
    return Picture(name=name, png=png, svg=svg, caption=caption)
