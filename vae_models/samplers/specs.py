"""How samples of a trained model are made, as data."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from vae_models.parts import Seam, spec_of
from vae_models.strict import Strict

if TYPE_CHECKING:
    from vae_models.protocols import Sampler
    from vae_models.samplers.prior import PriorSampler


class SamplerSpec(Strict):
    """How samples of a trained model are made, as data: the law of z, and how it is fitted where it has to be.

    fitted: whether it is fitted to a model after training (`FittedSamplerSpec`), so that `build` alone makes none
    """

    fitted: ClassVar[bool] = False

    if TYPE_CHECKING:
        kind: str

    def called(self) -> str:
        """Return its name in metrics, tables and folders: the kind, with what tells it from others of the kind."""
        return self.kind

    @abstractmethod
    def build(self) -> Sampler:
        """Return the sampler; torch is loaded here."""


class PriorSamplerConfig(SamplerSpec):
    """z ~ p(z), each prior by its own way of sampling: VampPrior and VHP bring theirs."""

    kind: Literal["prior"] = "prior"

    def build(self) -> PriorSampler:
        """Return the sampler from the prior: see `PriorSampler`."""
        from vae_models.samplers.prior import PriorSampler

        return PriorSampler()


SAMPLERS = Seam[type[SamplerSpec]](
    "sampler",
    ["vae_models.samplers.specs:PriorSamplerConfig"],
    check=spec_of(SamplerSpec),
    summary="how samples of a trained model are made",
)

if TYPE_CHECKING:
    SamplerConfig = SamplerSpec
else:
    SamplerConfig = SAMPLERS.union()
