"""Which data."""

from __future__ import annotations

from typing import Literal

from vae_models.config.base import Strict

DatasetName = Literal["digits", "mnist", "fashion-mnist", "binarized-mnist", "omniglot", "pendulum"]


class DataConfig(Strict):
    """Which data, and how bytes become x.

    binarize: "none" keeps k/255 (digits: k/16 is stored as a byte); "threshold" is x >= 0.5; "dynamic" draws
    x ~ Bernoulli(k/255) anew at every step.
    """

    name: DatasetName
    binarize: Literal["none", "threshold", "dynamic"] = "none"
