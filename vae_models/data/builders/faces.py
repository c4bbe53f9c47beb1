"""CelebA and CelebA-HQ: pictures that are decoded once, into the cache.

celeba            162,770 / 19,867 / 19,962 by the published list; centre crop 140, bilinear to 64x64
celeba-hq         24,183 / 2,993 / 2,824: the split of the CelebA image that each was made from; bilinear to 128x128
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from vae_models.data.builders.common import Files, dataset, from_files
from vae_models.data.decoded import Pictures, Recipe, Source, decoded, opened
from vae_models.data.errors import DataCorrupt
from vae_models.data.fetch import sha256_of
from vae_models.data.records import Dataset

# AR-ELBO I.2: "center cropping of 140 x 140, then resized to 64 x 64"; I.3: without cropping, to 128 x 128
_CELEBA = Recipe(size=(178, 218), crop=140, side=64)
_CELEBA_HQ = Recipe(size=None, crop=None, side=128)
_HQ_LIST = "CelebA-HQ-to-CelebA-mapping.txt"


@from_files
def celeba(files: Files) -> Dataset:
    @contextmanager
    def source() -> Iterator[Source]:
        parts = files.read("partition", _partition)
        names = sorted(parts, key=parts.__getitem__)  # stable: in the list's order within a split
        _counted(files, parts, "list_eval_partition.txt")
        with _pictures(files) as pictures:
            yield Source(pictures=pictures, names=names, sources=files.sources)

    return _built(files, _CELEBA, source)


@from_files
def celeba_hq(files: Files) -> Dataset:
    """Build CelebA-HQ: picture i is in the split of the CelebA picture that it was made from."""

    @contextmanager
    def source() -> Iterator[Source]:
        celeba_parts = files.read("partition", _partition)
        with _pictures(files) as pictures:
            parts = _hq_partition(pictures.read(_HQ_LIST), celeba_parts)
            _counted(files, parts, _HQ_LIST)
            names = sorted(parts, key=parts.__getitem__)
            yield Source(pictures=pictures, names=names, sources=files.sources)

    return _built(files, _CELEBA_HQ, source)


def _built(files: Files, recipe: Recipe, source: Callable[[], AbstractContextManager[Source]]) -> Dataset:
    parts, sources = decoded(files.published, recipe, files.places.cache_dir, source, files.progress)
    train, val, test = ((images, None) for images in parts)
    return dataset(files, train, val, test, sources=sources)


@contextmanager
def _pictures(files: Files) -> Iterator[Pictures]:
    path, form = files.locate("images")
    if path.is_file():
        sha256 = sha256_of(path)
        if form.sha256 not in (None, sha256):
            raise DataCorrupt(
                f"{path} is truncated or altered: expected SHA-256 {form.sha256}, found {sha256} "
                f"({path.stat().st_size:,} bytes); replace it by the published file"
            )
        files.sources[path.name] = sha256
    with opened(path) as pictures:
        yield pictures


def _partition(content: bytes) -> dict[str, int]:
    """Read `list_eval_partition.txt`: a name and 0 (train), 1 (val) or 2 (test) a line."""
    parts = {}
    for number, line in enumerate(_text(content), 1):
        words = line.split()
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise ValueError(f"line {number}: {line[:40]!r}, expected a file name and 0, 1 or 2")
        parts[words[0]] = int(words[1])
    return parts


def _hq_partition(content: bytes, celeba_parts: Mapping[str, int]) -> dict[str, int]:
    """Read `CelebA-HQ-to-CelebA-mapping.txt`: a line of titles, then `idx orig_idx orig_file` a line."""
    parts = {}
    for number, line in enumerate(_text(content)[1:], 2):
        words = line.split()
        if len(words) != 3 or words[2] not in celeba_parts:
            raise DataCorrupt(
                f"{_HQ_LIST}, line {number}: {line[:60]!r}, expected a number, a number and a CelebA file"
            )
        parts[f"CelebA-HQ-img/{words[0]}.jpg"] = celeba_parts[words[2]]
    return parts


def _text(content: bytes) -> list[str]:
    return [line for line in content.decode("ascii", errors="replace").splitlines() if line.strip()]


def _counted(files: Files, parts: Mapping[str, int], name: str) -> None:
    counts = tuple(list(parts.values()).count(part) for part in (0, 1, 2))
    if counts != files.facts.sizes:
        raise DataCorrupt(f"{name} names {counts} pictures in train, val and test, expected {files.facts.sizes}")
