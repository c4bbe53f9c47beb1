"""How pictures look: one palette, one size of text, and the same bytes from the same numbers.

A drawing is made on a figure of its own, with no state of pyplot's and no settings of the user's. Its SVG keeps text as
text, so that it can be searched and read aloud. What has thousands of points is drawn with `rasterized=True`, or the
SVG is large.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vae_models.evaluation.findings import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

# Okabe and Ito, "Color Universal Design" (2008), without yellow, which is too pale on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
CYCLIC = "twilight"  # colours of an angle: -pi and pi are one
SEQUENTIAL = "viridis"  # colours of a quantity: their lightness rises with it
PIXELS_PER_INCH = 144
PANEL_INCHES = (4.2, 3.4)
_SETTINGS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": f"cycler('color', {list(PALETTE)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.dpi": PIXELS_PER_INCH,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 9,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "image.cmap": SEQUENTIAL,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "svg.fonttype": "none",
    "svg.hashsalt": "vaesvc",
}
_NO_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
}


def plot(
    name: str, draw: Callable[[Axes], None], *, caption: str = "", inches: tuple[float, float] = (5.0, 3.5)
) -> Picture:
    """Return what `draw` draws on axes, as PNG and SVG. Raise ValueError where an axis with ticks has no label.

    draw: sets both labels, with their units: "rate [nats per datum]".
    """
    return panels(name, [draw], caption=caption, inches=inches)


def panels(
    name: str,
    draws: Sequence[Callable[[Axes], None]],
    *,
    caption: str = "",
    inches: tuple[float, float] = PANEL_INCHES,
) -> Picture:
    """Return plots side by side, each as `plot` makes it. inches: of one of them."""

    def draw(figure: Figure) -> None:
        for axes, each in zip(figure.subplots(1, len(draws), squeeze=False)[0], draws, strict=True):
            each(axes)
            _must_be_labelled(axes, name)

    png, svg = rendered(draw, (inches[0] * len(draws), inches[1]))
    return Picture(name=name, png=png, svg=svg, caption=caption)


def grid(
    name: str,
    images: Tensor,
    columns: int,
    *,
    caption: str = "",
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    group: int | None = None,
    outlined: Collection[int] = (),
    gif: bytes | None = None,
) -> Picture:
    """Return images [n, *data] with values in [0, 1] row by row: see `metrics.pictures.grid`. gif: see `Picture`."""
    from vae_models.metrics import pictures  # torch, which no plot needs

    png = pictures.grid(
        pictures.as_images(images), columns, row_labels=row_labels, column_labels=column_labels, group=group,
        outlined=outlined,
    )  # fmt: skip
    return Picture(name=name, png=png, gif=gif, caption=caption)


def rendered(draw: Callable[[Figure], None], inches: tuple[float, float]) -> tuple[bytes, bytes]:
    """Return what `draw` draws on an empty figure of that width and height, as PNG and as SVG."""
    with _figure(inches) as figure:
        draw(figure)
        return _saved(figure, "png"), _saved(figure, "svg")


def write_png(path: Path, draw: Callable[[Figure], None], inches: tuple[float, float]) -> None:
    """Write what `draw` draws to a PNG file, whose folder is made."""
    with _figure(inches) as figure:
        draw(figure)
        png = _saved(figure, "png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)


@contextmanager
def _figure(inches: tuple[float, float]) -> Iterator[Figure]:
    """Yield an empty figure; what is drawn while it lasts has our settings, whatever the user's are."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _SETTINGS]):
        yield Figure(figsize=inches, layout="constrained")


def _saved(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=_NO_METADATA[form])
    return buffer.getvalue()


def _must_be_labelled(axes: Axes, name: str) -> None:
    for label, axis in ((axes.get_xlabel(), axes.xaxis), (axes.get_ylabel(), axes.yaxis)):
        if not label and axes.axison and len(axis.get_major_locator()()):
            raise ValueError(f"the picture {name} has an axis without a label: say what it shows, and its unit")
