"""What reproductions measure of a trained model that no evaluator does: functions of a subject."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vae_models.evaluation.subject import Rows, Subject
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.metrics.comparison import gaussian_log_mass
from vae_models.protocols import HasVariance


def discretized(subject: Subject) -> Mapping[str, float]:
    """Return discretized_bound: -log P(x) <= rate - log P(x|z) of a Gaussian decoder integrated over each of the 256
    levels, nats per datum (sigma-VAE, table 4); nothing of another decoder.
    """
    space, likelihood = subject.space, subject.space.likelihood
    gaussian = isinstance(getattr(subject.config.model, "likelihood", None), GaussianConfig)
    if not gaussian or not isinstance(likelihood, HasVariance):
        return {}

    def bound(rows: Rows) -> dict[str, Tensor]:
        trace = space.trace(rows.x, space.encode(rows.x), rows.noise)
        log_sigma = 0.5 * likelihood.variance(trace.decoded, trace.target).double().log()
        log_mass = gaussian_log_mass(trace.target.double(), trace.mean.double(), log_sigma)
        return {"bound": trace.rate.double() - log_mass}

    per_datum = subject.map(bound, what="masses", noise=subject.model.noise(), stream="elbo")["bound"]
    return {"discretized_bound": float(per_datum.mean())}


def beta_step(rule: str, beta: float, delta: float, *, nu: float = 1.0, tau: float = 3.0) -> float:
    """Return beta_t - beta_(t-1) of VHP's REWO or of GECO at delta = C - kappa^2 (figure 9)."""
    from vae_models.control.constrained import Geco, Rewo

    kappa = 1.0  # any: what counts is the distance from its square
    rewo, geco = Rewo(kappa=kappa, nu=nu, start=beta, tau=tau), Geco(kappa=kappa, nu=nu, start=beta)
    controller = rewo if rule == "rewo" else geco
    state = controller.initial() | {"phase": torch.tensor(2.0, dtype=torch.float64)}
    after = controller.update(state, {"squared_error": torch.tensor(kappa**2 + delta)})
    return float(after["beta"]) - beta
