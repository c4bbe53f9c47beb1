"""Writers of the published formats, made from their descriptions and not from the readers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray


def idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return header + bytes(array.flatten().tolist())


def amat(images: NDArray[np.uint8]) -> bytes:
    """As `numpy.savetxt` writes it."""
    text = io.BytesIO()
    np.savetxt(text, images.reshape(len(images), -1), fmt="%d", delimiter=" ", newline="\n")
    return text.getvalue()


def chardata(train: NDArray[np.uint8], test: NDArray[np.uint8], alphabets: int = 50, **changes: Any) -> bytes:
    """[n, 28, 28] each; image i belongs to alphabet i mod `alphabets`."""

    def columns(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.stack([image.flatten(order="F") / 255.0 for image in images], axis=1)

    def one_hot(n: int) -> NDArray[np.uint8]:
        return np.array([[i % alphabets == row for i in range(n)] for row in range(alphabets)], dtype=np.uint8)

    variables = {
        "data": columns(train),
        "target": one_hot(len(train)),
        "testdata": columns(test),
        "testtarget": one_hot(len(test)),
        **changes,
    }
    file = io.BytesIO()
    scipy.io.savemat(file, {name: value for name, value in variables.items() if value is not None})
    return file.getvalue()
