"""How latents, networks and a likelihood make one model of x, as data: what every topology says of itself."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from vae_models.likelihoods.specs import LikelihoodSpec
from vae_models.parts import Seam, found_in, spec_of
from vae_models.posteriors.specs import PosteriorSpec
from vae_models.strict import DataShape, Strict

if TYPE_CHECKING:
    from torch import nn

    from vae_models.data.spec import DataSpec


class TopologySpec(Strict):
    """A topology, as data. Its fields are its parts and its sizes; `build` puts them together.

    masks:     whether it takes data of differing lengths: it passes a batch's mask on to its likelihood, which must
               take them, too
    shortest:  the fewest places along "time" that it takes a batch of such data with, which is then cut to its longest;
               None: it takes data at their full length alone
    continues: whether each x is the continuation of a beginning that it is given (`protocols.HasPrediction`): nothing
               can be sampled without one
    recomputed: whether its model has `protocols.HasCells`, whose activations can be computed again
    """

    masks: ClassVar[bool] = False
    shortest: ClassVar[int | None] = None
    continues: ClassVar[bool] = False
    recomputed: ClassVar[bool] = False

    if TYPE_CHECKING:
        kind: str

    @abstractmethod
    def latents(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each latent by the name that it has in a trace, nearest to x first."""

    def dimensions(self) -> int:
        """Return the dimensions of all latents together."""
        return sum(math.prod(shape) for shape in self.latents().values())

    @property
    def bound(self) -> bool:
        """Return whether -(distortion + rate) is a lower bound on log p(x): where every posterior has a density."""
        return all(posterior.bound for _, posterior in found_in(self, PosteriorSpec, "model"))

    def levels(self) -> int | None:
        """Return how many values of x its likelihood has masses for; None: of a density."""
        counts = (likelihood.levels for _, likelihood in found_in(self, LikelihoodSpec, "model"))
        return next((levels for levels in counts if levels is not None), None)

    def beta_range(self) -> tuple[float, float] | None:
        """Return the smallest and the largest beta that the model is for; None: it does not read beta, so that no beta
        of each datum's own can be drawn for it, and it is evaluated at no others than 1."""
        return None

    def against_bf16(self) -> str | None:
        """Return why its networks are not computed in bfloat16. A topology that makes what they return
        `precision.full` before it computes a density of it returns None."""
        return f"model {self.kind} does not say that it computes densities in float32 of what its networks return"

    def suited(self, facts: DataSpec) -> Self:
        """Return the topology for data of these facts: with what it takes from them, such as the size of a vocabulary,
        filled in. A run's configuration asks it when it is read."""
        return self

    def offers(self) -> frozenset[str]:
        """Return what an objective can read of the built model beside its traces: see `ObjectiveSpec.needs`."""
        return frozenset()

    @abstractmethod
    def weights(self, data_shape: DataShape) -> int:
        """Return about how many numbers are trained, from the specification alone."""

    def outputs(self, data_shape: DataShape) -> int:
        """Return how many numbers the decoder gives for a datum."""
        likelihoods = (likelihood for _, likelihood in found_in(self, LikelihoodSpec, "model"))
        return math.prod(data_shape) * max((each.parameters_per_element() for each in likelihoods), default=1)

    def refusals(self) -> Iterator[str]:
        """Yield a sentence for each reason why its parts do not go together."""
        return iter(())

    def data_refusals(self, data_shape: DataShape, batch_size: int) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot be trained on such data; batch_size: of the global batch."""
        for _, likelihood in found_in(self, LikelihoodSpec, "model"):
            yield from likelihood.refusals(data_shape, batch_size)

    @abstractmethod
    def build(self, data_shape: DataShape) -> nn.Module:
        """Return the `protocols.Model` for data of one shape, on the CPU in torch's default dtype.

        Parameters are drawn from torch's current generator: seed that, and the model is a pure function of the seed.
        Raise ValueError if a part cannot take such data.
        """


TOPOLOGIES = Seam[type[TopologySpec]](
    "topology",
    [
        "vae_models.topologies.vae.specs:ModelConfig",
        "vae_models.topologies.ladder.specs:NvaeConfig",
        "vae_models.topologies.text.specs:TextConfig",
        "vae_models.topologies.video.specs:VideoConfig",
    ],
    check=spec_of(TopologySpec),
    summary="how latents, networks and a likelihood make one model",
)
