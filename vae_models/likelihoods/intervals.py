"""The mass that a distribution on the line gives to one of 256 levels, stable at any location and scale.

x = k/255 stands for the interval of width 1/255 around it; the first one reaches down to -infinity and the last one up
to infinity, so that the 256 masses sum to one whatever the location and scale (sigma-VAE appendix C; Salimans et al.
2017), to 1e-6 in float32. All logarithms are taken before any subtraction, and ends are measured in levels from the
location, see `levels_from`: in units of x, where x and the location are rounded to 6e-8 before they are subtracted, two
neighbours disagree about the end that they share, by 7e-5 scales at log s = -7.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_models.normal import HALF_LOG_TWO_PI

LEVELS = 256
SMALL = 0.5  # width x (1 + distance) in standard deviations below which the mass is taken by its Taylor series
FAR = 12.0  # standard deviations from which the tail is taken by its asymptotic series


def level(x: Tensor) -> Tensor:
    """Return k of x = k/255, int64."""
    return torch.round(x * (LEVELS - 1)).long()


def levels_from(location: Tensor, k: Tensor) -> Tensor:
    """Return k - 255 location, the levels from the location to k/255,
    to one rounding of the result and one of the location.

    256 location is exact in binary, and so is, near the location, its difference to k.
    """
    return location - (LEVELS * location - k)


def log1mexp(value: Tensor) -> Tensor:
    """Return log(1 - exp(value)) of value < 0 (Maechler 2012)."""
    near = value > -math.log(2)
    of_near = torch.log(-torch.expm1(torch.where(near, value, -1.0)))
    of_far = torch.log1p(-torch.exp(torch.where(near, -1.0, value)))
    return torch.where(near, of_near, of_far)


def logistic_log_mass(x: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """Return log P(level of x) of a logistic distribution, elementwise.

    F(b) - F(a) = s(b) s(-a) (1 - e^(a - b)), s the logistic function: no difference of nearly equal numbers.
    """
    k = torch.round(x * (LEVELS - 1))
    width = torch.exp(-log_scale) / (LEVELS - 1)
    below = F.logsigmoid(levels_from(location, k + 0.5) * width)
    above = F.logsigmoid(-levels_from(location, k - 0.5) * width)
    return _with_tails(k, below, below + above + log1mexp(-width), above)


def normal_log_mass(x: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """Return log P(level of x) of a normal distribution, elementwise.

    It is log[Phi(b) - Phi(a)] with both ends turned to one tail; for narrow intervals, where the two are equal in
    floating point, log[w phi(m) (1 + sum_(j = 1 to 3) (w/2)^2j He_2j(m) / (2j + 1)!)] of the middle m and the width w,
    He the Hermite polynomials: to 1e-10.
    """
    k = torch.round(x * (LEVELS - 1))
    width = torch.exp(-log_scale) / (LEVELS - 1)
    middle = levels_from(location, k) * width
    lower, upper = middle - width / 2, middle + width / 2
    below, above = log_upper_tail(-upper), log_upper_tail(lower)
    distance = middle.abs()  # the interval and its mirror image have the same mass
    narrow = width * (1 + distance) < SMALL
    by_difference = _difference(torch.where(narrow, 1.0, distance), torch.where(narrow, 1.0, width))
    thin = torch.where(narrow, width.expand_as(distance), torch.full_like(distance, SMALL / 4))
    square = torch.where(narrow, distance, torch.ones_like(distance)).square()
    terms = thin.square()
    sixth = (square * (square * (square - 15) + 45) - 15) / 322560
    series = terms * ((square - 1) / 24 + terms * ((square * (square - 6) + 3) / 1920 + terms * sixth))
    by_series = torch.log(thin) - 0.5 * square - HALF_LOG_TWO_PI + torch.log1p(series)
    return _with_tails(k, below, torch.where(narrow, by_series, by_difference), above)


def _difference(distance: Tensor, width: Tensor) -> Tensor:
    """Return log[Q(d - w/2) - Q(d + w/2)], Q the upper tail, d >= 0 the distance of the middle from the mean.

    Of two points far out the squares' difference is taken in closed form, d w: in floating point they would be equal.
    """
    near, far = distance - width / 2, distance + width / 2
    log_near = log_upper_tail(near)
    both_far = near > FAR
    tail = torch.where(both_far, near, FAR), torch.where(both_far, far, FAR)
    gap = torch.where(
        both_far, _log_mills(tail[1]) - _log_mills(tail[0]) - distance * width, log_upper_tail(far) - log_near
    )
    return log_near + log1mexp(gap)


def log_upper_tail(t: Tensor) -> Tensor:
    """Return log Q(t) = log P(N(0, 1) > t), with its gradient, at any t.

    Far out it is -t^2/2 - log(2 pi)/2 + log(Q(t)/phi(t)).
    `torch.special.log_ndtr` has the value, but its gradient goes wrong in the tail (in float32 from t = 50 on).
    """
    is_far = t > FAR
    outside, inside = torch.where(is_far, t, FAR), torch.where(is_far, FAR, t)
    return torch.where(
        is_far, _log_mills(outside) - 0.5 * outside.square() - HALF_LOG_TWO_PI, torch.special.log_ndtr(-inside)
    )


def _log_mills(t: Tensor) -> Tensor:
    """Return log(Q(t)/phi(t)) of t >= FAR: -log t + log(1 - 1/t^2 + 3/t^4 - 15/t^6 + ...), to 1e-10."""
    u = t.square().reciprocal()
    series = 1 - u * (1 - u * (3 - u * (15 - u * (105 - u * (945 - u * 10395)))))
    return torch.log(series) - torch.log(t)


def _with_tails(k: Tensor, below: Tensor, inside: Tensor, above: Tensor) -> Tensor:
    return torch.where(k == 0, below, torch.where(k == LEVELS - 1, above, inside))
