"""dSprites' `.npz`."""

from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np
from numpy.typing import NDArray

DSPRITES_LATENTS = (1, 3, 6, 40, 32, 32)  # values of colour, shape, scale, orientation, x and y; y runs fastest


def read_dsprites(
    content: bytes, latents: tuple[int, ...] = DSPRITES_LATENTS
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the published `.npz` (Matthey et al. 2017) -> images 0/1 [n, 64, 64], latent classes [n, 6] (0, 1, ...).

    Every combination of the latents occurs once, in order: n is their product. Of the members only `imgs` and
    `latents_classes` are read; `metadata` is a pickle, and nothing is unpickled.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            absent = [name for name in ("imgs", "latents_classes") if name not in archive.files]
            if absent:
                raise ValueError(f"members {', '.join(absent)} are missing; there are {', '.join(archive.files)}")
            classes, images = archive["latents_classes"], archive["imgs"]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, TypeError, AttributeError) as error:
        raise ValueError(f"not a readable .npz archive: {error}") from error
    count = int(np.prod(latents))
    if images.shape != (count, 64, 64) or images.dtype != np.uint8:
        raise ValueError(f"imgs is {images.dtype} of shape {images.shape}, expected uint8 ({count}, 64, 64)")
    if not np.array_equal(classes, np.indices(latents).reshape(len(latents), -1).T):
        raise ValueError(f"latents_classes is not every combination of {latents} values in order")
    if images.max() > 1:
        raise ValueError(f"imgs reaches {images.max()}, expected 0 and 1")
    return images, classes.astype(np.int64, copy=False)
