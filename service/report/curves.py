"""Drawings in which models lie over one another, as SVG that becomes part of the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.report import compare
from service.report.records import Curve, Reported
from vae_models.measures import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOT_DRAWN = ("epoch", "images_per_second")
MOST, FEW = 400, 20  # points of a curve: no more are drawn; up to so many are marked
STYLES = ("-", "--", ":", "-.")  # of models beyond the palette
RATE, DISTORTION, TABLE = "rate", "distortion", "rate_distortion"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """title: what it shows; svg: the drawing, whose names within the page are its own."""

    title: str
    svg: str


def training(models: Sequence[Reported]) -> Iterator[Drawing]:
    """Yield a drawing for each metric and each scale of nats, the models over one another: validation first."""
    names = dict.fromkeys(name for model in models for name in model.curves if name.rpartition("/")[2] not in NOT_DRAWN)
    for name in sorted(names, key=lambda name: (not name.startswith("val/"), name)):
        for scale, places in _alike(models, name).items():
            lines = {
                place: models[place].curves[name] for place in places if len(models[place].curves.get(name, ())) > 1
            }
            if lines:
                yield _drawing(f"{name}{scale and ', '}{scale}", _lines(lines, name))


def _alike(models: Sequence[Reported], metric: str) -> Mapping[str, Sequence[int]]:
    """Return the models whose values of a metric may lie in one drawing: of a measure by data and by what nats are of;
    what is no measure, such as a learning rate, all in one.
    """
    return {"": range(len(models))} if quantity(metric) is None else compare.scales(models)


def rate_distortion(models: Sequence[Reported]) -> Iterator[Drawing]:
    """Yield a drawing for each split and each scale: the curves of multi-rate models, and where single models lie."""
    splits = dict.fromkeys(each.split for model in models for each in model.evaluated)
    for split in splits:
        for scale, places in compare.scales(models).items():
            points = {place: point for place in places if (point := _point(models[place], split))}
            curves = {place: curve for place in places if (curve := _curve(models[place], split))}
            if len(points) > 1 or curves:
                yield _drawing(f"rate and distortion on the {split} split, {scale}", _plane(points, curves))


def _point(model: Reported, split: str) -> tuple[float, float] | None:
    values = {
        value.name: value.value for each in model.evaluated if each.split == split for value in each.findings.values
    }
    return (values[RATE], values[DISTORTION]) if RATE in values and DISTORTION in values else None


def _curve(model: Reported, split: str) -> list[tuple[float, float]]:
    tables = [table for each in model.evaluated if each.split == split for table in each.findings.tables]
    rows = next((table.rows for table in reversed(tables) if table.name == TABLE), ())
    return [(float(row[1] or 0), float(row[3] or 0)) for row in rows]


def _lines(lines: Mapping[int, Curve], name: str) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for place, points in lines.items():
            steps, values = zip(*_thinned(points), strict=True)
            marker = "o" if len(steps) <= FEW else None
            axes.plot(steps, values, marker=marker, label=_letter(place), **_look(place))
        every = [value for points in lines.values() for _, value in points]
        if min(every) > 0 and max(every) > 100 * min(every):
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel(_plain(_with_unit(name)))
        axes.legend()

    return draw


def _thinned(points: Curve) -> Curve:
    """Return at most about `MOST` points, every so many of them, the last among them: a page of a long run is small."""
    every = -(-len(points) // MOST)
    return [*points[:-1:every], points[-1]]


def _plane(
    points: Mapping[int, tuple[float, float]], curves: Mapping[int, list[tuple[float, float]]]
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for place in sorted({*points, *curves}):
            label, look = _letter(place), _look(place)
            if place in curves:
                axes.plot(*zip(*curves[place], strict=True), marker="o", label=label, **look)
            if place in points:
                axes.plot(*points[place], marker="D", markersize=7, label=None if place in curves else label, **look)
        axes.set_xlabel("rate [nats per datum]")
        axes.set_ylabel("distortion [nats per datum]")
        axes.legend()

    return draw


def colour(place: int) -> str:
    """Return a model's colour."""
    from vae_models.evaluation.pictures.style import PALETTE

    return PALETTE[place % len(PALETTE)]


def _look(place: int) -> dict[str, Any]:
    from vae_models.evaluation.pictures.style import PALETTE

    return {"color": colour(place), "linestyle": STYLES[place // len(PALETTE) % len(STYLES)]}


def _letter(place: int) -> str:
    return compare.letters(place + 1)[place]


def _with_unit(metric: str) -> str:
    known = quantity(metric)
    return metric if known is None else f"{metric} [{known.unit}]"


def _plain(text: str) -> str:
    r"""Return text that matplotlib shows as it is: between two $ it would be a formula."""
    return text.replace("$", r"\$")


def _drawing(title: str, draw: Callable[[Axes], None]) -> Drawing:
    from vae_models.evaluation.pictures.style import plot

    svg = plot("curve", draw, inches=(4.6, 3.0)).svg
    assert svg is not None, "a plot is drawn as SVG too"
    text = svg.decode()
    return Drawing(title=title, svg=_own_names(text[text.index("<svg") :], title))


def _own_names(svg: str, title: str) -> str:
    """Return the drawing with its ids made its own: on one page two drawings would share them."""
    from hashlib import blake2b

    own = blake2b(title.encode(), digest_size=6).hexdigest()
    svg = re.sub(r'\bid="([^"]*)"', rf'id="d{own}-\1"', svg)
    svg = re.sub(r'\bhref="#([^"]*)"', rf'href="#d{own}-\1"', svg)
    return re.sub(r"url\(#([^)]*)\)", rf"url(#d{own}-\1)", svg)
