"""Convolutions that end or begin in one pixel, as the matrix products that they are."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """torch's convolution; on a CPU a matrix product where one pixel comes out: the kernel lies on the image once.

    The sums are the same, in another order. oneDNN's kernels take up to ten times as long for it (docs/speed.md).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of [batch, channels, height, width]."""
        if not _plain(self, input) or any(size != 1 for size in self._sizes(input)):
            return super().forward(input)
        (top, left), (height, width) = _pair(self.padding), self.kernel_size
        below, right = min(input.shape[2], height - top), min(input.shape[3], width - left)  # what the kernel covers
        weight = self.weight[:, :, top : top + below, left : left + right]
        product = F.linear(input[:, :, :below, :right].flatten(1), weight.flatten(1), self.bias)
        return product[:, :, None, None]

    def _sizes(self, x: Tensor) -> list[int]:
        """Return height and width of what comes out."""
        of_axes = zip(x.shape[2:], _pair(self.padding), self.kernel_size, self.stride, strict=True)
        return [(size + 2 * padding - kernel) // stride + 1 for size, padding, kernel, stride in of_axes]


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's transposed convolution; on a CPU a matrix product where one pixel goes in, and nothing is cut off.

    oneDNN's kernels take about twice as long for it.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the transposed convolution of [batch, channels, height, width]."""
        whole = _plain(self, input) and input.shape[2:] == (1, 1) and output_size is None
        if not whole or self.padding != (0, 0) or self.output_padding != (0, 0):
            return super().forward(input, output_size)
        pixels = (input.flatten(1) @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        return pixels if self.bias is None else pixels + self.bias[:, None, None]


def _plain(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    """Return whether this is a batch on a CPU, and a kernel without groups, holes, and padding by other than zeros."""
    return (
        x.device.type == "cpu"
        and x.ndim == 4
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _pair(padding: str | tuple[int, ...]) -> tuple[int, int]:
    """Return the padding of both axes, which `_plain` knows to be numbers."""
    assert not isinstance(padding, str)
    height, width = padding
    return height, width
