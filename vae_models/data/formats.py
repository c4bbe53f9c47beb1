"""Readers of the published formats: bytes in, uint8 arrays out. They know nothing of files, sums or splits.

Every reader raises `ValueError` with the offending offset or count when the bytes are not of the format.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_IDX_UBYTE = 0x08


def read_idx(content: bytes) -> Bytes:
    """IDX, the format of MNIST: two zero bytes, element type, number of axes, lengths (big-endian uint32), data.

    Only unsigned bytes (type 0x08) occur in the published files.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(f"not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}, expected 00 00")
    kind, axes = content[2], content[3]
    if kind != _IDX_UBYTE:
        raise ValueError(f"IDX element type 0x{kind:02x}, expected 0x08 (unsigned byte)")
    start = 4 + 4 * axes
    if len(content) < start:
        raise ValueError(f"the IDX header of {axes} axes needs {start} bytes, there are {len(content)}")
    shape = struct.unpack(f">{axes}I", content[4:start])
    expected = start + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise ValueError(f"IDX of shape {shape} is {expected} bytes, there are {len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_amat(content: bytes, columns: int = 784) -> Bytes:
    """`.amat` of binarized MNIST: a line an image, `columns` times 0 or 1, one space between -> 0/1, [lines, columns].

    Every value takes two bytes (itself and what separates it), so the text is an array already: no parsing, 78 MB in
    a fraction of a second.
    """
    stride = 2 * columns
    lines, rest = divmod(len(content), stride)
    if rest or not lines:
        raise ValueError(f"{len(content)} bytes are not whole lines of {stride} bytes ({columns} values)")
    pairs = np.frombuffer(content, np.uint8).reshape(lines, columns, 2)
    values, separators = pairs[:, :, 0], pairs[:, :, 1]
    good = ((values | 1) == ord("1")) & (separators == ord(" "))
    good[:, -1] = ((values[:, -1] | 1) == ord("1")) & (separators[:, -1] == ord("\n"))
    if not good.all():
        line, column = (int(i) for i in np.argwhere(~good)[0])
        raise ValueError(
            f"line {line + 1}, value {column + 1}: expected 0 or 1 and one space (line feed after the last)"
        )
    return values - np.uint8(ord("0"))


@dataclass(frozen=True, kw_only=True)
class Chardata:
    """Images uint8 [n, 28, 28], upright; labels int64 [n]: the alphabet, 0..49."""

    train: Bytes
    train_labels: NDArray[np.int64]
    test: Bytes
    test_labels: NDArray[np.int64]


def read_chardata(content: bytes) -> Chardata:
    """`chardata.mat` of the IWAE authors (Burda et al. 2016): MATLAB 5, an image a column of `data` and `testdata`.

    Pixels are in column-major order and in [0, 1], ink 1; they are rounded to k/255. `target` and `testtarget` are
    one-hot rows of 50 alphabets.
    """
    import scipy.io

    names = ["data", "target", "testdata", "testtarget"]
    try:
        variables: dict[str, Any] = scipy.io.loadmat(cast(Any, io.BytesIO(content)), variable_names=names)
    except Exception as error:  # scipy raises whatever its parser runs into
        raise ValueError(f"not a readable MATLAB 5 file: {type(error).__name__}: {error}") from error
    absent = [name for name in names if name not in variables]
    if absent:
        raise ValueError(f"variables {', '.join(absent)} are missing; expected {', '.join(names)}")
    parts = []
    for images, labels in (("data", "target"), ("testdata", "testtarget")):
        parts.append((_columns(variables[images], images), _one_hot(variables[labels], labels)))
        if len(parts[-1][0]) != len(parts[-1][1]):
            raise ValueError(f"{images} has {len(parts[-1][0])} columns, {labels} {len(parts[-1][1])}")
    (train, train_labels), (test, test_labels) = parts
    return Chardata(train=train, train_labels=train_labels, test=test, test_labels=test_labels)


def _columns(values: NDArray[np.float64], name: str) -> Bytes:
    if values.ndim != 2 or values.shape[0] != 784:
        raise ValueError(f"{name} has shape {values.shape}, expected (784, n)")
    if not (values.min() >= 0 and values.max() <= 1):  # written so that NaN fails too
        raise ValueError(f"{name} reaches from {values.min()} to {values.max()}, expected 0 to 1")
    pixels = np.rint(values * 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.T.reshape(-1, 28, 28).transpose(0, 2, 1))


def _one_hot(values: NDArray[np.uint8], name: str) -> NDArray[np.int64]:
    if values.ndim != 2 or not (values.sum(axis=0) == 1).all():
        raise ValueError(f"{name} has shape {values.shape} and is not one-hot down its columns")
    return np.asarray(values.argmax(axis=0), dtype=np.int64)
