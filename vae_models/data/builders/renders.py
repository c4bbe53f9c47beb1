"""Renders of faces and of chairs.

chairs            69,092 / 8,637 / 8,637 in the order of RandomState(0).permutation (no split is published); the whole
                  renders in grey, bilinear to 64x64
faces             101,640 / 12,705 / 12,705 in the order of RandomState(0).permutation (no split is published)
"""

from __future__ import annotations

import io
import pickle  # nosec B403  # for its error alone
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vae_models.data.builders.common import Files, cut, dataset, from_files
from vae_models.data.catalogue.renders import FACTORS
from vae_models.data.decoded import Folder, Pictures, Recipe, Source, decoded
from vae_models.data.errors import DataCorrupt
from vae_models.data.fetch import sha256_of
from vae_models.data.records import Dataset

# numpy keeps the streams of the legacy RandomState fixed for ever, which it does not promise for Generator
_SEED = 0
_CHAIRS = Recipe(size=(600, 600), crop=None, side=64, grey=True)


@from_files
def faces(files: Files) -> Dataset:
    """Return the renders in a fixed random order, with the number of each factor's value."""
    renders = files.read("renders", _renders)
    labels = np.stack(np.meshgrid(*(np.arange(size) for size in FACTORS), indexing="ij"), axis=-1).reshape(-1, 4)
    order = np.random.RandomState(_SEED).permutation(len(renders))
    return dataset(files, *cut(renders[order], labels[order], files.facts.sizes))


def _renders(content: bytes) -> NDArray[np.uint8]:
    """Return the renders, [n, 64, 64], of a file of torch. Raise ValueError for another; no code in it is run."""
    try:
        tensor = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"no file of a tensor alone ({type(error).__name__})") from error
    shape = (*FACTORS, 64, 64)
    if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.uint8 or tuple(tensor.shape) != shape:
        form = f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise ValueError(f"{form}, expected torch.uint8 {list(shape)}")
    return tensor.reshape(-1, 64, 64).numpy()


@from_files
def chairs(files: Files) -> Dataset:
    """Return the renders, whole, in grey, in a fixed random order."""

    @contextmanager
    def source() -> Iterator[Source]:
        path, _ = files.locate("renders")
        with _opened(path) as (pictures, names):
            ordered = sorted(names)
            expected = sum(files.facts.sizes)
            if len(ordered) != expected:
                raise DataCorrupt(
                    f"{path} has {len(ordered):,} renders, expected {expected:,}: replace it by the published file"
                )
            order = np.random.RandomState(_SEED).permutation(expected)
            yield Source(pictures=pictures, names=[ordered[place] for place in order], sources=files.sources)

    parts, sources = decoded(files.published, _CHAIRS, files.places.cache_dir, source, files.progress)
    train, val, test = ((images, None) for images in parts)
    return dataset(files, train, val, test, sources=sources)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Pictures, list[str]]]:
    """Yield the pictures and their names: MODEL/renders/NAME.png."""
    if path.is_dir():
        yield Folder(path), [each.relative_to(path).as_posix() for each in path.glob("*/renders/*.png")]
        return
    try:
        with tarfile.open(path, "r:") as archive:
            members = {
                "/".join(member.name.split("/")[-3:]): member
                for member in archive
                if member.isfile() and member.name.endswith(".png") and member.name.split("/")[-2:-1] == ["renders"]
            }
            yield _Tar(path, archive, members), list(members)
    except tarfile.TarError as error:
        raise DataCorrupt(
            f"{path} is no readable tar archive: {error} (SHA-256 of the file: {sha256_of(path)}); replace it by the "
            "published file"
        ) from error


class _Tar:
    """The members of an archive, by name."""

    def __init__(self, path: Path, archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> None:
        self._path, self._archive, self._members = path, archive, members
        self._reading = threading.Lock()

    def read(self, name: str) -> bytes:
        """Return a member's bytes. Raise DataCorrupt where it is cut short."""
        member = self._members[name]
        with self._reading:
            file = self._archive.extractfile(member)
            content = b"" if file is None else file.read()
        if len(content) != member.size:
            raise DataCorrupt(f"{self._path} is truncated or altered at {name}; replace it by the published file")
        return content
