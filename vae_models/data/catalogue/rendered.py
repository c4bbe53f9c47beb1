"""Sets that need no download: the digits that scikit-learn carries, and the pendulum, rendered by rule."""

from __future__ import annotations

from vae_models.data.published import Published, images
from vae_models.data.spec import LabelSpec

SETS = (
    Published(
        name="digits",
        title="scikit-learn digits (8x8, carried by the package)",
        terms="CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
        facts=images((1, 8, 8), (1297, 250, 250), labels=LabelSpec(name="digit")),
        folder="digits",
        builder="vae_models.data.builders.small:digits",
    ),
    Published(
        name="pendulum",
        title="pendulum (16x16, rendered by rule)",
        terms="Apache-2.0: drawn by this package",
        facts=images((1, 16, 16), (5000, 1000, 1000), labels=LabelSpec(name="angle", unit="rad")),
        folder="pendulum",
        builder="vae_models.data.builders.small:pendulum",
    ),
)
