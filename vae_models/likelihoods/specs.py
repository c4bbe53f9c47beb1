"""p(x|z), as data: what each likelihood takes for x, what its nats are of, and what the decoder must give it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from vae_models import bounds
from vae_models.data.spec import Support
from vae_models.parts import Seam, spec_of
from vae_models.strict import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.likelihoods.bernoulli import Bernoulli
    from vae_models.likelihoods.beta import Beta
    from vae_models.likelihoods.categorical import Bitwise, Categorical
    from vae_models.likelihoods.discretized import Discretized, LogisticMixture
    from vae_models.likelihoods.gaussian import DatasetMLE, DatumMLE, Gaussian, PredictedGaussian, TrainedGaussian
    from vae_models.likelihoods.tokens import Tokens
    from vae_models.protocols import Likelihood, Measure

Link = Literal["identity", "sigmoid"]


def _link() -> Link:
    field: Link = Field(
        default="identity", description="from the decoder's output to the mean; sigmoid keeps it inside (0, 1)"
    )
    return field


class LikelihoodSpec(Strict):
    """A likelihood p(x|z), as data.

    measure:  whether log p(x|z) is of a density or of a mass: their nats are never compared
    levels:   how many values of x there are masses for; None: of a density
    supports: the values of x that it takes (see `vae_models.data.spec`)
    masks:    whether it takes data of differing lengths: its `log_prob` has a mask, and leaves padding out
    """

    measure: ClassVar[Measure]
    levels: ClassVar[int | None] = None
    supports: ClassVar[frozenset[Support]]
    masks: ClassVar[bool] = False

    if TYPE_CHECKING:
        kind: str

    def parameters_per_element(self) -> int:
        """Return how many numbers the decoder gives for each element of x; the built likelihood has the same number."""
        return 1

    def refusals(self, data_shape: DataShape, batch_size: int) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot be trained on such data; batch_size: of the global batch."""
        return iter(())

    @abstractmethod
    def build(self, data_shape: DataShape) -> Likelihood:
        """Return the likelihood of data of this shape; torch is loaded here."""


ANY: frozenset[Support] = frozenset({"bits", "bytes", "unit", "reals"})  # whatever is a number


class BernoulliConfig(LikelihoodSpec):
    """A mass over {0, 1}; on grey values the cross-entropy, which is no log-likelihood."""

    measure: ClassVar[Measure] = "mass"
    levels: ClassVar[int | None] = 2
    supports: ClassVar[frozenset[Support]] = frozenset({"bits", "bytes", "unit"})
    masks: ClassVar[bool] = True

    kind: Literal["bernoulli"] = "bernoulli"

    def build(self, data_shape: DataShape) -> Bernoulli:
        from vae_models.likelihoods.bernoulli import Bernoulli

        return Bernoulli()


