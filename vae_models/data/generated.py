"""Data that needs no download: the pendulum, rendered by rule, and the digits that scikit-learn carries."""

from __future__ import annotations

import gzip
import importlib.util
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_models.data.errors import DataCorrupt, DataMissing

PENDULUM_SIZE = 16  # pixels a side
_PIVOT = 7.5  # the middle of the picture: pixel centres are 0..15
_LENGTH = 5.0  # pivot to the middle of the bob, pixels
_BOB_WIDTH = 3.5  # standard deviation of its light, pixels
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def pendulum_angles(n: int) -> NDArray[np.float64]:
    """Return joint angles in radians, in [-pi, pi), [n]: 2 pi frac(i g) - pi with the golden ratio's g = 0.618...

    The sequence visits the whole circle evenly in any stretch of it, repeats nothing, and needs no random numbers.
    """
    return np.asarray(2 * np.pi * np.mod(np.arange(n) * _GOLDEN, 1.0) - np.pi)


def render_pendulum(angles: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Render angles in radians [n] -> uint8 [n, 16, 16], bright on black.
    0 hangs straight down, positive: counter-clockwise.

    It is the bob of a pendulum whose pivot is the middle of the picture, out of focus: intensity = exp(-d^2 / (2 w^2)),
    d the distance in pixels from the pixel's centre to the bob's. The set of the paper (Klushyn et al. 2019, B: 16x16
    pictures whose joint angle is known) is not published; this one has its size, its single degree of freedom and its
    topology, a circle. The width decides how much of the variance is in the sine and cosine of the angle, the first two
    principal components: 79%. Of a sharp rod and disc it was 28%, and few trainings would see a circle
    (docs/results.md).
    """
    axis = np.arange(PENDULUM_SIZE) - _PIVOT
    y, x = np.meshgrid(axis, axis, indexing="ij")  # y points down, as rows do
    right, down = _LENGTH * np.sin(angles)[:, None, None], _LENGTH * np.cos(angles)[:, None, None]
    intensity = np.exp(-((x - right) ** 2 + (y - down) ** 2) / (2 * _BOB_WIDTH**2))
    return np.asarray(np.rint(255 * intensity), dtype=np.uint8)


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read scikit-learn's digits (UCI "Optical Recognition of Handwritten Digits", test part):
    uint8 [1797, 8, 8], labels.

    Levels 0..16 become round(k 255 / 16). The file is read where the package lies, because importing scikit-learn's
    loaders takes two seconds.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataMissing(
            "digits: scikit-learn, whose package carries them, is not installed: pip install scikit-learn"
        )
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise DataMissing(
            f"digits: {path} is not there; install scikit-learn again: pip install --force-reinstall scikit-learn"
        )
    try:
        with gzip.open(path, "rt") as text, warnings.catch_warnings(action="ignore"):  # of no numbers: counted below
            table = np.loadtxt(text, delimiter=",")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataCorrupt(
            f"digits: {path} is truncated or altered: {error}; install scikit-learn again: "
            "pip install --force-reinstall scikit-learn"
        ) from error
    if table.shape != (1797, 65):
        raise DataCorrupt(f"digits: {path} is a table of {table.shape}, expected 1,797 digits of 64 pixels and a label")
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return images, table[:, 64].astype(np.int64)
