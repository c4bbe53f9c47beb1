"""Whether a two-dimensional latent has found an angle (VHP appendix B.3: OLS regression on the latents)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vae_models.metrics.estimate import Estimate

BLOCK = 1024  # data whose distances to all others are computed at a time


@dataclass(frozen=True, kw_only=True)
class AngleFit:
    """How well the posterior means lie on a circle that the true angle runs round once. Lengths in units of z.

    centre, radius, radial_deviation: of the circle fitted to the means, and the root mean square distance from it
    slope, intercept: of the OLS of the true on the latent side of B.3, see `angle_fit`; 1 and 0 for a perfect latent
    ols_error:      mean absolute residual of that OLS, radians: what the paper's table 1 reports
    angular_error:  mean absolute difference, radians, of the true angle and the angle on the circle, both ways round
                    tried, best offset taken; pi/2 for a latent that knows nothing
    neighbour_error: mean absolute difference, radians, of a datum's true angle and that of the nearest other mean:
                    small for every closed curve that the angle runs round once, a circle or not
    latent_side, true_side: x and y of the OLS, radians, of each datum: what figure 14 draws
    errors:         standard errors over data of the three errors, by their names
    """

    centre: tuple[float, float]
    radius: float
    radial_deviation: float
    slope: float
    intercept: float
    ols_error: float
    angular_error: float
    neighbour_error: float
    latent_side: Float64[Tensor, " data"] = field(repr=False)
    true_side: Float64[Tensor, " data"] = field(repr=False)
    errors: dict[str, float | None]


def angle_fit(means: Float[Tensor, "data latent"], angles: Float[Tensor, " data"]) -> AngleFit:
    """Fit a circle to the posterior means, and its angle to the true angles in radians, of at least three data.

    The circle is the algebraic least-squares one (Kasa 1976): |z|^2 = 2 c.z + (r^2 - |c|^2) is linear in c and the
    constant. B.3 draws the joint angle against arcsin(z_2 / r); where on the circle the angle is zero, and which way
    round it runs, is free, so the latent is first turned to agree with the truth in the mean: with phi the angle on the
    circle about c, s = 1 or -1 and o the circular mean of theta - s phi, the OLS is of arcsin(sin(theta - o)) on
    arcsin(s (z - c)_2 / r), which is B.3's where the latent is already turned and centred.

    Raise ValueError for fewer data, other dimensions, and means that are all on one line, through which no circle goes.
    """
    if means.shape[0] < 3 or means.shape[1] != 2:
        raise ValueError(f"the fit needs at least 3 means in 2 dimensions, got {list(means.shape)}")
    z, theta = means.double(), angles.double()
    centre, radius = _circle(z)
    relative = z - centre
    phi = torch.atan2(relative[:, 1], relative[:, 0])
    sign, offset, apart = min(
        (_turned(phi, theta, sign) for sign in (1.0, -1.0)), key=lambda turned: float(turned[2].mean())
    )
    x = torch.asin((sign * relative[:, 1] / radius).clamp(-1, 1))
    y = torch.asin(torch.sin(theta - offset))
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    intercept = y.mean() - slope * x.mean()
    per_datum = {"ols_error": (y - intercept - slope * x).abs(), "angular_error": apart}
    per_datum["neighbour_error"] = _wrapped(theta - theta[_nearest(z)]).abs()
    estimates = {name: Estimate.mean(each) for name, each in per_datum.items()}
    return AngleFit(
        centre=(float(centre[0]), float(centre[1])),
        radius=float(radius),
        radial_deviation=float((relative.norm(dim=1) - radius).square().mean().sqrt()),
        slope=float(slope),
        intercept=float(intercept),
        latent_side=x,
        true_side=y,
        errors={name: estimate.error for name, estimate in estimates.items()},
        **{name: estimate.value for name, estimate in estimates.items()},
    )


def _circle(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return centre and radius of the algebraic least-squares circle."""
    design = torch.cat([2 * z, torch.ones_like(z[:, :1])], dim=1)
    if int(torch.linalg.matrix_rank(design)) < 3:
        raise ValueError("the means are all on one line, or at one place: no circle goes through them")
    solution = torch.linalg.lstsq(design, z.square().sum(1, keepdim=True)).solution[:, 0]
    return solution[:2], torch.sqrt(solution[2] + solution[:2].square().sum())


def _nearest(z: Tensor) -> Tensor:
    """Return the number of the nearest other mean, int64 [data]."""
    nearest = []
    for rows in torch.split(torch.arange(len(z)), BLOCK):
        distances = torch.cdist(z[rows], z, compute_mode="donot_use_mm_for_euclid_dist")
        distances[rows - rows[0], rows] = math.inf
        nearest.append(distances.argmin(1))
    return torch.cat(nearest)


def _wrapped(difference: Tensor) -> Tensor:
    """Return radians in [-pi, pi)."""
    return torch.remainder(difference + math.pi, 2 * math.pi) - math.pi


def _turned(phi: Tensor, theta: Tensor, sign: float) -> tuple[float, Tensor, Tensor]:
    """Return (sign, offset, absolute errors [data]), radians; offset: the circular mean of theta - sign * phi."""
    difference = theta - sign * phi
    offset = torch.atan2(difference.sin().mean(), difference.cos().mean())
    return sign, offset, _wrapped(difference - offset).abs()
