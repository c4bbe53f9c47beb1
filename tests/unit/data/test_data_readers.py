"""The readers of single files, on files written in the same format by other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.data import writers
from vae_models.data import formats, sums
from vae_models.data.formats import Skeleton

RNG = np.random.default_rng(0)


def _images(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def test_svhn_comes_out_upright_with_digits() -> None:
    images, digits = _images(11, 3, 32, 32), np.arange(11) % 10
    read, labels = formats.read_svhn(writers.svhn(images, digits))
    np.testing.assert_array_equal(read, images)
    assert labels.tolist() == digits.tolist()


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"X": _images(32, 32, 3, 2)}, "variables y are missing"),
        ({"X": _images(32, 32, 3, 2).astype(float), "y": [[1], [2]]}, "X is float64"),
        ({"X": _images(2, 3, 32, 32), "y": [[1], [2]]}, r"shape \(2, 3, 32, 32\)"),
        ({"X": _images(32, 32, 3, 2), "y": [[1]]}, "y has 1 labels, X 2 images"),
        ({"X": _images(32, 32, 3, 2), "y": [[0], [1]]}, "y reaches from 0 to 1, expected 1 to 10"),
    ],
)
def test_svhn_refuses_another_layout(variables, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        formats.read_svhn(writers.mat(**variables))


def test_frey_faces_are_28_rows_of_20() -> None:
    frames = _images(5, 28, 20)
    columns = np.stack([frame.flatten() for frame in frames], axis=1)
    np.testing.assert_array_equal(formats.read_frey_faces(writers.mat(ff=columns)), frames)
    with pytest.raises(ValueError, match=r"ff is uint8 of shape \(5, 560\)"):
        formats.read_frey_faces(writers.mat(ff=columns.T))


def _silhouettes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        part: (RNG.integers(0, 2, (n, 28, 28)).astype(np.uint8), np.arange(1, n + 1))
        for part, n in (("train", 5), ("val", 3), ("test", 4))
    }


def test_silhouettes_have_1_for_the_object() -> None:
    parts = _silhouettes()
    read = formats.read_silhouettes(writers.silhouettes(parts))
    assert list(read) == ["train", "val", "test"]
    for part, (objects, labels) in parts.items():
        np.testing.assert_array_equal(read[part][0], objects)
        assert read[part][1].tolist() == (labels - 1).tolist()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"val_data": None}, "val_data are missing"),
        ({"test_data": np.full((4, 784), 2)}, "test_data has shape .* values 0 and 1"),
        ({"train_labels": np.zeros((5, 1))}, "train_labels reaches from 0 to 0"),
        ({"train_labels": np.ones((4, 1))}, "train_labels has 4 labels, train_data 5 images"),
    ],
)
def test_silhouettes_refuse_another_layout(changes, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        formats.read_silhouettes(writers.silhouettes(_silhouettes(), **changes))


def test_cifar_records_are_planes_after_the_label() -> None:
    images, labels = _images(7, 3, 32, 32), np.arange(7)
    read, numbers = formats.read_cifar(writers.cifar(images, labels), 7)
    np.testing.assert_array_equal(read, images)
    assert numbers.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "0 bytes, expected 6,146"),
        (bytes(6145), "6,145 bytes, expected 6,146: 2 records of 3,073"),
        (bytes(3073) + b"\x0a" + bytes(3072), "record 1 has label 10"),
    ],
)
def test_cifar_refuses_what_is_not_records(content: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        formats.read_cifar(content, 2)


def test_cifar_archives_hold_six_batches() -> None:
    members = {f"cifar-10-batches-bin/data_batch_{i}.bin": bytes([i]) for i in range(1, 6)}
    members["cifar-10-batches-bin/test_batch.bin"] = b"t"
    members["cifar-10-batches-bin/readme.html"] = b"<html>"
    tar = sums.decompressed("a.tar.gz", writers.tar_gz(members))
    batches = formats.read_cifar_archive(tar)
    assert {name.partition(".")[0][-1]: content for name, content in batches.items()} == {
        **{str(i): bytes([i]) for i in range(1, 6)},
        "h": b"t",
    }
    with pytest.raises(ValueError, match=r"has no data_batch_1, .*test_batch"):
        formats.read_cifar_archive(sums.decompressed("a.tar.gz", writers.tar_gz({"x": b""})))
    with pytest.raises(ValueError, match="not a readable tar archive"):
        formats.read_cifar_archive(b"x" * 2000)


def _drawing(ink: np.ndarray) -> bytes:
    return writers.picture(~ink, "png")


def test_drawings_are_reduced_to_the_share_of_ink() -> None:
    """The mean of the pixels whose centres lie in the square, by a double loop."""
    inks = {(name, i): RNG.random((105, 105)) < 0.3 for name in ("Tifinagh", "Angelic") for i in (2, 1)}
    members = {
        f"images_evaluation/{name}/character01/0965_{i:02d}.png": _drawing(ink) for (name, i), ink in inks.items()
    }
    read = formats.read_drawings(writers.zipped({**members, "images_evaluation/": b"", "readme.txt": b"hello"}))
    assert read.alphabets.tolist() == [0, 0, 1, 1]  # Angelic, Tifinagh
    assert read.numbers.tolist() == [1, 2, 1, 2]
    for image, key in zip(read.images, [("Angelic", 1), ("Angelic", 2), ("Tifinagh", 1), ("Tifinagh", 2)], strict=True):
        square = np.ceil((np.arange(105) + 0.5) / 3.75) - 1  # a centre on the line counts to the left
        share = [[inks[key][square == row][:, square == column].mean() for column in range(28)] for row in range(28)]
        np.testing.assert_allclose(image, 255 * np.array(share), atol=1.01)  # two passes, each rounded to a byte


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({}, "no <part>/<Alphabet>"),
        ({"images_x/A/character01/1_01.png": b"no picture"}, "1_01.png is not a readable PNG"),
        (
            {"images_x/A/character01/1_01.png": _drawing(RNG.random((105, 105)) < 0.5)[:500]},
            "1_01.png is not a readable",
        ),
        ({"images_x/A/character01/1_01.png": _drawing(np.zeros((28, 28), bool))}, "is 28x28, expected 105x105"),
    ],
)
def test_drawings_refuse_other_contents(members, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        formats.read_drawings(writers.zipped(members))


def test_drawings_refuse_what_is_no_zip() -> None:
    with pytest.raises(ValueError, match="not a readable zip"):
        formats.read_drawings(b"PK no")


LATENTS = (1, 3, 2, 4, 2, 3)
COUNT = 144


def _dsprites(**changes: object) -> bytes:
    images = RNG.integers(0, 2, (COUNT, 64, 64)).astype(np.uint8)
    classes = np.array([np.unravel_index(i, LATENTS) for i in range(COUNT)])
    return writers.dsprites(images, classes, **changes)


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.path,))  # type: ignore[return-value]


def test_dsprites_are_read_and_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "unpickled"
    content = _dsprites(metadata=np.array(Trap(trap), dtype=object), imgs=np.ones((COUNT, 64, 64), np.uint8))
    images, classes = formats.read_dsprites(content, LATENTS)
    assert images.shape == (COUNT, 64, 64)
    assert images.min() == 1
    assert classes[-1].tolist() == [0, 2, 1, 3, 1, 2]
    assert not trap.exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"imgs": None}, "members imgs are missing"),
        ({"imgs": np.zeros((COUNT - 1, 64, 64), np.uint8)}, r"shape \(143, 64, 64\)"),
        ({"imgs": np.full((COUNT, 64, 64), 255, np.uint8)}, "reaches 255"),
        ({"latents_classes": np.zeros((COUNT, 6), np.int64)}, "not every combination"),
        ({"imgs": np.array([{}] * COUNT, dtype=object)}, "allow_pickle=False"),
    ],
)
def test_dsprites_refuse_another_layout(changes, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        formats.read_dsprites(_dsprites(**changes), LATENTS)


@pytest.mark.parametrize("length", [0, 10, 1000, -30])
def test_dsprites_refuse_a_truncated_file(length: int) -> None:
    with pytest.raises(ValueError, match=r"not a readable \.npz|No data left|Cannot load file"):
        formats.read_dsprites(_dsprites()[:length], LATENTS)


FRAMES = [
    {"root": [1, 2, 3, 4, 5, 6], "ltibia": [-7.5], "lfemur": [8, 9, 1e-3], "lthumb": [10, 11]},
    {"root": [0] * 6, "lfemur": [1, 2, 3], "lthumb": [4, 5], "ltibia": [6]},
]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_motion_comes_out_in_the_order_of_the_skeleton(ending: str) -> None:
    skeleton = formats.read_asf(writers.ASF.replace("\n", ending).encode())
    assert skeleton == Skeleton(channels=(("root", 6), ("lfemur", 3), ("lthumb", 2), ("ltibia", 1)))
    motion = formats.read_amc(writers.amc(FRAMES, ending), skeleton)
    assert motion.tolist() == [[1, 2, 3, 4, 5, 6, 8, 9, 1e-3, 10, 11, -7.5], [0] * 6 + [1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda text: text.replace(":DEGREES\n", ""), "no line :DEGREES"),
        (lambda text: text.replace("ltibia 6", "ltibia"), "line 13: ltibia needs 1 finite values"),
        (lambda text: text.replace("ltibia 6", "ltibia nan"), "ltibia needs 1 finite values"),
        (lambda text: text.replace("ltibia 6", "ltibia six"), "line 13: could not convert"),
        (lambda text: text.replace("ltibia 6\n", ""), "the last lacks ltibia"),
        (lambda text: text.replace("lthumb 10 11\n", ""), "line 8 lacks lthumb"),
        (lambda text: text.replace("lfemur", "wing"), "'wing 8 9 0.001' is neither"),
        (lambda text: text[:50], "no frames"),
        (lambda text: "\xff" + text, "not text"),
    ],
)
def test_motion_refuses_what_is_not_amc(spoil, complaint) -> None:
    skeleton = formats.read_asf(writers.ASF.encode())
    text = spoil(writers.amc(FRAMES).decode())
    with pytest.raises(ValueError, match=complaint):
        formats.read_amc(text.encode("latin1"), skeleton)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (writers.ASF.replace("angle deg", "angle rad"), "line 5: angles in rad"),
        (writers.ASF[:100], "not an .asf skeleton"),
        ("", "not an .asf skeleton"),
    ],
)
def test_skeletons_refuse_what_is_not_asf(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        formats.read_asf(text.encode())


def test_an_archives_sum_is_of_its_pictures_however_they_are_packed() -> None:
    members = {"b.png": b"1", "a.png": b"22", "folder/": b"", "readme": b"x"}
    packed = writers.zipped(members)
    stored = writers.zipped({"a.png": b"22", "b.png": b"1"}, compression=0)
    assert packed != stored
    assert sums.archive_sum(packed) == sums.archive_sum(stored)
    for other in ({"a.png": b"22", "b.png": b"2"}, {"a.png": b"22", "c.png": b"1"}, {"a.png": b"221", "b.png": b""}):
        assert sums.archive_sum(writers.zipped(other)) != sums.archive_sum(stored)
    with pytest.raises(ValueError, match="zip: "):
        sums.archive_sum(packed[:-30])
