"""The page: one HTML file without scripts, which asks no server for anything."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from service import __version__
from service.kinds.evaluate import tables
from service.report import compare, curves
from service.report.records import Reported
from vae_models.evaluation.findings import Picture, Value

TEMPLATE = "page.html"
SAMPLES = ("samples/", "means/")  # how the names of pictures of samples begin


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture of several models, side by side. pictures: (letter, place, picture) of each that has it."""

    name: str
    pictures: tuple[tuple[str, int, Picture], ...]


def render(models: Sequence[Reported], title: str = "") -> str:
    """Return the page as HTML. Every text that comes from outside is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "uri": _uri,
        "moving": _moving,
        "value": _value,
        "cell": tables.cell,
        "inline": Markup,
        "words": _words,
    }
    letters = compare.letters(len(models))
    drawn = [*curves.rate_distortion(models), *curves.training(models)]
    samples, others = _pictures(models, letters)
    settings = compare.settings(models)
    return environment.get_template(TEMPLATE).render(
        title=title or f"{len(models)} models" if len(models) > 1 else title or models[0].name,
        version=__version__,
        made=time.strftime("%Y-%m-%d %H:%M", time.localtime()),
        models=list(zip(letters, (curves.colour(place) for place in range(len(models))), models, strict=True)),
        differences=[setting for setting in settings if setting.differs],
        common=[setting for setting in settings if not setting.differs],
        groups=compare.groups(models),
        drawings=drawn,
        samples=samples,
        pictures=others,
        tables=list(_tables(models, letters)),
        noise=list(compare.noise(models)),
    )


def _pictures(models: Sequence[Reported], letters: Sequence[str]) -> tuple[list[Shown], list[Shown]]:
    """Return the pictures of samples, and the others, by name: those of an evaluation, then those of training."""
    by_name: dict[str, dict[int, Picture]] = {}
    for place, model in enumerate(models):
        for each in model.evaluated:
            for picture in each.findings.pictures:
                by_name.setdefault(f"{picture.name} ({each.split})", {})[place] = picture
    for place, model in enumerate(models):
        for picture in model.pictures:
            by_name.setdefault(f"{picture.name} (end of training)", {})[place] = picture
    shown = [
        Shown(name=name, pictures=tuple((letters[place], place, by[place]) for place in sorted(by)))
        for name, by in by_name.items()
    ]
    of_samples = [each for each in shown if each.name.startswith(SAMPLES)]
    return of_samples, [each for each in shown if not each.name.startswith(SAMPLES)]


def _tables(models: Sequence[Reported], letters: Sequence[str]) -> Iterator[dict[str, Any]]:
    for letter, model in zip(letters, models, strict=True):
        for each in model.evaluated:
            for table in each.findings.tables:
                yield {"letter": letter, "split": each.split, "table": table}


def _uri(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"


def _moving(picture: Picture) -> str:
    return "" if picture.gif is None else f"data:image/gif;base64,{base64.b64encode(picture.gif).decode()}"


def _words(name: str) -> Markup:
    """Return a long name that a line may end in, after / and _."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_.])", name))


def _value(value: Value) -> str:
    shown, error = tables.with_error(value.value, value.error)
    return shown if error is None else f"{shown} ± {error}"
