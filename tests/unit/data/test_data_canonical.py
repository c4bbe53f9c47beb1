"""data.json: its digest, what it promises of its shards, and what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from vae_models.data import canonical
from vae_models.data.errors import DataCorrupt

SHA = "a" * 64


def shard(name: str, rows: int, *, row: int = 12, header: int = 128) -> dict[str, Any]:
    return {"file": name, "rows": rows, "bytes": header + rows * row, "sha256": SHA}


GOOD: dict[str, Any] = {
    "format": 1,
    "spec": {
        "shape": [3, 2, 2], "axes": ["channel", "height", "width"], "support": "bytes", "sizes": [5, 2, 1],
        "labels": None, "lengths": False, "vocabulary": None,
    },
    "splits": {
        "train": {"count": 5, "x": [shard("train-x-00000.npy", 3), shard("train-x-00001.npy", 2)]},
        "val": {"count": 2, "x": [shard("val-x-00000.npy", 2)]},
        "test": {"count": 1, "x": [shard("test-x-00000.npy", 1)], "labels": shard("test-labels.npy", 1, row=8)},
    },
    "made": {"range": "bytes as they are"},
    "source": {"name": "photos", "kind": "images"},
}  # fmt: skip


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with the value at `path` replaced, or left out where it is `...`."""
    whole = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    at: Any = whole
    for name in parents:
        at = at[int(name)] if isinstance(at, list) else at[name]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return whole


def test_the_digest_stands_for_every_byte() -> None:
    data = canonical.encode(GOOD)
    found = canonical.decode(data)
    assert canonical.facts(found, canonical.digest_of(data)).digest == canonical.digest_of(data)
    assert found.spec.shape == (3, 2, 2)
    assert found.bytes == 5 * 128 + 8 * 12 + 8
    assert [shard.file for shard in found.shards()] == [
        "train-x-00000.npy", "train-x-00001.npy", "val-x-00000.npy", "test-x-00000.npy", "test-labels.npy",
    ]  # fmt: skip
    other = canonical.encode(changed("splits.val.x.0.sha256", "b" * 64))
    assert canonical.digest_of(other) != canonical.digest_of(data)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("format", 2, "format: Input should be 1"),
        ("spec.digest", SHA, "spec.digest is data.json's own SHA-256"),
        ("spec.sizes", [5, 2, 2], r"splits have \[5, 2, 1\] data, and spec.sizes says \[5, 2, 2\]"),
        ("spec.shape", [3, 2], "axes"),
        ("splits.val", ..., "splits lacks val"),
        ("splits.val.count", 3, "x has 2 rows, and the split 3 data"),
        ("splits.test.labels.rows", 2, "labels has 2 rows, and the split 1 data"),
        ("splits.val.x.0.file", "../val.npy", "splits.val.x.0.file: String should match"),
        ("splits.val.x.0.file", "data.json", "splits.val.x.0.file: String should match"),
        ("splits.val.x.0.file", "train-x-00000.npy", "two files have one name"),
        ("splits.val.x.0.bytes", 24, "val-x-00000.npy has 24 bytes, and 2 rows of 12 bytes with a header"),
        ("splits.val.x.0.bytes", 10**6, "val-x-00000.npy has 1,000,000 bytes"),
        ("splits.val.x.0.sha256", "A" * 64, "splits.val.x.0.sha256: String should match"),
        ("splits.extra", {}, "splits.extra"),
        ("surprise", 1, "surprise: Extra inputs are not permitted"),
    ],
)
def test_what_promises_nothing_is_refused(path: str, value: Any, told: str) -> None:
    with pytest.raises(DataCorrupt, match=f"here is not a data set's data.json: .*{told}"):
        canonical.read(canonical.encode(changed(path, value)), "here")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "Expecting value"),
        (b"[1,2]", "Input should be a valid dictionary"),
        (b"\xff\xfe", "'utf-8' codec can't decode"),
        (b"[" * 100_000, "nested too deeply"),
        (json.dumps(GOOD).encode(), "not canonical JSON"),
        (canonical.encode(GOOD | {"source": "x" * canonical.MOST_JSON_BYTES}), "at most 524,288 are taken"),
    ],
    ids=["empty", "a list", "no text", "deep", "blanks", "large"],
)
def test_what_is_no_canonical_json_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(DataCorrupt, match=told):
        canonical.read(data, "here")


def test_a_shard_is_no_larger_than_it_may_be() -> None:
    rows = canonical.SHARD_BYTES // 12 + 1
    whole = changed("splits.train", {"count": rows, "x": [shard("train-x-00000.npy", rows)]})
    whole["spec"]["sizes"][0] = rows
    with pytest.raises(DataCorrupt, match="a shard at most 268,435,456"):
        canonical.read(canonical.encode(whole), "here")
