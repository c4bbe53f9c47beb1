"""Videos: digits that move by a rule (`vae_models.data.moving`), and BAIR's robot arm.

BAIR's sum is that which TensorFlow Datasets publishes of the archive.
"""

from __future__ import annotations

from types import MappingProxyType

from vae_models.data.catalogue.mnist import MNIST
from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.published import Published
from vae_models.data.spec import DataSpec

BAIR_FRAMES = 30  # of a video, as published
BAIR_FRAME = (3, 64, 64)
_BAIR = "bair_robot_pushing_dataset_v0"
_BAIR_VIDEOS = DataFile(
    forms=(
        Form(
            name=f"{_BAIR}.tar",
            sha256="c6f8d164ab2be07174ef597e3e070d7466f3142caddc467b6af119b9458cd9cd",
            bytes=32_274_964_480,
            urls=(f"http://rail.eecs.berkeley.edu/datasets/{_BAIR}.tar",),
        ),
        Form(name="softmotion30_44k", sha256=None),  # the folder it unpacks to
    ),
    content=frozenset(),
    home="https://sites.google.com/view/sna-visual-mpc/",
    folders=(_BAIR, "BAIR", "bair_robot_pushing"),
)


def videos(shape: tuple[int, int, int, int], sizes: tuple[int, int, int]) -> DataSpec:
    """Return the facts of a set of videos of (frames, channels, height, width), bytes."""
    return DataSpec(shape=shape, axes=("time", "channel", "height", "width"), support="bytes", sizes=sizes)


def _moving_mnist(name: str, title: str) -> Published:
    return Published(
        name=name,
        title=title,
        terms="of its digits: CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)",
        facts=videos((15, 1, 64, 64), (60_000, 1_000, 1_000)),  # 600 batches of 100: an epoch of the published training
        folder="mnist",
        builder="vae_models.data.builders.video:moving_mnist",
        files=MappingProxyType({key: MNIST[key] for key in ("train-images", "test-images")}),
    )


def _bair(name: str, title: str, frames: int) -> Published:
    return Published(
        name=name,
        title=title,
        terms="none stated by its publishers",
        facts=videos((frames, *BAIR_FRAME), (42_240, 1_024, 256)),
        folder="bair",
        builder="vae_models.data.builders.bair:bair",
        files=MappingProxyType({"videos": _BAIR_VIDEOS}),
    )


SETS = (
    _moving_mnist("moving-mnist", "stochastic moving MNIST (15 frames of 64x64, made by rule of MNIST's digits)"),
    _moving_mnist("moving-mnist-deterministic", "moving MNIST reflected at the walls (15 frames of 64x64)"),
    Published(
        name="moving-digits",
        title="moving scikit-learn digits (10 frames of 16x16, made by rule)",
        terms="of its digits: CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
        facts=videos((10, 1, 16, 16), (4_000, 500, 500)),
        folder="digits",
        builder="vae_models.data.builders.video:moving_digits",
    ),
    _bair("bair", "BAIR robot pushing (30 frames of 3x64x64)", BAIR_FRAMES),
    _bair(
        "bair-12", "BAIR robot pushing (the first 12 frames of 3x64x64)", 12
    ),  # 2 that are seen and 10 that are predicted: what SVG trains on
)
