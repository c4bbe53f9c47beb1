"""The structural similarity of images (Wang, Bovik, Sheikh and Simoncelli 2004, "Image quality assessment")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

WINDOW = 11  # pixels a side
DEVIATION = 1.5  # of the window's Gaussian weights, pixels
K_1, K_2 = 0.01, 0.03


def ssim(
    x: Float[Tensor, "n channels height width"],
    y: Float[Tensor, "_n _channels _height _width"],
    *,
    span: float = 1.0,
) -> Float64[Tensor, " n"]:
    """Return the mean over windows and channels of
    (2 m_x m_y + c_1)(2 v_xy + c_2) / [(m_x^2 + m_y^2 + c_1)(v_x + v_y + c_2)], [n], 1 where x = y.

    m, v: means, variances and covariance in a window of 11 x 11 pixels by Gaussian weights of 1.5 pixels, which sum to
    one; windows lie inside the image. c_1 = (0.01 span)^2, c_2 = (0.03 span)^2; span: largest less smallest possible
    value. In float64. Raise ValueError for images of different shapes, or smaller than a window.
    """
    if x.shape != y.shape or min(x.shape[-2:]) < WINDOW:
        raise ValueError(
            f"SSIM compares images of one shape, at least {WINDOW} x {WINDOW} pixels: got {list(x.shape)} and"
            f" {list(y.shape)}"
        )
    x, y = x.double(), y.double()
    moments = torch.stack([x, y, x * x, y * y, x * y])
    mean_x, mean_y, square_x, square_y, product = _smoothed(moments)
    var_x, var_y, covariance = square_x - mean_x**2, square_y - mean_y**2, product - mean_x * mean_y
    c_1, c_2 = (K_1 * span) ** 2, (K_2 * span) ** 2
    means = (2 * mean_x * mean_y + c_1) / (mean_x**2 + mean_y**2 + c_1)
    each: Tensor = means * (2 * covariance + c_2) / (var_x + var_y + c_2)
    return each.flatten(1).mean(1)


def _smoothed(images: Float64[Tensor, "*batch height width"]) -> Float64[Tensor, "*batch rows columns"]:
    """Return the weighted mean of every window that lies inside: the weights are a product, so rows, then columns."""
    offsets = torch.arange(WINDOW, dtype=torch.float64, device=images.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * DEVIATION**2))
    weights = weights / weights.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    smooth = F.conv2d(F.conv2d(flat, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return smooth.reshape(*images.shape[:-2], *smooth.shape[-2:])
