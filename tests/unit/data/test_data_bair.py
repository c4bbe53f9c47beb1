"""BAIR's robot pushing: TFRecords written here byte by byte, converted once, read from the disk by their numbers."""

from __future__ import annotations

import builtins
import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.data.publishing import Publish, load
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.data.formats.tfrecords import byte_features, read_records
from vae_models.data.places import Places
from vae_models.data.published import Published
from vae_models.data.records import Dataset, StoredSplit

NAMES = {"train": ("traj_1024_to_1279", "traj_256_to_511", "traj_0_to_255"), "test": ("traj_0_to_255",)}
ORDER = ("traj_0_to_255", "traj_256_to_511", "traj_1024_to_1279")
EACH, SIZES = 2, (3, 3, 2)  # videos of a file; of train, val and test
RNG = np.random.RandomState(0)


# --- a writer of its own: sums bit by bit, messages by the rules of the wire -----------------------------------------


def crc32c(data: bytes) -> int:
    """RFC 3720, appendix B.4, a bit at a time with a table of a byte's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


TABLE = [_entry(byte) for byte in range(256)]


def framed(data: bytes) -> bytes:
    def masked(part: bytes) -> bytes:
        crc = crc32c(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def tagged(number: int, content: bytes) -> bytes:
    size, varint = len(content), b""
    while size >= 128:
        varint, size = varint + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + varint + bytes([size]) + content


def example(features: dict[str, bytes | list[float]]) -> bytes:
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = tagged(1, tagged(1, value))
        else:
            feature = tagged(2, tagged(1, struct.pack(f"<{len(value)}f", *value)))
        entries += tagged(1, tagged(1, name.encode()) + tagged(2, feature))
    return tagged(1, entries)


def trajectory(video: np.ndarray, other: bytes = b"\0" * 12288) -> bytes:
    """A record as published: both cameras, what the arm was told, and where it was. video: [30, 64, 64, 3]."""
    features: dict[str, bytes | list[float]] = {}
    for frame, pixels in enumerate(video):
        features[f"{frame}/action"] = [0.1, 0.2, 0.3, 0.4]
        features[f"{frame}/endeffector_pos"] = [1.0, 2.0, 3.0]
        features[f"{frame}/image_aux1/encoded"] = pixels.tobytes()
        features[f"{frame}/image_main/encoded"] = other[:12]
    return example(features)


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, np.ndarray], dict[str, bytes]]:
    """Videos by split, in the order of the files' numbers, and the files."""
    files: dict[str, bytes] = {}
    videos: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for split, names in NAMES.items():
        own = {name: RNG.randint(0, 256, (EACH, 30, 64, 64, 3)).astype(np.uint8) for name in names}
        for name, several in own.items():
            files[f"{split}/{name}.tfrecords"] = b"".join(framed(trajectory(video)) for video in several)
        videos[split] = [own[name] for name in ORDER if name in own]
    return {split: np.concatenate(several) for split, several in videos.items()}, files


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"softmotion30_44k/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def check(dataset: Dataset, videos: dict[str, np.ndarray], frames: int = 30) -> None:
    expected = torch.from_numpy(np.concatenate([videos["train"], videos["test"]])).permute(0, 1, 4, 2, 3)[:, :frames]
    splits = (dataset.train, dataset.val, dataset.test)
    assert [len(split) for split in splits] == list(SIZES)
    assert torch.cat([split.x for split in splits]).equal(expected)
    assert isinstance(dataset.train, StoredSplit)
    (some,) = dataset.train.rows.read([np.array([2, 0, 2])])
    assert some.equal(expected[[2, 0, 2]])


