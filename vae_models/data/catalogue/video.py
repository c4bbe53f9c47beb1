"""Videos: digits that move by a rule (`vae_models.data.moving`)."""

from __future__ import annotations

from types import MappingProxyType

from vae_models.data.catalogue.mnist import MNIST
from vae_models.data.published import Published
from vae_models.data.spec import DataSpec


def videos(shape: tuple[int, int, int, int], sizes: tuple[int, int, int]) -> DataSpec:
    """Return the facts of a set of videos of (frames, channels, height, width), bytes."""
    return DataSpec(shape=shape, axes=("time", "channel", "height", "width"), support="bytes", sizes=sizes)


def _moving_mnist(name: str) -> Published:
    return Published(
        name=name,
        terms="of its digits: CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)",
        facts=videos((15, 1, 64, 64), (60_000, 1_000, 1_000)),  # 600 batches of 100: an epoch of the published training
        folder="mnist",
        builder="vae_models.data.builders.video:moving_mnist",
        files=MappingProxyType({key: MNIST[key] for key in ("train-images", "test-images")}),
    )


SETS = (
    _moving_mnist("moving-mnist"),
    _moving_mnist("moving-mnist-deterministic"),
    Published(
        name="moving-digits",
        terms="of its digits: CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
        facts=videos((10, 1, 16, 16), (4_000, 500, 500)),
        folder="digits",
        builder="vae_models.data.builders.video:moving_digits",
    ),
)
