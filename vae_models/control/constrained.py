"""beta that keeps the reconstruction error at a given size: REWO, GECO and the alternative of VHP B.1.

The problem (VHP section 2): the smallest rate with E[C] <= kappa^2, where C is the squared error of a datum's
reconstruction, meaned over its elements (the trace's `squared_error`). Its Lagrangian, divided by the multiplier, is
distortion + beta x rate: beta rises while the constraint holds and falls while it is violated. All three look at the
moving average C_t = (1 - alpha) C_batch + alpha C_(t-1), which starts as the first batch's C, and at
delta = C_t - kappa^2.

The state is float64 on the loop's device; nothing waits for a value. beta stays within `LIMITS`, so no exponential can
overflow; with useful settings it never gets near them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from vae_models.records import NoiseSpec

LIMITS = (1e-10, 1e10)


def rewo_factor(beta: Tensor, delta: Tensor, tau: float | Tensor) -> Tensor:
    """Return f(beta, delta; tau) = (1 - H(delta)) tanh(tau (beta - 1)) - H(delta), H the Heaviside step (VHP eq 11)."""
    violated = (delta > 0).to(beta.dtype)
    return (1 - violated) * torch.tanh(tau * (beta - 1)) - violated


@dataclass(frozen=True, kw_only=True)
class _Constrained:
    """What the three share: the moving average, and REWO's two phases where `phases` says so.

    In the first phase beta keeps its start and the prior is held; the second begins with the first step after which
    the constraint holds on average, and never ends.
    """

    kappa: float | Tensor
    nu: float | Tensor
    start: float
    alpha: float | Tensor = 0.99
    phases: bool = True

    def initial(self) -> dict[str, Tensor]:
        """Return the initial state: beta; average, C_t, NaN before the first step; phase, 1 or 2."""
        values = {"beta": self.start, "average": float("nan"), "phase": 1.0 if self.phases else 2.0}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: beta is deterministic."""
        return {}

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """Return beta, [], float64, on the loop's device."""
        return state["beta"]

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state after a step; it reads terms["squared_error"]."""
        error = terms["squared_error"].double()
        average = torch.where(state["average"].isnan(), error, (1 - self.alpha) * error + self.alpha * state["average"])
        delta = average - self.kappa**2
        phase = torch.where(delta < 0, 2.0, state["phase"]).double()
        beta = torch.where(phase > 1, self._next(state["beta"], delta).clamp(*LIMITS), state["beta"])
        return {"beta": beta, "average": average, "phase": phase}

    def trains_prior(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return 0 in the first phase and 1 in the second, []; None without phases."""
        return (state["phase"] > 1).double() if self.phases else None

    def stacked(self, lanes: Sequence[Self], device: torch.device) -> Self:
        """Return the controller of these lanes' stacked state: its numbers are tensors [lanes]."""
        names = [field.name for field in fields(self) if field.name not in ("start", "phases")]
        numbers = {name: torch.tensor([getattr(lane, name) for lane in lanes], dtype=torch.float64) for name in names}
        of_lanes: dict[str, Any] = {name: values.to(device) for name, values in numbers.items()}
        return replace(self, **of_lanes)

    def _next(self, beta: Tensor, delta: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Rewo(_Constrained):
    """beta_t = beta_(t-1) exp[nu f(beta_(t-1), delta; tau) delta] (VHP eq 11, algorithm 1).

    While the constraint holds beta goes to 1 from either side, so the optimum is a point of the ELBO itself.
    """

    tau: float | Tensor = 3.0

    def _next(self, beta: Tensor, delta: Tensor) -> Tensor:
        return beta * torch.exp(self.nu * rewo_factor(beta, delta, self.tau) * delta)


@dataclass(frozen=True, kw_only=True)
class Geco(_Constrained):
    """beta_t = beta_(t-1) exp[-nu delta] (Rezende & Viola 2018), in VHP's convention; beta may pass 1. No phases."""

    phases: bool = False

    def _next(self, beta: Tensor, delta: Tensor) -> Tensor:
        return beta * torch.exp(-self.nu * delta)


@dataclass(frozen=True, kw_only=True)
class Alternative(_Constrained):
    """gamma_t = gamma_(t-1) exp(nu delta), beta_t = 1 / (1 + tau gamma_t) (VHP eqs 14-15): beta < 1 always.

    tau gamma is 1/beta - 1, so beta alone is the state.
    """

    tau: float | Tensor = 1.0

    def _next(self, beta: Tensor, delta: Tensor) -> Tensor:
        gamma = (1 / beta - 1) / self.tau * torch.exp(self.nu * delta)
        return 1 / (1 + self.tau * gamma)
