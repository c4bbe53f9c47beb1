"""Whether a two-dimensional latent has found an angle (VHP appendix B.3: OLS regression on the latents)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AngleFit:
    """How well the posterior means lie on a circle that the true angle runs round once. Lengths in units of z.

    radius, radial_deviation: of the circle fitted to the means, and the root mean square distance from it
    slope:          of the OLS of the true on the latent side of B.3, see `angle_fit`; 1 for a perfect latent
    ols_error:      mean absolute residual of that OLS, radians: what the paper's table 1 reports
    angular_error:  mean absolute difference, radians, of the true angle and the angle on the circle, both ways round
                    tried, best offset taken; pi/2 for a latent that knows nothing
    neighbour_error: mean absolute difference, radians, of a datum's true angle and that of the nearest other mean:
                    small for every closed curve that the angle runs round once, a circle or not
    """

    radius: float
    radial_deviation: float
    slope: float
    ols_error: float
    angular_error: float
    neighbour_error: float


def angle_fit(means: Float[Tensor, "data latent"], angles: Float[Tensor, " data"]) -> AngleFit:
    """Fit a circle to the posterior means, and its angle to the true angles in radians, of at least three data.

    The circle is the algebraic least-squares one (Kasa 1976): |z|^2 = 2 c.z + (r^2 - |c|^2) is linear in c and the
    constant. B.3 draws the joint angle against arcsin(z_2 / r); where on the circle the angle is zero, and which way
    round it runs, is free, so the latent is first turned to agree with the truth in the mean: with phi the angle on the
    circle about c, s = 1 or -1 and o the circular mean of theta - s phi, the OLS is of arcsin(sin(theta - o)) on
    arcsin(s (z - c)_2 / r), which is B.3's where the latent is already turned and centred.
    """
    if means.shape[0] < 3 or means.shape[1] != 2:
        raise ValueError(f"the fit needs at least 3 means in 2 dimensions, got {list(means.shape)}")
    z, theta = means.double(), angles.double()
    design = torch.cat([2 * z, torch.ones_like(z[:, :1])], dim=1)
    solution = torch.linalg.lstsq(design, z.square().sum(1, keepdim=True)).solution[:, 0]
    centre = solution[:2]
    radius = torch.sqrt(solution[2] + centre.square().sum())
    relative = z - centre
    phi = torch.atan2(relative[:, 1], relative[:, 0])
    sign, offset, error = min((_turned(phi, theta, sign) for sign in (1.0, -1.0)), key=lambda found: float(found[2]))
    x = torch.asin((sign * relative[:, 1] / radius).clamp(-1, 1))
    y = torch.asin(torch.sin(theta - offset))
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    residual = y - y.mean() - slope * (x - x.mean())
    return AngleFit(
        radius=float(radius),
        radial_deviation=float((relative.norm(dim=1) - radius).square().mean().sqrt()),
        slope=float(slope),
        ols_error=float(residual.abs().mean()),
        angular_error=float(error),
        neighbour_error=float(_neighbour_error(z, theta)),
    )


def _neighbour_error(z: Tensor, theta: Tensor) -> Tensor:
    distances = torch.cdist(z, z)
    distances.fill_diagonal_(math.inf)
    return _wrapped(theta - theta[distances.argmin(1)]).abs().mean()


def _wrapped(difference: Tensor) -> Tensor:
    """Return radians in [-pi, pi)."""
    return torch.remainder(difference + math.pi, 2 * math.pi) - math.pi


def _turned(phi: Tensor, theta: Tensor, sign: float) -> tuple[float, Tensor, Tensor]:
    """Return (sign, offset, mean absolute error) in radians; offset: the circular mean of theta - sign * phi."""
    difference = theta - sign * phi
    offset = torch.atan2(difference.sin().mean(), difference.cos().mean())
    return sign, offset, _wrapped(difference - offset).abs().mean()
