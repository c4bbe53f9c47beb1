"""Multi-rate gating (MR-VAE section 4, appendix B): layers whose outputs are scaled by functions of log beta.

Gates are added to a finished network from outside. Every hidden linear or convolutional layer's pre-activations, and
every embedding of tokens, are multiplied, channel by channel, by a gate that reads u, the standardized log beta of the
datum (`multi_rate`). The heads of the posterior can have gates too: theorem 1's second encoder layer, and its
covariance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_models.nn.gated import GatedConv2d, GatedLinear
from vae_models.nn.heads import PosteriorHeads
from vae_models.nn.norm import BatchNorm1d, BatchNorm2d
from vae_models.precision import full, in_full

Network = Literal["affine", "mlp", "mlp-shared", "mlp-5"]
Function = Literal["sigmoid", "sqrt", "film"]


class Features(nn.Identity):
    """Features that no layer gives alone, such as the last state of a recurrent net: where they can be gated."""

    def __init__(self, channels: int) -> None:
        """Take the number of features. It passes them on."""
        super().__init__()
        self.channels = channels


LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding, GatedLinear, GatedConv2d, Features)


class Signal:
    """u for the duration of one call: [], or one per datum. Shared by all gates of a model, and empty between calls."""

    def __init__(self) -> None:
        self._value: Tensor | None = None
        self._column: Tensor | None = None  # as all gates but those of several posterior samples read it

    @contextmanager
    def of(self, value: Tensor) -> Iterator[None]:
        self._value, self._column = value, value.view(-1, 1)
        try:
            yield
        finally:
            self._value = self._column = None

    @property
    def value(self) -> Tensor | None:
        """Return u; None between calls."""
        return self._value

    def rows(self, count: int) -> Tensor:
        """Return u as [1, 1] or [count, 1]: a datum's u is repeated over its posterior samples,
        which lie side by side.
        """
        if self._value is None or self._column is None:
            raise RuntimeError("a gated layer was called outside its MultiRate model, which tells it beta")
        if self._value.ndim == 0 or self._value.shape[0] == count:
            return self._column
        return self._column.repeat_interleave(count // self._value.shape[0], 0)


def sqrt_gate(t: Tensor) -> Tensor:
    """Return sigma_D(t) = sqrt(max(0, 1 - exp(t))) (MR-VAE eq 7), with a gradient of 0 at the kink and beyond.

    It uses hardtanh: `clamp` and `maximum` let the square root's large gradient through at the kink.
    """
    return _root(torch.expm1(t))


def _root(e: Tensor) -> Tensor:
    """Return sqrt(max(0, -e)), e >= -1.

    Some CPUs take ten times as long for the roots of eight numbers where one of them is 0, so it is taken of the
    smallest normal number there, a power of four, whose root, 1e-19 in float32, is subtracted: that changes no root
    above 1e-11.
    """
    smallest = torch.finfo(e.dtype).tiny
    return F.hardtanh(e, -2.0, -smallest).neg_().sqrt_() - math.sqrt(smallest)


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
        self.network = _network(outputs, network=network, hidden=hidden, first=first)
        self._affine = (cast(nn.Linear, self.network[0]),) if len(self.network) == 1 else None
        self.function = function
        self.signal = signal

    def forward(self, y: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(y.device.type):
            return self._gated(y)
        with in_full(y):  # log beta and the kinks are told apart by more digits than a reduced precision has
            return self._gated(y).to(y.dtype)

    def _gated(self, y: Tensor) -> Tensor:
        t = self._of(self.signal.rows(y.shape[0]))
        if self.function == "film":
            a, b = (_beside(each, y) for each in t.chunk(2, dim=1))
            film: Tensor = (1 + a) * y + b
            return film
        gate = t.sigmoid_() if self.function == "sigmoid" else _root(t.expm1_())  # nothing else reads t
        return _beside(gate, y) * y

    def _of(self, u: Tensor) -> Tensor:
        """Return n(u). An affine n is called without what surrounds a module's call, which takes as long as it."""
        if (affine := self._affine) is None:
            t: Tensor = self.network(u)
            return t
        return F.linear(u, affine[0].weight, affine[0].bias)


