"""BAIR's robot pushing: TFRecords that are converted once, into one file of the cache, from which videos are read.

bair, bair-12     42,240 / 1,024 / 256 videos of 30 frames, or of the first 12 of them: the published training and test
                  files, by their numbers; the last 1,024 of training for validation (none is published). The camera
                  image_aux1, as all published results
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from vae_models.data.builders.common import Files, from_files
from vae_models.data.catalogue.video import BAIR_FRAME, BAIR_FRAMES
from vae_models.data.computed import Beginnings
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.data.fetch import sha256_of
from vae_models.data.formats.tfrecords import byte_features, read_records
from vae_models.data.records import Dataset, ReadRows, StoredSplit
from vae_models.data.shards import Shard, ShardRows
from vae_models.data.written import Content, manifest_of, written_once

_WHOLE = (BAIR_FRAMES, *BAIR_FRAME)
_VIDEO_BYTES = BAIR_FRAMES * 3 * 64 * 64
_CAMERA = "image_aux1"  # of the two; the one that all published results are of


@from_files
def bair(files: Files) -> Dataset:
    """Return the videos; of fewer frames than the published ones, their beginnings."""
    sizes = files.facts.sizes
    path = files.places.cache_dir / files.published.folder / "bair.uint8"
    total = sum(sizes) * _VIDEO_BYTES
    written_once(
        path, partial(_content, files), total=total, what=f"{files.published.name}: converting", progress=files.progress
    )
    sources = _sources(path, total, sum(sizes))
    starts = [0, sizes[0], sum(sizes[:2])]
    rows = [
        ShardRows([Shard(path=path, rows=size, offset=start * _VIDEO_BYTES)], _WHOLE, torch.uint8)
        for start, size in zip(starts, sizes, strict=True)
    ]
    train, val, test = (_split(each, files.facts.shape[0]) for each in rows)
    return Dataset(name=files.published.name, train=train, val=val, test=test, shape=files.facts.shape, sources=sources)


def _split(rows: ReadRows, frames: int) -> StoredSplit:
    if frames == BAIR_FRAMES:
        return StoredSplit(rows=rows)
    return StoredSplit(rows=Beginnings(rows, frames), continued=rows)


def _sources(path: Path, total: int, count: int) -> dict[str, str]:
    """Return of what the file was made. Raise DataCorrupt where it is not what it was made to be."""
    manifest = manifest_of(path)
    mend = f"delete {manifest}, and the records are converted again"
    try:
        made = json.loads(manifest.read_text())
        shape, sources = made["shape"], {str(key): str(value) for key, value in made["sources"].items()}
        size = path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataCorrupt(f"{path} or {manifest.name} is truncated or altered: {error!r}; {mend}") from error
    if shape != [count, *_WHOLE] or size != total:
        raise DataCorrupt(f"{path} has {size:,} bytes of {shape}, expected {total:,} of {[count, *_WHOLE]}; {mend}")
    return sources


# --- conversion -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One file of records: of which split, its name, and how it is opened."""

    split: str
    name: str
    open: Callable[[], IO[bytes]]


@contextmanager
def _content(files: Files) -> Iterator[Content]:
    _need_readers(files.published.name)
    path, form = files.locate("videos")
    with ExitStack() as stack:
        if path.is_dir():
            members = list(_in_folder(path))
        else:
            _check_sum(path, form.sha256)
            members = list(_in_archive(stack, path))
        records = hashlib.sha256()
        yield Content(
            blocks=_videos(files, path, members, records),
            made=lambda: {"shape": [sum(files.facts.sizes), *_WHOLE], "sources": {"records": records.hexdigest()}},
        )


def _need_readers(name: str) -> None:
    try:
        import google.protobuf  # noqa: F401 - whether they are there
        import google_crc32c  # noqa: F401
    except ImportError as error:
        raise DataMissing(
            f"{name}: reading TFRecords needs {error.name}, which is not installed: pip install 'vaesvc[video]'"
        ) from None


def _check_sum(path: Path, expected: str | None) -> None:
    sha256 = sha256_of(path)
    if expected not in (None, sha256):
        raise DataCorrupt(
            f"{path} is truncated or altered: expected SHA-256 {expected}, found {sha256} "
            f"({path.stat().st_size:,} bytes); replace it by the published file"
        )


def _in_folder(path: Path) -> Iterator[_Member]:
    for each in path.rglob("*.tfrecords"):
        yield _Member(split=each.parent.name, name=each.name, open=partial(_opened, each))


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _in_archive(stack: ExitStack, path: Path) -> Iterator[_Member]:
    try:
        archive = stack.enter_context(tarfile.open(path, "r:"))  # noqa: SIM115 - the stack closes it
        for each in archive.getmembers():
            *_, split, name = ("", *each.name.split("/"))
            if each.isfile() and name.endswith(".tfrecords"):
                yield _Member(split=split, name=name, open=partial(_extracted, archive, each))
    except tarfile.TarError as error:
        raise DataCorrupt(f"{path} is no readable tar archive: {error}; replace it by the published file") from error


def _extracted(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None, "a regular file"
    return file


def _videos(files: Files, path: Path, members: Sequence[_Member], records: Any) -> Iterator[bytes]:
    """Yield the videos of training, then those of the test, each [frames, 3, 64, 64]. records: a sum that they go into.

    Raise DataCorrupt, with the file, for a record that is none, and where their number is not the published one.
    """
    sizes = files.facts.sizes
    expected: Mapping[str, int] = {"train": sizes[0] + sizes[1], "test": sizes[2]}
    for split, count in expected.items():
        count_read = 0
        for member in sorted((each for each in members if each.split == split), key=_natural):
            with member.open() as file:
                try:
                    for record in read_records(file):
                        records.update(record)
                        yield _video(record)
                        count_read += 1
                except (ValueError, OSError) as error:
                    raise DataCorrupt(
                        f"{path}: {split}/{member.name}: {error}; replace it by the published file"
                    ) from error
        if count_read != count:
            raise DataCorrupt(
                f"{path} has {count_read:,} videos in {split}, expected {count:,}: replace it by the published file"
            )


def _natural(member: _Member) -> tuple[tuple[int, ...], str]:
    """Return the key of the order in which traj_256_to_511 comes before traj_1024_to_1279."""
    return tuple(map(int, re.findall(r"\d+", member.name))), member.name


def _video(record: bytes) -> bytes:
    frames = byte_features(record, [f"{frame}/{_CAMERA}/encoded" for frame in range(BAIR_FRAMES)])
    for at, frame in enumerate(frames):
        if len(frame) != 64 * 64 * 3:
            raise ValueError(f"frame {at} of a record has {len(frame):,} bytes, expected {64 * 64 * 3:,}: 64 x 64 x 3")
    video = np.frombuffer(b"".join(frames), np.uint8).reshape(BAIR_FRAMES, 64, 64, 3)
    return video.transpose(0, 3, 1, 2).tobytes()