def publish_archive(publish: Publish, files: dict[str, bytes], name: str = "bair") -> Published:
    return publish(name, {"videos": archive(files)}, sizes=SIZES)


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_records_are_converted_once(
    form: str, publish: Publish, places: Places, made: tuple[dict[str, np.ndarray], dict[str, bytes]]
) -> None:
    videos, files = made
    publish_archive(publish, files)
    tar = places.data_dir / "bair/bair_robot_pushing_dataset_v0.tar"  # type: ignore[operator]
    if form == "folder":
        for name, content in files.items():
            path = tar.with_name("softmotion30_44k") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        tar.unlink()
    first = load("bair", places)
    check(first, videos)
    tar.unlink(missing_ok=True)
    again = load("bair", places)  # without the records
    check(again, videos)
    assert again.sources == first.sources
    publish_archive(publish, {}, "bair-12")
    tar.unlink()
    begun = load("bair-12", places)
    check(begun, videos, frames=12)  # the same file of the cache
    assert isinstance(begun.test, StoredSplit)
    assert begun.test.continued is not None
    assert begun.test.continued[:].equal(first.test.x)
    (places.cache_dir / "bair/bair.uint8").write_bytes(b"short")
    with pytest.raises(DataCorrupt, match=r"bair\.uint8 has 5 bytes .*delete .*bair\.json, and the records are conv"):
        load("bair", places)


def _spoil(content: bytes, how: str) -> bytes:
    if how == "cut":
        return content[:-7]
    if how == "length":
        return struct.pack("<Q", 99) + content[8:]
    middle = len(content) // 3  # of two records
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", r"train/traj_256_to_511\.tfrecords: the record at byte [\d,]+ is cut short"),
        ("length", r"train/traj_256_to_511\.tfrecords: the sum of the length of the record at byte 0 is 0x"),
        ("bit", r"train/traj_256_to_511\.tfrecords: the sum of the record at byte [\d,]+ is 0x"),
    ],
)
def test_a_spoilt_record_is_named(
    how: str,
    message: str,
    publish: Publish,
    places: Places,
    made: tuple[dict[str, np.ndarray], dict[str, bytes]],
) -> None:
    files = dict(made[1])
    files["train/traj_256_to_511.tfrecords"] = _spoil(files["train/traj_256_to_511.tfrecords"], how)
    publish_archive(publish, files)
    with pytest.raises(DataCorrupt, match=message):
        load("bair", places)
    assert not (places.cache_dir / "bair/bair.json").exists()


def test_too_few_videos_another_camera_and_other_sizes_are_named(
    publish: Publish, places: Places, made: tuple[dict[str, np.ndarray], dict[str, bytes]]
) -> None:
    _, files = made
    publish_archive(publish, {name: content for name, content in files.items() if "256" not in name})
    with pytest.raises(DataCorrupt, match="has 4 videos in train, expected 6"):
        load("bair", places)
    other = framed(example({"0/image_main/encoded": b"1"}))
    publish_archive(publish, {**files, "train/traj_0_to_255.tfrecords": other})
    with pytest.raises(DataCorrupt, match="0 byte strings of the feature 0/image_aux1/encoded, expected one"):
        load("bair", places)
    small = framed(trajectory(np.zeros((30, 4, 4, 3), np.uint8)))
    publish_archive(publish, {**files, "train/traj_0_to_255.tfrecords": small})
    with pytest.raises(DataCorrupt, match="frame 0 of a record has 48 bytes, expected 12,288: 64 x 64 x 3"):
        load("bair", places)


def test_what_is_no_example_is_named() -> None:
    with pytest.raises(ValueError, match=r"is no tf\.train\.Example"):
        byte_features(b"\x0a\xff\xff", ["a"])
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C, of the writer above
    assert list(read_records(io.BytesIO(framed(b"") + framed(b"two")))) == [b"", b"two"]


def test_without_its_readers_it_says_what_to_install(
    publish: Publish, places: Places, monkeypatch: pytest.MonkeyPatch, made: tuple[Any, dict[str, bytes]]
) -> None:
    publish_archive(publish, made[1])
    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "google_crc32c":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataMissing, match="needs google_crc32c, which is not installed: pip install"):
        load("bair", places)


def test_a_folder_of_the_cache_is_all_that_is_left(
    publish: Publish, places: Places, made: tuple[dict[str, np.ndarray], dict[str, bytes]]
) -> None:
    publish_archive(publish, made[1])
    load("bair", places)
    left = {path.name for path in Path(places.cache_dir / "bair").iterdir()}
    assert left == {"bair.uint8", "bair.json", "bair.uint8.lock"}
