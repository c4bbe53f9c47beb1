"""p(x|z)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vae_models.config.base import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.likelihoods.bernoulli import Bernoulli
    from vae_models.likelihoods.gaussian import Gaussian


class BernoulliConfig(Strict):
    """A mass over {0, 1}; on grey values the cross-entropy, which is no log-likelihood."""

    kind: Literal["bernoulli"] = "bernoulli"

    def build(self, data_shape: DataShape) -> Bernoulli:
        from vae_models.likelihoods.bernoulli import Bernoulli

        return Bernoulli()


class GaussianConfig(Strict):
    """N(mean(z), sigma^2 I) with a fixed sigma: a density."""

    kind: Literal["gaussian"] = "gaussian"
    sigma: float = Field(default=1.0, gt=0, description="standard deviation of every element of x, in units of x")
    link: Literal["identity", "sigmoid"] = Field(
        default="identity", description="from the decoder's output to the mean; sigmoid keeps it inside (0, 1)"
    )

    def build(self, data_shape: DataShape) -> Gaussian:
        from vae_models.likelihoods.gaussian import Gaussian

        return Gaussian(sigma=self.sigma, link=self.link)


LikelihoodConfig = Annotated[BernoulliConfig | GaussianConfig, Field(discriminator="kind")]
