"""IDX and `.amat`."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_IDX_UBYTE = 0x08
_BLOCK = 512  # lines at a time: what is computed of them stays in the processor's cache


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

    Every value takes two bytes (itself and what separates it), so the text is an array of 16 bits each already: no
    parsing, 78 MB in a fraction of a second.
    """
    stride = 2 * columns
    lines, rest = divmod(len(content), stride)
    if rest or not lines:
        raise ValueError(f"{len(content)} bytes are not whole lines of {stride} bytes ({columns} values)")
    words = np.frombuffer(content, "<u2").reshape(lines, columns)
    values = np.empty(words.shape, np.uint8)
    for start in range(0, lines, _BLOCK):
        block = words[start : start + _BLOCK]
        good = (block | 1) == _word("1 ")
        good[:, -1] = (block[:, -1] | 1) == _word("1\n")
        if not good.all():
            line, column = (int(i) for i in np.argwhere(~good)[0])
            raise ValueError(
                f"line {start + line + 1}, value {column + 1}: expected 0 or 1 and one space (line feed after the last)"
            )
        np.bitwise_and(block, 1, out=values[start : start + _BLOCK], casting="unsafe")  # "0" is even
    return values


def _word(text: str) -> int:
    return int.from_bytes(text.encode(), "little")
