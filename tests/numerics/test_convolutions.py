"""Convolutions that end or begin in one pixel are torch's convolutions: values, gradients, weights, and mapped."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from vae_models.nn.convolution import Conv2d, ConvTranspose2d

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5))


def gradients(layer: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    x = x.clone().requires_grad_()
    out = layer(x)
    weights = torch.linspace(0.5, 2, out.numel(), dtype=out.dtype).reshape(out.shape)
    return out.detach(), list(torch.autograd.grad((out * weights).sum(), [x, *layer.parameters()]))


def same(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    theirs.load_state_dict(ours.state_dict())
    for mine, reference in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    size=SIZES, kernel=SIZES, stride=SIZES, padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), bias=st.booleans()
)
def test_a_convolution_is_torchs_whatever_comes_out(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], bias: bool
) -> None:
    """Also where only part of the kernel lies on the image, or the image is larger than what the kernel covers."""
    if any(n + 2 * p < k for n, k, p in zip(size, kernel, padding, strict=True)):
        return  # nothing comes out: torch refuses it
    layers = [kind(3, 4, kernel, stride, padding, bias=bias, dtype=torch.float64) for kind in (Conv2d, nn.Conv2d)]
    same(layers[0], layers[1], torch.randn(2, 3, *size, dtype=torch.float64))


@settings(deadline=None, max_examples=40)
@given(size=st.sampled_from([(1, 1), (1, 2), (3, 3)]), kernel=SIZES, padding=st.integers(0, 1), bias=st.booleans())
def test_a_transposed_convolution_is_torchs_whatever_goes_in(
    size: tuple[int, int], kernel: tuple[int, int], padding: int, bias: bool
) -> None:
    if any((n - 1) * 2 + k - 2 * padding < 1 for n, k in zip(size, kernel, strict=True)):
        return  # nothing comes out: torch refuses it
    layers = [
        kind(3, 4, kernel, 2, padding, bias=bias, dtype=torch.float64) for kind in (ConvTranspose2d, nn.ConvTranspose2d)
    ]
    same(layers[0], layers[1], torch.randn(2, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize("kind", [Conv2d, ConvTranspose2d])
def test_lanes_have_the_numbers_that_each_has_alone(kind: type[Conv2d] | type[ConvTranspose2d]) -> None:
    x = torch.randn(5, 3, 3, 3, dtype=torch.float64) if kind is Conv2d else torch.randn(5, 3, 1, 1, dtype=torch.float64)
    layers = [kind(3, 4, 3, dtype=torch.float64) for _ in range(3)]
    stacked = {name: torch.stack([layer.state_dict()[name] for layer in layers]) for name in layers[0].state_dict()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        out: Tensor = functional_call(layers[0], parameters, (x,))
        return out.square().sum()

    mapped, values = vmap(grad_and_value(loss), (0, None))(stacked, x)
    for lane, layer in enumerate(layers):
        alone, value = grad_and_value(loss)(dict(layer.named_parameters()), x)
        torch.testing.assert_close(values[lane], value)
        for name, gradient in alone.items():
            torch.testing.assert_close(mapped[name][lane], gradient)
