"""Artificial noise, as data: a part of the data, added once and not drawn anew at every step."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.data.spec import Support
from vae_models.parts import Seam, spec_of
from vae_models.strict import Strict

if TYPE_CHECKING:
    from vae_models.data.records import Dataset


class DataNoiseSpec(Strict):
    """Artificial noise in a data set, as data.

    support: which values x has with it; None: those that it had, and the set is the one that is published
    labels:  the name of the labels that it reads, and what for; None: it reads none
    """

    support: ClassVar[Support | None]
    labels: ClassVar[tuple[str, str] | None] = None

    if TYPE_CHECKING:
        kind: str

    def called(self) -> str:
        """Return the suffix of the data's name that tells experiments apart; empty: none."""
        return self.kind

    def text(self) -> str:
        """Return the noise's description in a list of recipes; empty: none."""
        return f"{self.kind} noise"

    @abstractmethod
    def applied(self, dataset: Dataset) -> Dataset:
        """Return the set with its noise, a function of the set and of this specification; torch is loaded here."""


class NoNoiseConfig(DataNoiseSpec):
    """The images as published."""

    support: ClassVar[Support | None] = None

    kind: Literal["none"] = "none"

    def called(self) -> str:
        """Return the empty text: there is no noise."""
        return ""

    def text(self) -> str:
        """Return the empty text: there is no noise."""
        return ""

    def applied(self, dataset: Dataset) -> Dataset:
        """Return the set itself."""
        return dataset


class GaussianNoiseConfig(DataNoiseSpec):
    """Gaussian noise added once to every image of digits (AR-ELBO 5.3); x leaves [0, 1].

    Which parts get it: "uniform" all, "spatial" the upper half of the rows, "conditional" digits 0-4,
    "spatial-conditional" the upper half of digits 0-4.
    """

    support: ClassVar[Support | None] = "reals"
    labels: ClassVar[tuple[str, str] | None] = ("digit", "tells digits 0-4 from 5-9 by their labels")

    kind: Literal["gaussian"] = "gaussian"
    pattern: Literal["uniform", "spatial", "conditional", "spatial-conditional"] = "uniform"
    variance: float = Field(
        default=0.01, gt=0, le=bounds.REAL, description="of an element, x in [0, 1]; the paper has 0.01 and 0.1"
    )
    seed: bounds.Seed = Field(default=0, description="of the noise; the run's seed does not change the data")

    def called(self) -> str:
        """Return pattern and variance."""
        return f"{self.pattern}-{self.variance:g}"

    def text(self) -> str:
        """Return the pattern."""
        return f"{self.pattern} noise"

    def applied(self, dataset: Dataset) -> Dataset:
        """Return the set with its Gaussian noise: see `vae_models.data.noise`."""
        from vae_models.data.noise import with_noise

        return with_noise(dataset, pattern=self.pattern, variance=self.variance, seed=self.seed)


OURS = (NoNoiseConfig, GaussianNoiseConfig)
NOISES = Seam[type[DataNoiseSpec]](
    "noise", ["vae_models.data.noises:OURS"], check=spec_of(DataNoiseSpec), summary="artificial noise, part of the data"
)

if TYPE_CHECKING:
    NoiseConfig = DataNoiseSpec
else:
    NoiseConfig = NOISES.union()