def _beside(t: Tensor, y: Tensor) -> Tensor:
    """Return t [rows, channels], 1 wherever y has other axes: y is [batch, channels], [batch, channels, height, width]
    or, of sequences, [batch, time, channels]."""
    if y.ndim == 4:
        return t[:, :, None, None]
    return t.unsqueeze(1) if y.ndim == 3 else t


def _network(outputs: int, *, network: Network, hidden: int, first: nn.Module | None) -> nn.Sequential:
    """Return the network n of `Gate`: 1 -> outputs."""
    depth = {"affine": 0, "mlp": 1, "mlp-shared": 1, "mlp-5": 4}[network]
    layers: list[nn.Module] = []
    for place in range(depth):
        shared = first is not None and place == 0
        layers += [cast(nn.Module, first) if shared else nn.Linear(hidden if place else 1, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden if depth else 1, outputs))


class VarianceGate(nn.Module):
    """A head for log-variances r, and its gate: r + log sigmoid(n(u)), so the variance is exp(r) sigmoid(n(u)).

    Theorem 1's covariance C(eta) = sigmoid(t eta + p) C_base (MR-VAE eqs 30-32), t = 1 and p = -log diag(D^T D).
    """

    def __init__(
        self, head: nn.Linear, signal: Signal, *, network: Network, hidden: int, first: nn.Module | None
    ) -> None:
        super().__init__()
        self.head = head
        self.network = _network(head.out_features, network=network, hidden=hidden, first=first)
        self._signal = signal

    def forward(self, features: Tensor) -> Tensor:
        raw: Tensor = self.head(features)
        with in_full(raw):
            return full(raw) + F.logsigmoid(self.network(self._signal.rows(raw.shape[0])))