class GaussianConfig(LikelihoodSpec):
    """N(mean(z), diag sigma^2), a density: which elements share a sigma, and where it comes from.

    fit "fixed" gives sigma; "trained" makes it a parameter per data set; "mle" takes the mean squared error of the
    global batch or of each datum; "predicted" reads it, per datum, from the decoder. See `likelihoods.gaussian`.
    """

    measure: ClassVar[Measure] = "density"
    supports: ClassVar[frozenset[Support]] = ANY
    masks: ClassVar[bool] = True
    fusible: ClassVar[tuple[str, ...]] = ("sigma", "softclip", "epsilon")

    kind: Literal["gaussian"] = "gaussian"
    tie: Literal["iso", "diag"] = Field(
        default="iso", description="one sigma for all elements of a datum, or one for each"
    )
    per: Literal["dataset", "datum"] = Field(
        default="dataset", description="the same sigma for all data, or each datum its own"
    )
    fit: Literal["fixed", "trained", "mle", "predicted"] = "fixed"
    sigma: float = Field(
        default=1.0,
        gt=0,
        le=bounds.REAL,
        description="standard deviation in units of x: fixed, or where a trained one starts",
    )
    link: Link = _link()
    softclip: float | None = Field(
        default=-6.0,
        ge=-bounds.REAL,
        le=bounds.REAL,
        description="log sigma is kept above this, smoothly, unless sigma is fixed; none: it is not",
    )
    epsilon: float = Field(
        default=0.0, ge=0, le=bounds.REAL, description="added to sigma^2 that is fitted by maximum likelihood"
    )

    @model_validator(mode="after")
    def _axes_fit(self) -> GaussianConfig:
        if self.fit == "fixed" and (self.tie, self.per) != ("iso", "dataset"):
            raise ValueError("a fixed sigma is one number: tie iso, per dataset; to fit more, fit trained or mle")
        if self.fit == "trained" and self.per == "datum":
            raise ValueError("a trained sigma is the same for all data: per dataset; for one per datum, fit predicted")
        if self.fit == "predicted" and self.per == "dataset":
            raise ValueError(
                "a predicted sigma is the decoder's, for each datum: per datum; for one of all data, fit trained"
            )
        if self.fit == "trained" and self.softclip is not None and math.log(self.sigma) <= self.softclip:
            raise ValueError(
                f"a trained sigma that starts at {self.sigma:g}, log sigma {math.log(self.sigma):.3g}, is not "
                f"above the soft clip of log sigma, {self.softclip:g}: set a larger sigma, or a lower softclip, or none"
            )
        if (self.tie, self.per, self.fit) == ("diag", "datum", "mle") and self.softclip is None and self.epsilon == 0:
            raise ValueError("one squared error per sigma has no largest likelihood: set epsilon (1e-6) or softclip")
        return self

    def parameters_per_element(self) -> int:
        """Return 2 where the decoder gives a sigma beside each mean."""
        return 2 if self.fit == "predicted" else 1

    def refusals(self, data_shape: DataShape, batch_size: int) -> Iterator[str]:
        """Yield a sentence where a variance is fitted to one squared error: that likelihood has no largest value."""
        if self.fit != "mle" or self.softclip is not None:
            return
        of_elements = math.prod(data_shape) if self.tie == "iso" else 1
        errors = of_elements * (batch_size if self.per == "dataset" else 1)
        if errors < 2 and self.epsilon == 0:
            yield (
                f"model.likelihood fits each variance to one squared error ({self.tie}, per {self.per}, "
                f"{math.prod(data_shape)} elements, batch_size {batch_size}), which has no largest likelihood: set "
                "epsilon (1e-6) or softclip, or a larger batch_size"
            )

    def against_lanes(self) -> str | None:
        """Return why Diag-D is not fused: a variance for each element of each datum (AR-ELBO), fitted to that element
        alone, has the loss log(e^2 + epsilon), whose slope reaches 1/sqrt(epsilon): within a few hundred steps the
        rounding by which fused lanes differ from separate runs becomes another curve.
        """
        if (self.tie, self.per, self.fit) != ("diag", "datum", "mle"):
            return None
        return "a variance for each element of each datum amplifies rounding: fused, a lane would leave its own curve"

    def against_micro_batch(self) -> str | None:
        """Return that a variance fitted to all data of a batch couples them."""
        if (self.per, self.fit) != ("dataset", "mle"):
            return None
        return f"likelihood {self.kind} with fit mle per dataset fits its variance to the whole batch"

    def build(self, data_shape: DataShape) -> Gaussian | TrainedGaussian | DatasetMLE | DatumMLE | PredictedGaussian:
        from vae_models.likelihoods import gaussian

        if self.fit == "fixed":
            return gaussian.Gaussian(sigma=self.sigma, link=self.link)
        if self.fit == "trained":
            return gaussian.TrainedGaussian(
                data_shape=data_shape, tie=self.tie, sigma=self.sigma, link=self.link, minimum=self.softclip
            )
        if self.fit == "predicted":
            return gaussian.PredictedGaussian(tie=self.tie, link=self.link, minimum=self.softclip)
        if self.per == "datum":
            return gaussian.DatumMLE(tie=self.tie, link=self.link, minimum=self.softclip, epsilon=self.epsilon)
        return gaussian.DatasetMLE(
            data_shape=data_shape, tie=self.tie, link=self.link, minimum=self.softclip, epsilon=self.epsilon
        )


class _Levels(LikelihoodSpec):
    measure: ClassVar[Measure] = "mass"
    levels: ClassVar[int | None] = 256
    supports: ClassVar[frozenset[Support]] = frozenset({"bytes"})
    masks: ClassVar[bool] = True


