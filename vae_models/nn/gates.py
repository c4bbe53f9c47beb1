"""Multi-rate gating (MR-VAE section 4, appendix B): layers whose outputs are scaled by functions of log beta.

Gates are added to a finished network from outside. Every hidden linear or convolutional layer's pre-activations are
multiplied, channel by channel, by a gate that reads u, the standardized log beta of the datum (`multi_rate`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_models.nn.gated import GatedConv2d, GatedLinear
from vae_models.nn.norm import BatchNorm1d, BatchNorm2d

Network = Literal["affine", "mlp", "mlp-shared", "mlp-5"]
Function = Literal["sigmoid", "sqrt", "film"]
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, GatedLinear, GatedConv2d)


class Signal:
    """u for the duration of one call: [], or one per datum. Shared by all gates of a model, and empty between calls."""

    def __init__(self) -> None:
        self._value: Tensor | None = None

    @contextmanager
    def of(self, value: Tensor) -> Iterator[None]:
        self._value = value
        try:
            yield
        finally:
            self._value = None

    def rows(self, count: int) -> Tensor:
        """[1, 1], or [count, 1]: a datum's u is repeated over its posterior samples, which lie side by side."""
        if self._value is None:
            raise RuntimeError("a gated layer was called outside its MultiRate model, which tells it beta")
        if self._value.ndim == 0:
            return self._value.view(1, 1)
        repeats = count // self._value.shape[0]
        return self._value.repeat_interleave(repeats, 0).unsqueeze(1)


def sqrt_gate(t: Tensor) -> Tensor:
    """sigma_D(t) = sqrt(max(0, 1 - exp(t))) (MR-VAE eq 7), with a gradient of 0 at the kink and beyond.

    By relu: `clamp` and `maximum` let the square root's infinite gradient through at the kink.
    """
    return torch.sqrt(F.relu(-torch.expm1(t)))


class Gate(nn.Module):
    """y -> s(n(u)) * y for each channel, n a small network: affine is Listing 1.

    sigmoid: s the logistic function. sqrt: s = `sqrt_gate`. film: n has two outputs a and b per channel, (1 + a) y + b
    (Perez et al. 2018). mlp: 1 -> hidden -> channels, ReLU between, mlp-shared: its first layer is that of all gates;
    mlp-5: five linear layers.
    """

    def __init__(
        self,
        channels: int,
        signal: Signal,
        *,
        network: Network,
        function: Function,
        hidden: int,
        first: nn.Module | None,
    ) -> None:
        super().__init__()
        outputs = 2 * channels if function == "film" else channels
        depth = {"affine": 0, "mlp": 1, "mlp-shared": 1, "mlp-5": 4}[network]
        layers: list[nn.Module] = []
        for place in range(depth):
            shared = first is not None and place == 0
            layers += [cast(nn.Module, first) if shared else nn.Linear(hidden if place else 1, hidden), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(hidden if depth else 1, outputs))
        self.function = function
        self._signal = signal

    def forward(self, y: Tensor) -> Tensor:
        t = self.network(self._signal.rows(y.shape[0]))
        if y.ndim == 4:
            t = t[:, :, None, None]
        if self.function == "film":
            a, b = t.chunk(2, dim=1)
            film: Tensor = (1 + a) * y + b
            return film
        gate: Tensor = torch.sigmoid(t) if self.function == "sigmoid" else sqrt_gate(t)
        return gate * y


class GatedLayer(nn.Module):
    """A layer of the network and its gate."""

    def __init__(self, layer: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.layer = layer
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gate(self.layer(x))
        return y


class HyperBatchNorm(nn.Module):
    """Batch norm without scale and shift of its own: both come from networks 1 -> hidden -> channels of u.

    The published CNN rows of MR-VAE's table 1 have these instead of Listing 1's gates. The scale starts near 1.
    """

    def __init__(self, norm: nn.Module, signal: Signal, *, hidden: int) -> None:
        super().__init__()
        channels = cast(int, norm.num_features)
        self.norm = (BatchNorm2d if isinstance(norm, BatchNorm2d) else BatchNorm1d)(channels, affine=False)
        self.scale = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.shift = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        with torch.no_grad():
            cast(nn.Linear, self.scale[2]).bias.add_(1)
        self._signal = signal

    def forward(self, x: Tensor) -> Tensor:
        u = self._signal.rows(x.shape[0])
        scale, shift = self.scale(u), self.shift(u)
        if x.ndim == 4:
            scale, shift = scale[:, :, None, None], shift[:, :, None, None]
        y: Tensor = self.norm(x) * scale + shift
        return y


def channels_of(layer: nn.Module) -> int:
    """Outputs of one of `LAYERS`."""
    layer = layer.value if isinstance(layer, GatedLinear | GatedConv2d) else layer
    return cast(int, layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def hidden_layers(part: nn.Module, *, decoder: bool) -> list[str]:
    """Names, in order, of the layers of an encoder or decoder that get a gate.

    All linear and convolutional ones, but in a decoder the last (the output) and one that only feeds an `Unflatten`
    (the map of z to the first image). The heads of the posterior are not part of the encoder.
    """
    found: list[str] = []
    for name, module in part.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, LAYERS) and not inside:
            found.append(name)
    if not decoder:
        return found
    return [name for name in found[:-1] if not isinstance(_next(part, name), nn.Unflatten)]


def _next(part: nn.Module, name: str) -> nn.Module | None:
    """The module after `name` in its Sequential."""
    parent_name, _, last = name.rpartition(".")
    parent = part.get_submodule(parent_name)
    if not isinstance(parent, nn.Sequential) or int(last) + 1 >= len(parent):
        return None
    return parent[int(last) + 1]


def add_gates(
    part: nn.Module,
    signal: Signal,
    *,
    decoder: bool,
    network: Network,
    function: Function,
    hidden: int,
    first: nn.Module | None,
) -> int:
    """Puts a gate after every layer that `hidden_layers` names, in place; how many."""
    names = hidden_layers(part, decoder=decoder)
    for name in names:
        layer = part.get_submodule(name)
        gate = Gate(channels_of(layer), signal, network=network, function=function, hidden=hidden, first=first)
        part.set_submodule(name, GatedLayer(layer, gate))
    return len(names)


def replace_norms(part: nn.Module, signal: Signal, *, hidden: int) -> int:
    """Puts a `HyperBatchNorm` in place of every batch norm; how many."""
    names = [name for name, module in part.named_modules() if isinstance(module, BatchNorm1d | BatchNorm2d)]
    for name in names:
        part.set_submodule(name, HyperBatchNorm(part.get_submodule(name), signal, hidden=hidden))
    return len(names)
