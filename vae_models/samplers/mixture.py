"""A mixture of Gaussians as the law of z, fitted to posterior means (AR-ELBO section 6)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models.collectives import broadcast_tensors, on_first_rank
from vae_models.normal import HALF_LOG_TWO_PI
from vae_models.protocols import Model, Tell
from vae_models.records import Encoding, NoiseSpec
from vae_models.samplers.laws import LatentLaw

GENERATOR_SEEDS = 2**32  # what numpy's older generator takes, which scikit-learn seeds


@dataclass(frozen=True, kw_only=True)
class GaussianMixture(LatentLaw):
    """q(z) = sum_k w_k N(z; mean_k, L_k L_k^T), in float64.

    weights: [components], sum to 1
    centres: the means, [components, latent]
    factors: L, [components, latent, latent], lower triangular with a positive diagonal
    """

    weights: Tensor
    centres: Tensor
    factors: Tensor

    def noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the noise of a z: z, standard normal [latent]; component, one uniform number."""
        return {"z": NoiseSpec(shape=(self.centres.shape[1],)), "component": NoiseSpec(shape=(1,), kind="uniform")}

    def z(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw a component by its weight's inverse distribution function, then z = mean + L n; [n, latent]."""
        standard = noise["z"].to(self.weights)
        chosen = self.components(noise["component"][:, 0])
        z = torch.empty_like(standard)
        for component in chosen.bincount().nonzero()[:, 0].tolist():
            rows = chosen == component
            z[rows] = self.centres[component] + standard[rows] @ self.factors[component].mT
        return z.to(noise["z"])

    def components(self, uniform: Tensor) -> Tensor:
        """Return the component of each number in [0, 1): k where W_k-1 <= u < W_k, W the sum of the weights up to k."""
        ends = self.weights.cumsum(0)[:-1]  # the last component has all that is left: no rounding leaves a gap
        return torch.searchsorted(ends, uniform.to(self.weights), right=True)

    def density_noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return no noise: the density is exact."""
        return {}

    def log_prob(self, model: Model, z: Tensor, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return log q(z), float64 [n], nats: exact."""
        z, terms = z.to(self.weights), []
        for weight, mean, factor in zip(self.weights, self.centres, self.factors, strict=True):
            standard = torch.linalg.solve_triangular(factor, (z - mean).mT, upper=False)
            log_volume = factor.diagonal().log().sum() + len(mean) * HALF_LOG_TWO_PI
            terms.append(weight.log() - log_volume - standard.square().sum(0) / 2)
        return torch.logsumexp(torch.stack(terms), 0)


@dataclass(frozen=True, kw_only=True)
class MixtureFitter:
    """Maximum likelihood of a mixture with full covariances by expectation-maximization (scikit-learn's).

    components:     K
    data:           fit on the first so many posterior means; None: on all
    iterations:     at most; tolerance: of the mean log-likelihood per datum, nats, at which it ends
    regularization: added to the covariances' diagonals
    """

    components: int
    data: int | None
    iterations: int
    tolerance: float
    regularization: float

    def fit(self, posteriors: Encoding, *, seed: int, device: torch.device, tell: Tell) -> dict[str, Tensor]:
        """Return weights [K], means [K, latent], factors [K, latent, latent], iterations [] and converged [].

        It is fitted by the first worker, in float64, from k-means with this seed. Raise ValueError on data that do not
        determine so many covariances.
        """
        means = posteriors.mean[: self.data].double()
        self._check(means)
        fitted: dict[str, Tensor] = {}
        on_first_rank(lambda: fitted.update(self._fitted(means, seed)), device)
        return broadcast_tensors(fitted, device)

    def law(self, fitted: Mapping[str, Tensor], device: torch.device) -> GaussianMixture:
        """Return the mixture on the device."""
        tensors = {name: fitted[name].to(device) for name in ("weights", "means", "factors")}
        return GaussianMixture(weights=tensors["weights"], centres=tensors["means"], factors=tensors["factors"])

    def notes(self, fitted: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Return a sentence where the fit ended before it had converged."""
        if fitted["converged"]:
            return ()
        return (f"gmm-{self.components} has not converged to {self.tolerance:g} nats in {self.iterations} iterations",)

    def _check(self, means: Tensor) -> None:
        data, latent = means.shape
        needed = self.components * (latent + 1)
        why = f"{self.components} components with full covariances in {latent} dimensions need at least {needed} data"
        fewer = f"fit at most {data // (latent + 1)} components, or " if data > latent else ""
        mend = f"{fewer}give more data"
        if data < needed:
            raise ValueError(f"{why}, {latent + 1} each, and there are {data}: {mend}")
        if (different := len(torch.unique(means, dim=0))) < needed:
            raise ValueError(f"{why} that differ, and of {data} posterior means {different} do: {mend}")

    def _fitted(self, means: Tensor, seed: int) -> dict[str, Tensor]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as Estimator

        estimator = Estimator(
            self.components, covariance_type="full", max_iter=self.iterations, tol=self.tolerance,
            reg_covar=self.regularization, random_state=seed % GENERATOR_SEEDS,
        )  # fmt: skip
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # `notes` says it
                estimator.fit(means.numpy())
        except ValueError as error:
            raise ValueError(
                f"a covariance of a mixture of {self.components} components is singular: fit fewer components, or "
                f"set a larger regularization than {self.regularization:g} ({error})"
            ) from error
        weights, covariances = (torch.from_numpy(each) for each in (estimator.weights_, estimator.covariances_))
        return {
            "weights": weights / weights.sum(),
            "means": torch.from_numpy(estimator.means_),
            "factors": torch.linalg.cholesky(covariances).contiguous(),
            "iterations": torch.tensor(estimator.n_iter_),
            "converged": torch.tensor(int(estimator.converged_)),
        }
