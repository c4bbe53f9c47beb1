"""What an evaluation finds out: values with units and errors, tables, pictures, and tensors that are kept as data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vae_models.measures import Mode

if TYPE_CHECKING:
    from torch import Tensor

    from vae_models.protocols import Measure

FINDINGS, TENSORS = "findings.json", "tensors.safetensors"
FORMS = ("svg", "gif")  # that a picture may have beside PNG


class NotFinite(ValueError):  # noqa: N818 - says what is the case
    """A number about a model is NaN or infinite: an evaluation reports none, and nothing else of its evaluator."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """One number about a model.

    name:    what it is, and by which estimator or extractor: "nll_500", "mi_without_self", "fid_inception/prior".
             In MLflow it is "<split>/<name>", or "<split>/beta_<beta>/<name>" of a multi-rate model
    error:   the standard error over data (or seeds, or samples: `note` says which); None: exact, or not estimated
    mode:    which way is better; None where neither is
    measure: of a log-likelihood: density or mass. The two are never compared, and no table has both in one column
    levels:  of a mass: how many values of x it has
    count:   how many data, or samples, it was computed from
    """

    name: str
    value: float
    unit: str
    mode: Mode | None = None
    error: float | None = None
    measure: Measure | None = None
    levels: int | None = None
    count: int
    note: str = ""

    def __post_init__(self) -> None:
        """Raise NotFinite for what is no finite number."""
        if not math.isfinite(self.value) or not (self.error is None or math.isfinite(self.error)):
            raise NotFinite(f"{self.name} is {self.value} with the error {self.error}: no finite number")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows for people, and for curves. columns: each with its unit, such as "rate [nats]"."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[float | int | str | None, ...], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture, as bytes. svg: the same as a drawing, of plots; None of images. gif: the same in motion, of videos.

    caption: of both
    """

    name: str
    png: bytes
    svg: bytes | None = None
    gif: bytes | None = None
    caption: str = ""

    def write(self, folder: Path) -> None:
        """Write NAME.png into the folder, and its other forms beside it."""
        stem = folder / self.name
        stem.parent.mkdir(parents=True, exist_ok=True)
        for form in ("png", *FORMS):
            if (content := getattr(self, form)) is not None:
                stem.with_name(f"{stem.name}.{form}").write_bytes(content)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What one evaluator returns. notes: what a reader has to know, such as what was left out and why.

    tensors: what is kept beside the model as data, such as a fitted sampler's; names are of one evaluator's own.
    """

    values: tuple[Value, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(
            values=(*self.values, *other.values),
            tables=(*self.tables, *other.tables),
            pictures=(*self.pictures, *other.pictures),
            tensors={**self.tensors, **other.tensors},
            notes=(*self.notes, *other.notes),
        )

    def write(self, folder: Path) -> None:
        """Write everything into a new or empty folder: findings.json, NAME.png, .svg and .gif, tensors.safetensors."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        for picture in self.pictures:
            picture.write(folder)
        if self.tensors:
            save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, folder / TENSORS)
        text = json.dumps(self.plain(), indent=1, allow_nan=False)
        partial = folder / f"{FINDINGS}.partial"
        partial.write_text(text + "\n")
        partial.replace(folder / FINDINGS)  # last: who finds it finds everything

    def plain(self) -> dict[str, Any]:
        """Return everything but pictures' bytes and tensors, as JSON has it."""
        return {
            "values": [asdict(value) for value in self.values],
            "tables": [asdict(table) for table in self.tables],
            "pictures": [
                {"name": picture.name, "caption": picture.caption}
                | {form: getattr(picture, form) is not None for form in FORMS}
                for picture in self.pictures
            ],
            "tensors": sorted(self.tensors),
            "notes": list(self.notes),
        }


def read(folder: Path) -> Findings | None:
    """Return what `Findings.write` wrote there; None where it was not written to its end."""
    from safetensors.torch import load_file

    try:
        data = json.loads((folder / FINDINGS).read_bytes())
    except FileNotFoundError:
        return None
    return replace(
        of_plain(data),
        pictures=tuple(_picture(folder, picture) for picture in data["pictures"]),
        tensors=load_file(folder / TENSORS) if data["tensors"] else {},
    )


def of_plain(data: Mapping[str, Any]) -> Findings:
    """Return what `Findings.plain` was made of, without pictures and tensors, which lie elsewhere."""
    return Findings(
        values=tuple(Value(**value) for value in data["values"]),
        tables=tuple(_table(table) for table in data["tables"]),
        notes=tuple(data["notes"]),
    )


def _table(data: Mapping[str, Any]) -> Table:
    rows: Sequence[Sequence[Any]] = data["rows"]
    return Table(
        name=data["name"], columns=tuple(data["columns"]), rows=tuple(tuple(row) for row in rows), note=data["note"]
    )


def _picture(folder: Path, data: Mapping[str, Any]) -> Picture:
    name = str(data["name"])
    forms = {form: (folder / f"{name}.{form}").read_bytes() for form in FORMS if data.get(form)}
    return Picture(name=name, png=(folder / f"{name}.png").read_bytes(), caption=data["caption"], **forms)
