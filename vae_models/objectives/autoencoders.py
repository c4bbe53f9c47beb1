"""Autoencoders with a penalty in place of the rate: the baselines of AR-ELBO section 6. None is a bound on log p(x).

The reconstruction term is the trace's, as a rule its distortion; with the Gaussian likelihood of sigma^2 = 1/2 that is
the squared error of the datum, up to a constant, which is what the weights in the literature go with. beta has no
meaning in any of them: a config with another one than the constant 1 is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.collectives import gather_rows, global_mean
from vae_models.numbers import Number
from vae_models.objectives.elbo import reduced
from vae_models.protocols import Model
from vae_models.records import Loss, NoiseSpec, Trace

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # Tolstikhin et al. 2018's seven kernels


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """total = mean_i reconstruction_i."""

    samples: ClassVar[int] = 1

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: the objective needs none beyond the model's."""
        return {}

    def __call__(self, trace: Trace, beta: Tensor, *, model: Model, noise: Mapping[str, Tensor]) -> Loss:
        return reduced(trace.reconstruction, trace)


def squared_distances(a: Float[Tensor, "n latent"], b: Float[Tensor, "m latent"]) -> Float[Tensor, "n m"]:
    """Return |a_i - b_j|^2, each difference squared on its own:
    no cancellation, and a gradient of 0 where two are equal.
    """
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1)


def mmd(z: Float[Tensor, "n latent"], prior: Float[Tensor, "n latent"], *, sigma: float = 1.0) -> Float[Tensor, ""]:
    """Return an unbiased estimate of the squared maximum mean discrepancy between z and draws of the prior.

    (1/(n (n - 1))) sum_(i != j) [k(z_i, z_j) + k(p_i, p_j)] - (2/n^2) sum_(i, j) k(z_i, p_j) with the inverse
    multiquadratic kernels k(a, b) = sum_s C/(C + |a - b|^2), C = 2 d_z s sigma^2, s in SCALES (Tolstikhin et al. 2018;
    sigma^2: the prior's variance). Unbiased, so it may be below zero.
    """
    n, latent = z.shape
    if n < 2:
        raise ValueError(f"the unbiased MMD compares data, and there is {n} in the batch: set batch_size to 2 or more")
    within, across = z.new_zeros(()), z.new_zeros(())
    apart = 1 - torch.eye(n, dtype=z.dtype, device=z.device)
    of_z, of_prior, of_both = squared_distances(z, z), squared_distances(prior, prior), squared_distances(z, prior)
    for scale in SCALES:
        c = 2 * latent * scale * sigma**2
        within = within + (apart * (c / (c + of_z) + c / (c + of_prior))).sum()
        across = across + (c / (c + of_both)).sum()
    return within / (n * (n - 1)) - 2 * across / n**2


class WaeMmd(nn.Module):
    """total = mean_i reconstruction_i + weight * MMD(z, prior) over the global batch (Tolstikhin et al. 2018).

    The prior's draws are N(0, I), declared as noise. Terms besides the usual ones: mmd.
    """

    samples: ClassVar[int] = 1

    def __init__(self, *, latent: int, weight: float = 10.0) -> None:
        """Prepare the penalty. latent: dimensions of z."""
        super().__init__()
        self.latent = latent
        self.weight = Number(weight)

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of the prior's draws: mmd, standard normal [latent] per datum."""
        return {"mmd": NoiseSpec(shape=(self.latent,))}

    def forward(self, trace: Trace, beta: Tensor, *, model: Model, noise: Mapping[str, Tensor]) -> Loss:
        # both in one message; every worker then computes the same number from the same rows
        rows, _ = gather_rows(torch.cat([trace.latents[0].sample, noise["mmd"]], dim=1))
        discrepancy = mmd(rows[:, : self.latent], rows[:, self.latent :])
        loss = reduced(trace.reconstruction, trace)
        total = loss.total + self.weight.like(discrepancy) * discrepancy
        return Loss(total=total, terms={**loss.terms, "mmd": discrepancy.detach()})


class RegularizedAutoencoder(nn.Module):
    """total = mean_i [reconstruction_i + latent_weight * |z_i|^2] + regularizer (Ghosh et al. 2020, "RAE").

    regularizer "l2": decoder_weight * sum of the squares of the decoder's parameters; "gradient": decoder_weight *
    mean_i |d mean_i / d z_i|_F^2, the decoder's gradient penalty with respect to the latent (RAE-GP, AR-ELBO's eq 4),
    estimated without bias by |v^T d mean / d z|^2 with v ~ N(0, I), which is declared as noise. A decoder with batch
    norm couples the data, and the gradient is then that of the whole batch's mean values.
    Terms besides the usual ones: latent_square, and regularizer without its weight.
    """

    samples: ClassVar[int] = 1

    def __init__(
        self,
        *,
        data_shape: tuple[int, ...],
        regularizer: str = "l2",
        latent_weight: float = 1e-4,
        decoder_weight: float = 1e-7,
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.regularizer = regularizer
        self.latent_weight = Number(latent_weight)
        self.decoder_weight = Number(decoder_weight)

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of the gradient penalty: penalty, standard normal of the data's shape."""
        return {"penalty": NoiseSpec(shape=self.data_shape)} if self.regularizer == "gradient" else {}

    def forward(self, trace: Trace, beta: Tensor, *, model: Model, noise: Mapping[str, Tensor]) -> Loss:
        z = trace.latents[0].sample
        square = z.square().sum(1)
        of_latent, of_decoder = self.latent_weight.like(z), self.decoder_weight.like(z)
        if self.regularizer == "gradient":
            (gradient,) = torch.autograd.grad((trace.mean * noise["penalty"]).sum(), z, create_graph=True)
            penalty = gradient.square().sum(1)
            rows = trace.reconstruction + of_latent * square + of_decoder * penalty
            loss = reduced(rows, trace)
            latent_square, mean = global_mean(torch.stack([square, penalty], dim=1).detach()).unbind(0)
        else:
            loss = reduced(trace.reconstruction + of_latent * square, trace)
            latent_square = global_mean(square.detach())
            whole = torch.stack([value.square().sum() for value in model.groups()["decoder"]]).sum()
            loss = Loss(total=loss.total + of_decoder * whole, terms=loss.terms)
            mean = whole.detach()
        return Loss(total=loss.total, terms={**loss.terms, "latent_square": latent_square, "regularizer": mean})
