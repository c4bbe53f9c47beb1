"""IDX and `.amat`."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_IDX_UBYTE = 0x08


def read_idx(content: bytes) -> Bytes:
    """Read IDX, the format of MNIST: two zero bytes, element type, number of axes, lengths (big-endian uint32), data.

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
    """Read `.amat` of binarized MNIST: a line an image, `columns` times 0 or 1,
    one space between -> 0/1 [lines, columns].

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
