"""What distances between images are measured on, as data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.config.run import RunConfig
from vae_models.data.errors import DataCorrupt
from vae_models.data.spec import Digest
from vae_models.evaluation.features.published import FILE, SHA256
from vae_models.parts import Seam, spec_of
from vae_models.strict import Strict

if TYPE_CHECKING:
    import torch

    from vae_models.evaluation.features.extractor import Extractor

COLOURS = frozenset({"bits", "bytes", "unit"})  # supports whose values are in [0, 1]


class FeaturesSpec(Strict):
    """A map from images to vectors, as data. Importing it loads no torch."""

    if TYPE_CHECKING:
        kind: str

    def called(self) -> str:
        """Return its name in metrics, such as inception in fid_inception: two whose features differ never share it."""
        return self.kind.replace("-", "_")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield a sentence for each reason why such data have no such features."""
        facts = config.data.facts
        if not facts.image:
            yield f"features are of images, and a datum of {config.data.name} is {' x '.join(facts.axes)}"
        elif config.data.support not in COLOURS:
            yield f"features are of values in [0, 1], and those of {config.data.name} are {config.data.support}"

    @abstractmethod
    def build(self, device: torch.device) -> Extractor:
        """Return the extractor on a device; torch is loaded here. Raise DataError where a file is missing or wrong."""


class InceptionFeatures(FeaturesSpec):
    """2,048 features of the Inception network of the FID, as the package pytorch-fid computes them: `Inception`."""

    kind: Literal["inception"] = "inception"
    weights: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="path of the weights on the worker's machine; none: they are looked for like data, and downloaded",
    )
    sha256: Digest = Field(
        default=SHA256,
        description="of the file at `weights`; one that is not pytorch-fid's is in metrics' names",
    )

    def called(self) -> str:
        """Return inception, with the beginning of the weights' SHA-256 where they are not the published ones."""
        return self.kind if self.sha256 == SHA256 else f"{self.kind}_{self.sha256[:8]}"

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield what every extractor refuses, numbers of channels but 1 and 3, and a sum without its file."""
        yield from super().refusals(config)
        facts = config.data.facts
        if facts.image and facts.shape[0] not in (1, 3):
            yield f"Inception reads grey and RGB, and images of {config.data.name} have {facts.shape[0]} channels"
        if self.weights is None and self.sha256 != SHA256:
            yield "sha256 is of the file at `weights`, which is not given: leave it out"

    def build(self, device: torch.device) -> Extractor:
        """Return the extractor: see `inception.Inception`."""
        from vae_models.evaluation.features import inception, weights

        state = weights.published() if self.weights is None else weights.at(self.weights, self.sha256)
        try:
            return inception.Inception(state, sha256=self.sha256, device=device)
        except ValueError as error:
            raise DataCorrupt(f"{self.weights or FILE.name}: {error}") from error


class PixelFeatures(FeaturesSpec):
    """The values themselves, averaged over a grid of at most `size` x `size` cells: no weights, and no semantics."""

    kind: Literal["pixels"] = "pixels"
    size: int = Field(default=8, ge=1, le=64, description="cells to a side")

    def called(self) -> str:
        """Return pixels, with the size where it is not the default."""
        return self.kind if self.size == type(self).model_fields["size"].default else f"{self.kind}_{self.size}"

    def build(self, device: torch.device) -> Extractor:
        """Return the extractor: see `plain.Pixels`."""
        from vae_models.evaluation.features.plain import Pixels

        return Pixels(size=self.size)


class RandomConvFeatures(FeaturesSpec):
    """A small convolutional network with fixed random weights: for smoke tests and orderings, not to be compared with
    published values.
    """

    kind: Literal["random-conv"] = "random-conv"
    seed: bounds.Seed = Field(default=0, description="of the weights")

    def called(self) -> str:
        """Return random_conv, with the seed where it is not 0."""
        return "random_conv" if self.seed == 0 else f"random_conv_{self.seed}"

    def build(self, device: torch.device) -> Extractor:
        """Return the extractor: see `plain.RandomConv`."""
        from vae_models.evaluation.features.plain import RandomConv

        return RandomConv(seed=self.seed, device=device)


FEATURES = Seam[type[FeaturesSpec]](
    "features",
    [
        "vae_models.evaluation.features.specs:InceptionFeatures",
        "vae_models.evaluation.features.specs:PixelFeatures",
        "vae_models.evaluation.features.specs:RandomConvFeatures",
    ],
    check=spec_of(FeaturesSpec),
    summary="what distances between images are measured on",
)

if TYPE_CHECKING:
    FeaturesConfig = FeaturesSpec
else:
    FeaturesConfig = FEATURES.union()
