from __future__ import annotations

import time

import numpy as np
import pytest

from tests.unit.data import writers
from vae_models.data import formats

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(5,), (3, 28, 28), (2, 3, 4, 5)])
def test_idx_is_read_as_written(shape: tuple[int, ...]) -> None:
    array = RNG.integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(formats.read_idx(writers.idx(array)), array)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda content: content[:-1], "there are 799"),
        (lambda content: content + b"x", "there are 801"),
        (lambda content: content[:10], "needs 16 bytes, there are 10"),
        (lambda content: b"\x1f\x8b" + content[2:], "starts with 1f 8b"),
        (lambda content: content[:2] + b"\x0d" + content[3:], "type 0x0d"),
        (lambda content: b"", "nothing"),
    ],
)
def test_idx_refuses_what_is_not_idx(spoil, complaint) -> None:
    content = writers.idx(RNG.integers(0, 256, (1, 28, 28)).astype(np.uint8))
    with pytest.raises(ValueError, match=complaint):
        formats.read_idx(spoil(content))


def test_amat_is_read_as_written() -> None:
    images = RNG.integers(0, 2, (7, 28, 28)).astype(np.uint8)
    np.testing.assert_array_equal(formats.read_amat(writers.amat(images)).reshape(7, 28, 28), images)


@pytest.mark.parametrize(
    ("at", "byte", "complaint"),
    [
        (0, b"2", "line 1, value 1"),
        (1568 + 2 * 3, b"x", "line 2, value 4"),
        (1, b",", "line 1, value 1"),
        (1567, b" ", "line 1, value 784"),
    ],
)
def test_amat_names_the_line_and_value_that_is_wrong(at: int, byte: bytes, complaint: str) -> None:
    content = bytearray(writers.amat(np.zeros((3, 28, 28), np.uint8)))
    content[at : at + 1] = byte
    with pytest.raises(ValueError, match=complaint):
        formats.read_amat(bytes(content))


def test_amat_names_a_line_far_down() -> None:
    content = bytearray(writers.amat(np.zeros((600, 28, 28), np.uint8)))
    content[1568 * 599 + 2 * 783 + 1] = ord(" ")
    with pytest.raises(ValueError, match="line 600, value 784"):
        formats.read_amat(bytes(content))


@pytest.mark.parametrize("length", [0, 1567, 1569])
def test_amat_refuses_part_of_a_line(length: int) -> None:
    with pytest.raises(ValueError, match="not whole lines"):
        formats.read_amat(b"0 " * 1000 if length == 0 else b"0" * length)


def test_amat_of_78_megabytes_is_parsed_in_seconds() -> None:
    content = writers.amat(RNG.integers(0, 2, (50, 28, 28)).astype(np.uint8)) * 1000
    began = time.perf_counter()
    assert formats.read_amat(content).shape == (50000, 784)
    assert time.perf_counter() - began < 10


def test_chardata_comes_out_upright_with_its_alphabets() -> None:
    train, test = (RNG.integers(0, 256, (n, 28, 28)).astype(np.uint8) for n in (60, 7))
    data = formats.read_chardata(writers.chardata(train, test))
    np.testing.assert_array_equal(data.train, train)
    np.testing.assert_array_equal(data.test, test)
    np.testing.assert_array_equal(data.train_labels, np.arange(60) % 50)
    np.testing.assert_array_equal(data.test_labels, np.arange(7))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"testdata": None}, "testdata are missing"),
        ({"data": np.zeros((783, 3))}, r"data has shape \(783, 3\)"),
        ({"data": np.full((784, 3), 1.5)}, "expected 0 to 1"),
        ({"data": np.full((784, 3), np.nan)}, "expected 0 to 1"),
        ({"target": np.zeros((50, 3))}, "not one-hot"),
        ({"target": np.eye(50)[:, :2]}, "data has 3 columns, target 2"),
    ],
)
def test_chardata_refuses_another_layout(changes, complaint) -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    with pytest.raises(ValueError, match=complaint):
        formats.read_chardata(writers.chardata(images, images, **changes))


@pytest.mark.parametrize("content", [b"", b"not a mat file", b"\0" * 500])
def test_chardata_refuses_what_is_not_matlab(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a readable MATLAB 5 file|are missing"):
        formats.read_chardata(content)


def test_chardata_refuses_a_truncated_file() -> None:
    images = RNG.integers(0, 256, (9, 28, 28)).astype(np.uint8)
    content = writers.chardata(images, images)
    with pytest.raises(ValueError, match=r"not a readable MATLAB 5 file|are missing"):
        formats.read_chardata(content[: len(content) // 2])
