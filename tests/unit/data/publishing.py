"""Small sets in the published formats, and a catalogue that takes them for what is published."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vae_models.data import sums
from vae_models.data.catalogue.records import DataFile
from vae_models.data.fetch import Policy
from vae_models.data.places import Places
from vae_models.data.published import Published
from vae_models.data.records import Dataset
from vae_models.data.sources import SOURCES
from vae_models.parts import Registered

RNG = np.random.default_rng(0)
NOWHERE = "http://127.0.0.1:9/"

Publish = Callable[..., Published]

CATALOGUE: Mapping[str, Published] = {
    name: source for name, source in SOURCES.all().items() if isinstance(source, Published)
}


def substitute(monkeypatch: pytest.MonkeyPatch, *sets: Published) -> None:
    """As if these were the sets of their names."""
    registered = dict(SOURCES.registered())
    for each in sets:
        registered[each.name] = Registered(kind=each.name, part=each, value="tests", package="tests")
    for attribute in ("_own", "_parts"):
        monkeypatch.setattr(SOURCES, attribute, MappingProxyType(registered))
    monkeypatch.setattr(SOURCES, "_all", MappingProxyType({name: found.part for name, found in registered.items()}))


def publish(
    monkeypatch: pytest.MonkeyPatch, places: Places, name: str, contents: dict[str, bytes], **changes: object
) -> Published:
    """Changes the catalogue as if `contents` ({key: bytes}) were what is published; puts them into the folder."""
    a_set, files = CATALOGUE[name], dict(CATALOGUE[name].files)
    for key, content in contents.items():
        form = replace(files[key].forms[0], sha256=hashlib.sha256(content).hexdigest(), bytes=None)
        files[key] = replace(files[key], forms=(form, *files[key].forms[1:]), content=frozenset())
        path = places.data_dir / (files[key].folder or a_set.folder) / form.name  # type: ignore[operator]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    changed = offline(replace(a_set, files=files, facts=a_set.facts.model_copy(update=changes)))
    substitute(monkeypatch, changed)
    return changed


def adopt(monkeypatch: pytest.MonkeyPatch, name: str, contents: dict[str, bytes], **changes: object) -> Published:
    """Changes the catalogue as if `contents` ({key: decompressed}) were what is published; puts nothing anywhere."""
    a_set, files = CATALOGUE[name], dict(CATALOGUE[name].files)
    for key, content in contents.items():
        forms = tuple(replace(form, sha256=None, bytes=None) for form in files[key].forms)
        zipped = forms[0].name.endswith(".zip")
        sum_ = sums.archive_sum(content) if zipped else hashlib.sha256(content).hexdigest()
        files[key] = replace(files[key], forms=forms, content=frozenset({sum_}))
    changed = offline(replace(a_set, files=files, facts=a_set.facts.model_copy(update=changes)))
    substitute(monkeypatch, changed)
    return changed


def offline(a_set: Published) -> Published:
    """Its addresses lead nowhere."""
    return replace(a_set, files=MappingProxyType({key: _offline(file) for key, file in a_set.files.items()}))


def _offline(file: DataFile) -> DataFile:
    forms = tuple(replace(form, urls=(NOWHERE,) if form.urls else ()) for form in file.forms)
    return replace(file, forms=forms)


def load(name: str, places: Places, **more: object) -> Dataset:
    return SOURCES.get(name).load(places, policy=Policy(rounds=1, backoff_seconds=0), **more)  # type: ignore[arg-type]


def random_bytes(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def resized(images: np.ndarray, side: int) -> torch.Tensor:
    """By torch's antialiased bilinear filter: independent of Pillow, which rounds between its two passes."""
    pixels = torch.from_numpy(images.astype(np.float64))
    return F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def places_named(message: str) -> dict[str, str]:
    """{path: note}: every place at which an error says that a file was looked for, and what it says of it."""
    found = {}
    for line in message.splitlines():
        folder, separator, names = line.partition("/: ")
        if line.startswith("  /") and separator:
            for part in names.split(", "):
                name, _, note = part.partition(" (")
                found[f"{folder.strip()}/{name}"] = note.rstrip(")")
    return found