class CategoricalConfig(_Levels):
    """A mass over the 256 levels k/255: one logit each."""

    kind: Literal["categorical"] = "categorical"

    def parameters_per_element(self) -> int:
        """Return 256: a logit for each level."""
        return 256

    def build(self, data_shape: DataShape) -> Categorical:
        from vae_models.likelihoods.categorical import Categorical

        return Categorical()


class BitwiseConfig(_Levels):
    """A mass over the 256 levels k/255: one logit for each of k's 8 bits."""

    kind: Literal["bitwise"] = "bitwise"

    def parameters_per_element(self) -> int:
        """Return 8: a logit for each bit."""
        return 8

    def build(self, data_shape: DataShape) -> Bitwise:
        from vae_models.likelihoods.categorical import Bitwise

        return Bitwise()


class DiscretizedConfig(_Levels):
    """A mass over the 256 levels k/255: a Gaussian or logistic distribution integrated over each level's interval."""

    fusible: ClassVar[tuple[str, ...]] = ("scale",)

    kind: Literal["discretized"] = "discretized"
    shape: Literal["gaussian", "logistic"] = "logistic"
    fit: Literal["trained", "predicted"] = Field(
        default="trained", description="the scale: one trained number, or the decoder's for each element"
    )
    scale: float = Field(
        default=1.0, gt=0.0025, le=bounds.REAL, description="where a trained scale starts, in units of x"
    )
    link: Link = _link()

    def parameters_per_element(self) -> int:
        """Return 2 where the decoder gives a scale beside each mean."""
        return 2 if self.fit == "predicted" else 1

    def build(self, data_shape: DataShape) -> Discretized:
        from vae_models.likelihoods.discretized import Discretized

        return Discretized(shape=self.shape, fit=self.fit, scale=self.scale, link=self.link)


class LogisticMixtureConfig(_Levels):
    """A mass over the 256 levels k/255: a mixture of discretized logistics, no element depending on another."""

    kind: Literal["logistic-mixture"] = "logistic-mixture"
    components: int = Field(default=10, ge=1, le=bounds.COMPONENTS)

    def parameters_per_element(self) -> int:
        """Return the numbers of a logit, a mean and a scale for each component."""
        return 3 * self.components

    def build(self, data_shape: DataShape) -> LogisticMixture:
        from vae_models.likelihoods.discretized import LogisticMixture

        return LogisticMixture(components=self.components)


class TokensConfig(LikelihoodSpec):
    """A mass over the tokens of a vocabulary, at each place of a sequence."""

    measure: ClassVar[Measure] = "mass"
    supports: ClassVar[frozenset[Support]] = frozenset({"tokens"})
    masks: ClassVar[bool] = True

    kind: Literal["tokens"] = "tokens"
    vocabulary: int = Field(default=2, ge=2, le=2**31 - 1, description="how many tokens there are: the data's")

    def parameters_per_element(self) -> int:
        """Return the number of tokens: a logit for each."""
        return self.vocabulary

    def build(self, data_shape: DataShape) -> Tokens:
        from vae_models.likelihoods.tokens import Tokens

        return Tokens(vocabulary=self.vocabulary)


class BetaLikelihoodConfig(LikelihoodSpec):
    """A Beta density on the range of x, both concentrations above 1."""

    measure: ClassVar[Measure] = "density"
    supports: ClassVar[frozenset[Support]] = frozenset({"bytes", "unit"})
    masks: ClassVar[bool] = True

    kind: Literal["beta"] = "beta"

    def parameters_per_element(self) -> int:
        """Return 2: both concentrations."""
        return 2

    def build(self, data_shape: DataShape) -> Beta:
        from vae_models.likelihoods.beta import Beta

        return Beta()


OURS = (
    BernoulliConfig,
    GaussianConfig,
    CategoricalConfig,
    BitwiseConfig,
    DiscretizedConfig,
    LogisticMixtureConfig,
    BetaLikelihoodConfig,
)
LIKELIHOODS = Seam[type[LikelihoodSpec]](
    "likelihood",
    ["vae_models.likelihoods.specs:OURS"],
    check=spec_of(LikelihoodSpec),
    summary="p(x|z), from what the decoder gives",
)

if TYPE_CHECKING:
    LikelihoodConfig = LikelihoodSpec
else:
    LikelihoodConfig = LIKELIHOODS.union()
