"""What an extractor of features is, and the images that every one reads."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

LEVELS = 255  # of an image as files have it


@runtime_checkable
class Extractor(Protocol):
    """A map from images to vectors, each image for itself, on one device."""

    @property
    def key(self) -> str:
        """Return what its features depend on: the weights and the preprocessing. Statistics are cached by it."""
        ...

    @property
    def bytes_per_image(self) -> int:
        """Return about how much memory an image takes while its features are computed."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 [n, size] of images [n, channels, height, width], levels k/255 in float32, on its device."""
        ...


def as_levels(images: Tensor) -> Tensor:
    """Return images as an 8-bit file would hold them: clipped to [0, 1], rounded to k/255, float32. NaN stays NaN.

    Published distances are of images in such files, data and samples alike.
    """
    return images.float().clamp(0, 1).mul(LEVELS).round().div(LEVELS)