class GatedLayer(nn.Module):
    """A layer of the network and its gate."""

    def __init__(self, layer: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.layer = layer
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return self.gate.forward(self.layer(x))


class HyperBatchNorm(nn.Module):
    """Batch norm whose scale and shift are networks 1 -> hidden -> channels of u, the scale near 1 at first.

    own: the norm's own scale and shift stay, and the networks' outputs are added to them, as in the code of MR-VAE
    (github.com/pomonam/mr-vae), whose CNN rows of table 1 have these besides Listing 1's gates.
    """

    def __init__(self, norm: nn.Module, signal: Signal, *, hidden: int, own: bool = False) -> None:
        super().__init__()
        channels = cast(int, norm.num_features)
        kind = BatchNorm2d if isinstance(norm, BatchNorm2d) else BatchNorm1d
        self.norm = kind(channels, affine=False)
        self.scale = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.shift = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.weight = nn.Parameter(torch.ones(channels)) if own else None
        self.bias = nn.Parameter(torch.zeros(channels)) if own else None
        if not own:
            with torch.no_grad():
                cast(nn.Linear, self.scale[2]).bias.add_(1)
        self._signal = signal

    def forward(self, x: Tensor) -> Tensor:
        u = self._signal.rows(x.shape[0])
        with in_full(x):
            scale, shift = self.scale(u), self.shift(u)
        if self.weight is not None and self.bias is not None:
            scale, shift = self.weight + scale, self.bias + shift
        if x.ndim == 4:
            scale, shift = scale[:, :, None, None], shift[:, :, None, None]
        y: Tensor = self.norm(x) * scale + shift
        return y.to(x.dtype)


def signals_of(part: nn.Module) -> list[Signal]:
    """Return what the gates within a part read, each signal once."""
    signals = list[Signal]()
    for module in part.modules():
        signal = getattr(module, "signal", None) or getattr(module, "_signal", None)
        if isinstance(signal, Signal) and not any(signal is other for other in signals):
            signals.append(signal)
    return signals


def channels_of(layer: nn.Module) -> int:
    """Return the number of outputs of one of `LAYERS`."""
    layer = layer.value if isinstance(layer, GatedLinear | GatedConv2d) else layer
    if isinstance(layer, nn.Embedding | Features):
        return layer.embedding_dim if isinstance(layer, nn.Embedding) else layer.channels
    return cast(int, layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def hidden_layers(part: nn.Module, *, decoder: bool) -> list[str]:
    """Return the names, in order, of the layers of an encoder or decoder that get a gate.

    All of `LAYERS`, but in a decoder the last (the output) and one that only feeds an `Unflatten`
    (the map of z to the first image). The heads of the posterior are not part of the encoder.
    """
    paths: list[str] = []
    for name, module in part.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in paths)
        if isinstance(module, LAYERS) and not inside:
            paths.append(name)
    if not decoder:
        return paths
    return [name for name in paths[:-1] if not isinstance(_next(part, name), nn.Unflatten)]


def _next(part: nn.Module, name: str) -> nn.Module | None:
    """Return the module after `name` in its Sequential; None after the last."""
    parent_name, _, last = name.rpartition(".")
    parent = part.get_submodule(parent_name)
    if not isinstance(parent, nn.Sequential) or int(last) + 1 >= len(parent):
        return None
    return parent[int(last) + 1]


def _name_of_next(name: str) -> str:
    """Return the name of the module after `name` in its Sequential."""
    parent, dot, last = name.rpartition(".")
    return f"{parent}{dot}{int(last) + 1}"


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
    """Put a gate after every layer that `hidden_layers` names, in place; return how many.

    A ReLU that follows at once overwrites the gate's output, which no gradient needs.
    """
    names = hidden_layers(part, decoder=decoder)
    for name in names:
        layer = part.get_submodule(name)
        gate = Gate(channels_of(layer), signal, network=network, function=function, hidden=hidden, first=first)
        part.set_submodule(name, GatedLayer(layer, gate))
        if isinstance(_next(part, name), nn.ReLU):
            part.set_submodule(_name_of_next(name), nn.ReLU(inplace=True))
    return len(names)


def repeat_gate(part: nn.Module, place: int) -> None:
    """Put one more affine gate for the gated layer number `place`: at the end of its block, after the activation."""
    gated = [name for name, module in part.named_modules() if isinstance(module, GatedLayer)][place]
    layer = cast(GatedLayer, part.get_submodule(gated))
    again = Gate(
        channels_of(layer.layer),
        layer.gate.signal,
        network="affine",
        function=layer.gate.function,
        hidden=1,
        first=None,
    )
    cast(nn.Sequential, part.get_submodule(gated.rpartition(".")[0])).append(again)


def add_head_gates(
    heads: PosteriorHeads,
    signal: Signal,
    *,
    network: Network,
    function: Function,
    hidden: int,
    first: nn.Module | None,
) -> int:
    """Put a gate after the mean's outputs (theorem 1's second layer, eq 26) and on the variance; return how many."""
    gate = Gate(heads.mean.out_features, signal, network=network, function=function, hidden=hidden, first=first)
    heads.set_submodule("mean", GatedLayer(heads.mean, gate))
    if heads.raw is None:
        return 1
    heads.set_submodule("raw", VarianceGate(heads.raw, signal, network=network, hidden=hidden, first=first))
    return 2


def spread(model: nn.Module, *, middle: float, half: float) -> None:
    """Start every affine gate as in theorem 1: slope +-1 in eta = log beta, kinks spread evenly over its range.

    Channel j of C has xi_j = middle - half + 2 half (j + 1/2) / C. Encoder gates are sigmoid(xi_j - eta) (eq 27),
    decoder gates sqrt(max(0, 1 - exp(eta - xi_j))) (eq 36), those of variances sigmoid(eta - xi_j) (eq 32): each
    eigenvalue of the data finds gates that open where it needs them. Drawn gates may be closed for every beta.
    """
    for module in model.modules():
        if isinstance(module, VarianceGate) or (isinstance(module, Gate) and module.function == "sqrt"):
            sign = 1.0
        elif isinstance(module, Gate):
            sign = -1.0
        else:
            continue
        affine = cast(nn.Linear, module.network[-1])
        count = affine.out_features
        kinks = middle - half + 2 * half * (torch.arange(count, dtype=affine.bias.dtype) + 0.5) / count
        with torch.no_grad():
            affine.weight.fill_(sign * half / math.sqrt(3))  # eta = middle + u half / sqrt(3)
            affine.bias.copy_(sign * (middle - kinks))


def replace_norms(part: nn.Module, signal: Signal, *, hidden: int, own: bool) -> int:
    """Put a `HyperBatchNorm` in place of every batch norm; return how many."""
    names = [name for name, module in part.named_modules() if isinstance(module, BatchNorm1d | BatchNorm2d)]
    for name in names:
        part.set_submodule(name, HyperBatchNorm(part.get_submodule(name), signal, hidden=hidden, own=own))
    return len(names)
