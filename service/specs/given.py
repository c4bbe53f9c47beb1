"""What somebody submits, read but not yet understood: a name, a file or a mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from service import spec_text
from vae_models.strict import SCALARS

Source = str | Path | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Given:
    """A spec as it was given. fields: of a spec, as they were written. name: what the file's name suggests to call it,
    where it is a file. called: what was written in place of a file, such as a recipe's name. source: as it was written,
    for messages."""

    fields: Mapping[str, Any]
    name: str | None = None
    called: str | None = None
    source: str = "the spec"


def read(source: Source) -> Given:
    """Read a mapping, a `.yaml`, `.yml` or `.json` file, or take the text for a name. Raises UsageError."""
    if isinstance(source, Mapping):
        spec_text.refuse_depth(source)
        return Given(fields={str(name): plain(value) for name, value in source.items()})
    path = Path(source)
    if isinstance(source, Path) or path.suffix in spec_text.SUFFIXES:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")
        return Given(fields=spec_text.read_file(path), name=name, source=str(path))
    return Given(fields={"recipe": source}, called=source, source=source)


def plain(value: Any) -> Any:
    """Return models, mappings and tuples as dicts and lists; of a model only what was set."""
    if type(value) in SCALARS:
        return value
    if isinstance(value, (list, tuple)):
        return [part if type(part) in SCALARS else plain(part) for part in value]
    if isinstance(value, (dict, Mapping)):
        return {str(name): part if type(part) in SCALARS else plain(part) for name, part in value.items()}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    return value
