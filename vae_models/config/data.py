"""Which data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.data.catalogue import CATALOGUE
from vae_models.strict import Strict

DatasetName = Literal[
    "digits",
    "mnist",
    "fashion-mnist",
    "binarized-mnist",
    "omniglot",
    "pendulum",
    "cifar10",
    "cifar10-subset",
    "svhn",
    "svhn-28",
    "celeba",
    "celeba-hq",
    "dsprites",
    "frey-faces",
    "caltech-silhouettes",
    "cmu-motion",
]


Residency = Literal["auto", "device", "host", "stream"]


class NoNoiseConfig(Strict):
    """The images as published."""

    kind: Literal["none"] = "none"


class GaussianNoiseConfig(Strict):
    """Gaussian noise added once to every image of digits (AR-ELBO 5.3); x leaves [0, 1].

    Which parts get it: "uniform" all, "spatial" the upper half of the rows, "conditional" digits 0-4,
    "spatial-conditional" the upper half of digits 0-4.
    """

    kind: Literal["gaussian"] = "gaussian"
    pattern: Literal["uniform", "spatial", "conditional", "spatial-conditional"] = "uniform"
    variance: float = Field(
        default=0.01, gt=0, le=bounds.REAL, description="of an element, x in [0, 1]; the paper has 0.01 and 0.1"
    )
    seed: bounds.Seed = Field(default=0, description="of the noise; the run's seed does not change the data")


NoiseConfig = Annotated[NoNoiseConfig | GaussianNoiseConfig, Field(discriminator="kind")]


class DataConfig(Strict):
    """Which data, and how bytes become x.

    binarize: "none" keeps k/255 (digits: k/16 is stored as a byte); "threshold" is x >= 0.5; "dynamic" draws
    x ~ Bernoulli(k/255) anew at every step. noise: artificial noise, part of the data.
    """

    name: DatasetName
    binarize: Literal["none", "threshold", "dynamic"] = "none"
    noise: NoiseConfig = NoNoiseConfig()
    residency: Residency = Field(
        default="auto",
        description="where the data are kept while a run trains; the result is the same, to the bit. device: whole on "
        "the device; host: whole in memory, batches are copied ahead of the step; stream: on the disk, batches are "
        "read ahead; auto: the first of these that has room",
    )

    @property
    def reals(self) -> bool:
        """x is real-valued and unbounded: no byte, and no bit."""
        return CATALOGUE[self.name].values == "reals" or self.noise.kind != "none"

    @property
    def bits(self) -> bool:
        """x is 0 or 1."""
        return self.binarize != "none" or (CATALOGUE[self.name].values == "bits" and not self.reals)
