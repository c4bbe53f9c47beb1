"""The canonical form: what is written is read, nothing half-written is taken for a set, and nothing altered passes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_models.data import canonical, stored
from vae_models.data.canonical import SPLITS
from vae_models.data.errors import DataCorrupt, DataError, DataMissing
from vae_models.data.ingest import writer
from vae_models.data.spec import DataSpec, LabelSpec

IMAGE = (1, 3, 2)


def write(into: Path, counts: tuple[int, int, int] = (5, 2, 1), *, salt: int = 0) -> Path:
    """A set of images whose datum i of the split s is filled with 100 s + i + salt, with labels i."""
    spec = DataSpec(
        shape=IMAGE,
        axes=("channel", "height", "width"),
        support="bytes",
        sizes=counts,
        labels=LabelSpec(name="class", classes=("a", "b")),
    )
    with writer.draft(into) as draft:
        shards = draft.allocate(dict(zip(SPLITS, counts, strict=True)), IMAGE, np.dtype(np.uint8))
        for number, split in enumerate(SPLITS):
            shards[split].write(0, expected(counts[number], number, salt))
            draft.labels(split, np.arange(counts[number], dtype=np.int64) % 2)
        return draft.finish(spec, made={"notes": ["ä"]}, source={"name": "x"})


def expected(count: int, split: int, salt: int = 0) -> np.ndarray:
    values = (100 * split + np.arange(count) + salt).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, *IMAGE)).copy()


@pytest.fixture
def tiny_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "SHARD_BYTES", 128 + 2 * 6)  # two images


def test_what_was_written_is_read(tmp_path: Path, tiny_shards: None) -> None:
    found = stored.read(write(tmp_path), sums=True)
    assert found.spec.sizes == (5, 2, 1)
    assert found.spec.digest == found.folder.name == found.digest
    assert [entry.rows for entry in found.manifest.splits["train"].x] == [2, 2, 1]
    for number, split in enumerate(SPLITS):
        rows = found.x(split)
        np.testing.assert_array_equal(rows[:], expected(found.spec.sizes[number], number))
        np.testing.assert_array_equal(rows[-1], rows[len(rows) - 1])
        labels = found.labels(split)
        assert labels is not None
        assert labels.dtype == np.int64
        assert found.lengths(split) is None
    np.testing.assert_array_equal(found.x("train").take(np.array([4, 0, 3, 3]))[:, 0, 0, 0], [4, 0, 3, 3])
    with pytest.raises(IndexError):
        found.x("train").take(np.array([5]))


def test_shards_are_plain_npy_and_the_digest_is_the_sum_of_data_json(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert hashlib.sha256((folder / "data.json").read_bytes()).hexdigest() == folder.name
    assert np.load(folder / "train-x-00000.npy").shape == (5, *IMAGE)
    assert sorted(path.name for path in folder.iterdir()) == [
        "data.json",
        *(f"{split}-{part}.npy" for split in sorted(SPLITS) for part in ("labels", "x-00000")),
    ]
    assert json.loads((folder / "data.json").read_bytes())["made"] == {"notes": ["ä"]}


def test_the_same_set_is_written_once(tmp_path: Path) -> None:
    first, inode = write(tmp_path), (tmp_path / write(tmp_path).name / "data.json").stat().st_ino
    assert write(tmp_path) == first
    assert (first / "data.json").stat().st_ino == inode
    assert write(tmp_path, salt=1) != first
    (first / "train-x-00000.npy").write_bytes(b"short")
    stored.read(write(tmp_path), sums=True)  # a damaged one is replaced


def test_two_at_once_are_safe(tmp_path: Path) -> None:
    threads = [threading.Thread(target=write, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    stored.read(folder, sums=True)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from vae_models.data.ingest import writer
with writer.draft(Path(sys.argv[1])) as draft:
    draft.allocate({"train": 9, "val": 1, "test": 1}, (4,), np.dtype("<f4"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_no_set_and_goes(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = (path for path in tmp_path.iterdir() if path.is_dir())
    with pytest.raises(DataMissing):
        stored.read(left)
    write(tmp_path)
    assert not left.exists()


def test_a_living_draft_is_let_be(tmp_path: Path) -> None:
    with writer.draft(tmp_path) as draft:
        write(tmp_path)
        assert draft.folder.is_dir()
    assert not draft.folder.exists()


def _truncate(folder: Path) -> None:
    with (folder / "val-x-00000.npy").open("r+b") as file:
        file.truncate(130)


def _edit(before: bytes, after: bytes, name: str = "data.json") -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert before in content
        (folder / name).write_bytes(content.replace(before, after))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "has 130 bytes, expected 140"),
        (lambda folder: (folder / "test-labels.npy").unlink(), "cannot be read: No such file"),
        (_edit(b'"format":1', b'"format": 1'), "not canonical JSON"),
        (_edit(b'"sizes":[5,2,1]', b'"sizes":[5,2,2]'), "and spec.sizes says"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    folder = write(tmp_path)
    damage(folder)
    with pytest.raises(DataCorrupt, match=message):
        stored.read(folder)


def test_an_altered_value_is_found_on_request(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with (folder / "val-x-00000.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    found = stored.read(folder)
    with pytest.raises(DataCorrupt, match=r"val-x-00000\.npy is altered: expected SHA-256"):
        found.verify()
    with pytest.raises(DataCorrupt, match="expected 0000"):
        stored.read(folder, digest="0" * 64)


def test_an_array_of_another_type_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    path = folder / "train-x-00000.npy"
    path.write_bytes(path.read_bytes().replace(b"|u1", b"|i1"))
    with pytest.raises(DataCorrupt, match="is int8 of shape"):
        stored.read(folder).x("train")


def test_a_disk_without_room_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with writer.draft(tmp_path) as draft, pytest.raises(DataError, match=r"takes .* GB more in"):
        draft.allocate({"train": 10**9, "val": 10**9, "test": 10**9}, (1, 1024, 1024), np.dtype(np.uint8))
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_datum_larger_than_a_shard_is_refused(tmp_path: Path) -> None:
    with writer.draft(tmp_path) as draft, pytest.raises(DataError, match="make it smaller"):
        draft.allocate({"train": 1, "val": 1, "test": 1}, (2**28,), np.dtype(np.uint8))


@settings(max_examples=30)
@given(
    kept=st.lists(st.booleans(), min_size=1, max_size=40).filter(any),
    per_shard=st.integers(1, 9),
    moved=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
def test_rows_keep_their_place_in_any_order_and_gaps_close(
    tmp_path_factory: pytest.TempPathFactory, kept: list[bool], per_shard: int, moved: int, order: object
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "SHARD_BYTES", 128 + per_shard * 8)
        patch.setattr(writer, "_MOVED_BYTES", moved * 8)
        folder = tmp_path_factory.mktemp("shards")
        values = np.arange(2 * len(kept), dtype="<i4").reshape(-1, 2)
        shards = writer.Shards(folder=folder, split="train", count=len(kept), shape=(2,), dtype=values.dtype)
        shards.create()
        starts = list(range(0, len(kept), 3))
        order.shuffle(starts)  # type: ignore[attr-defined]
        for start in starts:
            shards.write(start, values[start : start + 3])
        np.testing.assert_array_equal(shards.read(0, len(kept)), values)
        shorter = shards.keep(np.array(kept))
        found = np.concatenate([np.load(path) for path in sorted(folder.iterdir())])
        assert len(shorter.rows) == len(list(folder.iterdir()))
    np.testing.assert_array_equal(found, values[np.array(kept)])
    assert shorter.count == sum(kept)


@settings(max_examples=30)
@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=5), rows=st.lists(st.integers(0, 10**6), max_size=20))
def test_rows_over_shards_are_one_array(counts: list[int], rows: list[int]) -> None:
    whole = np.arange(3 * sum(counts), dtype=np.float32).reshape(-1, 3)
    found = stored.Rows(tuple(np.split(whole, np.cumsum(counts)[:-1])))
    chosen = np.array(rows, dtype=np.int64) % len(whole)
    np.testing.assert_array_equal(found.take(chosen), whole[chosen])
    assert found.shape == whole.shape
    for row in range(-len(whole), len(whole)):
        np.testing.assert_array_equal(found[row], whole[row])
