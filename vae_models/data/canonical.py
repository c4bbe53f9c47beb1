"""The canonical form of a data set of a user's own: a folder with `data.json` and shards, named by what they hold.

    data.json           {"format": 1, "spec", "splits", "made", "source"}, in canonical bytes: sorted keys, no blanks
    train-x-00000.npy   shards of x, of labels and of lengths: plain C-order arrays, (rows, *shape), memory-mappable
    vocabulary.npy      what belongs to `made` and is too large for it: numbers, or texts as the bytes of their JSON

data.json names the SHA-256 of every shard, and the set's digest is data.json's own: a digest stands for every byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from vae_models import bounds
from vae_models.data.errors import DataCorrupt
from vae_models.data.spec import DataSpec, Digest, Support
from vae_models.strict import Strict

DATA_JSON = "data.json"
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
MOST_JSON_BYTES = 1 << 19  # of data.json
MOST_FILES = 4096  # of a set: 1 TiB in whole shards
SHARD_BYTES = 256 * 2**20  # of a shard's numbers, at most, unless it is one row
HEADER_BYTES = 4096  # of an .npy file, at most: what is before its numbers

# bits are stored as the bytes 0 and 255, which are the levels of x
ITEM_BYTES: Mapping[Support, int] = MappingProxyType({"bits": 1, "bytes": 1, "unit": 4, "reals": 4, "tokens": 4})
DTYPES: Mapping[Support, str] = MappingProxyType(
    {"bits": "uint8", "bytes": "uint8", "unit": "float32", "reals": "float32", "tokens": "int32"}
)

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,90}\.npy$")]
Bytes = Annotated[int, Field(ge=1, le=2**50)]


class ShardFile(Strict):
    """One `.npy` file of a set: how many rows it has, its size in bytes (header included), and its SHA-256."""

    file: FileName
    rows: int = Field(ge=0, le=bounds.DATA)
    bytes: Bytes
    sha256: Digest


class SplitFiles(Strict):
    """The files of one split: x in shards, in their order, and labels and lengths where there are any."""

    count: int = Field(ge=1, le=bounds.DATA)
    x: tuple[ShardFile, ...] = Field(min_length=1, max_length=MOST_FILES)
    labels: ShardFile | None = None
    lengths: ShardFile | None = None

    @model_validator(mode="after")
    def _rows_are_counted(self) -> SplitFiles:
        held = {"x": sum(shard.rows for shard in self.x)}
        held |= {name: shard.rows for name, shard in (("labels", self.labels), ("lengths", self.lengths)) if shard}
        for name, rows in held.items():
            if rows != self.count:
                raise ValueError(f"{name} has {rows:,} rows, and the split {self.count:,} data")
        return self

    def files(self) -> Iterator[ShardFile]:
        """Yield every file of the split: x, then labels, then lengths."""
        yield from self.x
        yield from (shard for shard in (self.labels, self.lengths) if shard is not None)


class Canonical(Strict):
    """What data.json says.

    spec:   the facts, without the digest, which is this file's own
    made:   what was done with the values: range, statistics of a standardisation, size and crop, vocabulary
    source: what was read: name, kind, counts, what was left out
    files:  what belongs to `made` and is too large for it, by its name there
    """

    format: Literal[1] = 1
    spec: DataSpec
    splits: dict[SplitName, SplitFiles]
    files: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,50}$")], ShardFile] = Field(default_factory=dict)
    made: dict[str, Any] = Field(default_factory=dict)
    source: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Canonical:
        if self.spec.digest is not None:
            raise ValueError("spec.digest is data.json's own SHA-256, and cannot be in it")
        if missing := [name for name in SPLITS if name not in self.splits]:
            raise ValueError(f"splits lacks {', '.join(missing)}")
        counts = tuple(self.splits[name].count for name in SPLITS)
        if counts != self.spec.sizes:
            raise ValueError(f"splits have {list(counts)} data, and spec.sizes says {list(self.spec.sizes)}")
        shards = self.shards()
        if len(shards) > MOST_FILES:
            raise ValueError(f"there are {len(shards):,} files; at most {MOST_FILES:,} are taken")
        if len({shard.file for shard in shards}) != len(shards):
            raise ValueError("two files have one name")
        for shard in (shard for split in self.splits.values() for shard in split.x):
            self._check_size(shard)
        return self

    def _check_size(self, shard: ShardFile) -> None:
        row = self.spec.elements * ITEM_BYTES[self.spec.support]
        held = shard.bytes - shard.rows * row
        if not 0 < held <= HEADER_BYTES:
            raise ValueError(
                f"{shard.file} has {shard.bytes:,} bytes, and {shard.rows:,} rows of {row:,} bytes with a header of at "
                f"most {HEADER_BYTES:,} do not"
            )
        if shard.rows > 1 and shard.rows * row > SHARD_BYTES:
            raise ValueError(
                f"{shard.file} holds {shard.rows * row:,} bytes of numbers, a shard at most {SHARD_BYTES:,}"
            )

    def shards(self) -> tuple[ShardFile, ...]:
        """Return every file of the set but data.json, split by split, then those that belong to `made`."""
        of_splits = tuple(shard for name in SPLITS for shard in self.splits[name].files())
        return (*of_splits, *(self.files[name] for name in sorted(self.files)))

    @property
    def bytes(self) -> int:
        """Return the bytes of every file of the set but data.json."""
        return sum(shard.bytes for shard in self.shards())


def encode(value: Any) -> bytes:
    """Return the canonical bytes of JSON: sorted keys, no blanks, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(data: bytes) -> str:
    """Return the digest of the set whose data.json has these bytes."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes) -> Canonical:
    """Return the parsed data.json. Raise ValueError (pydantic's ValidationError is one) for any other content."""
    if len(data) > MOST_JSON_BYTES:
        raise ValueError(f"it has {len(data):,} bytes; at most {MOST_JSON_BYTES:,} are taken")
    try:
        value = json.loads(data.decode())
        canonical = encode(value)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if canonical != data:
        raise ValueError("its bytes are not canonical JSON: sorted keys, no blanks, ASCII")
    return Canonical.model_validate(value)


def read(data: bytes, where: str) -> Canonical:
    """Return the parsed data.json at `where`. Raise DataCorrupt for any other content."""
    try:
        return decode(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"]) or "it"
        raise DataCorrupt(f"{where} is not a data set's {DATA_JSON}: {at}: {first['msg']}") from None
    except ValueError as error:
        raise DataCorrupt(f"{where} is not a data set's {DATA_JSON}: {error}") from None


def facts(canonical: Canonical, digest: str) -> DataSpec:
    """Return the facts of the set, its digest among them."""
    return canonical.spec.model_copy(update={"digest": digest})
