"""Convolutions whose weights have a learned norm (Salimans and Kingma 2016), and their largest singular values."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST_ITERATIONS = 4  # of the power method, before the first step; one more in each


class WeightNormConv2d(nn.Conv2d):
    """A convolution with weights w = exp(g) v / |v|, of each output channel: v the parameter `weight`, g `log_norm`.

    It starts as the convolution that torch draws: g = log |v|. Arguments as `torch.nn.Conv2d`.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding)
        with torch.no_grad():
            self.log_norm = nn.Parameter(self.weight.flatten(1).norm(dim=1).log())

    @property
    def normalized(self) -> Tensor:
        """Return w, as the convolution uses it."""
        scale = torch.exp(self.log_norm) / self.weight.flatten(1).norm(dim=1)
        normalized: Tensor = self.weight * scale.view(-1, 1, 1, 1)
        return normalized

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.normalized, self.bias, self.stride, self.padding)


class Spectrum(nn.Module):
    """The largest singular value of each convolution's weights, as a matrix [outputs, inputs x kernel^2].

    By the power method (as NVAE, section 3.2, after Yoshida and Miyato 2017): the singular vectors are buffers, which
    one iteration improves at each call in training, so that they follow the weights; a checkpoint holds them.
    Matrices of one shape are multiplied together.
    """

    def __init__(self, convolutions: Iterable[nn.Conv2d]) -> None:
        """Start with vectors drawn from torch's generator, and `FIRST_ITERATIONS`."""
        super().__init__()
        by_shape: dict[tuple[int, int], list[nn.Conv2d]] = {}
        for convolution in convolutions:
            rows, columns = _matrix(convolution).shape
            by_shape.setdefault((rows, columns), []).append(convolution)
        self._members = tuple(tuple(each) for each in by_shape.values())  # not registered: they are the model's
        for place, (rows, columns) in enumerate(by_shape):
            count = len(self._members[place])
            self.register_buffer(f"left_{place}", F.normalize(torch.randn(count, rows), dim=1))
            self.register_buffer(f"right_{place}", F.normalize(torch.randn(count, columns), dim=1))
        with torch.no_grad():
            for _ in range(FIRST_ITERATIONS):
                for place, matrices in enumerate(self._matrices()):
                    self._iterate(place, matrices)

    def forward(self) -> Tensor:
        """Return their sum, []; differentiable by the weights, not by the singular vectors."""
        total = []
        for place, matrices in enumerate(self._matrices()):
            if self.training:
                with torch.no_grad():
                    self._iterate(place, matrices.detach())
            left, right = self._vectors(place)
            total.append(torch.einsum("nr,nrc,nc->", left.clone(), matrices, right.clone()))
        return torch.stack(total).sum()

    def _vectors(self, place: int) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"left_{place}"), self.get_buffer(f"right_{place}")

    def _matrices(self) -> Iterable[Tensor]:
        return (torch.stack([_matrix(convolution) for convolution in members]) for members in self._members)

    def _iterate(self, place: int, matrices: Tensor) -> None:
        left, right = self._vectors(place)
        right.copy_(F.normalize(torch.einsum("nr,nrc->nc", left, matrices), dim=1))
        left.copy_(F.normalize(torch.einsum("nrc,nc->nr", matrices, right), dim=1))


def _matrix(convolution: nn.Conv2d) -> Tensor:
    weight = convolution.normalized if isinstance(convolution, WeightNormConv2d) else convolution.weight
    return weight.flatten(1)
