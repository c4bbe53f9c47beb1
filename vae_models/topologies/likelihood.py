"""How a topology asks its likelihood."""

from __future__ import annotations

from torch import Tensor

from vae_models.protocols import HasObjective, Likelihood

X_NOISE = "sample/x"  # the noise of x, beside that of latents, of whose names none has a stroke


def distortions(likelihood: Likelihood, decoded: Tensor, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return (what the objective minimises, -log p(x|z)), each [batch], nats per datum."""
    padded = () if mask is None else (mask,)
    if isinstance(likelihood, HasObjective):
        return likelihood.distortions(decoded, x, *padded)
    distortion = -likelihood.log_prob(decoded, x, *padded)
    return distortion, distortion


def can_be_sampled(likelihood: Likelihood) -> bool:
    """Return whether x can be drawn: the likelihood's `sampled`, true where it has none."""
    return bool(getattr(likelihood, "sampled", True))
