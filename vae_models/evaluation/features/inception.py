"""The Inception network of the FID, in the form of the package pytorch-fid, whose weights it reads.

TensorFlow's Inception v3 of 2015 (Szegedy et al. 2016, with 1,008 classes) differs from torchvision's of the same name:
its average pools do not count the padding, and its last block has a max pool. It is written out here because
torchvision, which pytorch-fid derives it from, cannot be loaded beside a CPU build of torch from the usual index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 299  # pixels to a side
FEATURES = 2048
BYTES_PER_IMAGE = 24 << 20  # 13 MiB measured on a CPU, of 32 at once; the rest for a GPU's workspaces
HEAD = "fc."  # the classifier, which no feature needs

Pool = Literal["average", "max", "halving"]


class Convolution(nn.Module):
    """Convolution, batch normalization with stored statistics, ReLU. One of stride 1 keeps the size, unless told."""

    def __init__(
        self, before: int, after: int, kernel: tuple[int, int], stride: int = 1, *, padded: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if stride == 1 and padded else 0
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return F.relu(y, inplace=True)


Layer = tuple[str, int, tuple[int, int]]  # name after "branch", channels, kernel
Step = Layer | tuple[Layer, ...]  # several: side by side
ONE, THREE, FIVE, ROW, COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)


class Mixed(nn.Module):
    """Chains of convolutions side by side, and a pool of the input last; the channels of all follow one another.

    The layers have the names that the weights have. pool: average and max keep the size, and `pooled` channels come of
    a convolution after it; halving is a max pool of stride 2, as the last layer of each chain then has.
    """

    def __init__(self, before: int, pool: Pool, pooled: int, *chains: tuple[Step, ...]) -> None:
        super().__init__()
        self.pool: Pool = pool
        self.chains = [self._chain(before, chain) for chain in chains]
        if pooled:
            self.branch_pool = Convolution(before, pooled, ONE)

    def _chain(self, before: int, chain: tuple[Step, ...]) -> tuple[tuple[str, ...], ...]:
        """Add the layers of a chain; return their names, step by step."""
        steps = []
        for place, step in enumerate(chain):
            layers: tuple[Layer, ...] = (step,) if isinstance(step[0], str) else step
            stride = 2 if self.pool == "halving" and place == len(chain) - 1 else 1
            for name, after, kernel in layers:
                self.add_module(f"branch{name}", Convolution(before, after, kernel, stride))
            steps.append(tuple(f"branch{name}" for name, _, _ in layers))
            before = sum(after for _, after, _ in layers)
        return tuple(steps)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for chain in self.chains:
            y = x
            for names in chain:
                sides = [self.get_submodule(name)(y) for name in names]
                y = sides[0] if len(sides) == 1 else torch.cat(sides, 1)
            outputs.append(y)
        return torch.cat([*outputs, self._pooled(x)], 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "halving":
            return F.max_pool2d(x, 3, stride=2)
        if self.pool == "max":
            y: Tensor = self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))
        else:
            y = self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))
        return y


def _coarse(before: int, pooled: int) -> Mixed:
    """Return a block of 35 x 35 places."""
    double: tuple[Step, ...] = (("3x3dbl_1", 64, ONE), ("3x3dbl_2", 96, THREE), ("3x3dbl_3", 96, THREE))
    five: tuple[Step, ...] = (("5x5_1", 48, ONE), ("5x5_2", 64, FIVE))
    return Mixed(before, "average", pooled, (("1x1", 64, ONE),), five, double)


def _middle(width: int) -> Mixed:
    """Return a block of 17 x 17 places. width: of the layers inside its chains."""
    seven: tuple[Step, ...] = (("7x7_1", width, ONE), ("7x7_2", width, ROW), ("7x7_3", 192, COLUMN))
    double: tuple[Step, ...] = (
        ("7x7dbl_1", width, ONE),
        ("7x7dbl_2", width, COLUMN),
        ("7x7dbl_3", width, ROW),
        ("7x7dbl_4", width, COLUMN),
        ("7x7dbl_5", 192, ROW),
    )
    return Mixed(768, "average", 192, (("1x1", 192, ONE),), seven, double)


def _fine(before: int, pool: Pool) -> Mixed:
    """Return a block of 8 x 8 places."""
    across, down = (1, 3), (3, 1)
    three: tuple[Step, ...] = (("3x3_1", 384, ONE), (("3x3_2a", 384, across), ("3x3_2b", 384, down)))
    double: tuple[Step, ...] = (
        ("3x3dbl_1", 448, ONE),
        ("3x3dbl_2", 384, THREE),
        (("3x3dbl_3a", 384, across), ("3x3dbl_3b", 384, down)),
    )
    return Mixed(before, pool, 192, (("1x1", 320, ONE),), three, double)


class InceptionNetwork(nn.Module):
    """Images [n, 3, 299, 299] in [-1, 1] -> the means over places of the last block's outputs, [n, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, THREE, 2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, THREE, padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, THREE)
        self.Conv2d_3b_1x1 = Convolution(64, 80, ONE)
        self.Conv2d_4a_3x3 = Convolution(80, 192, THREE, padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _coarse(192, 32), _coarse(256, 64), _coarse(288, 64)
        double: tuple[Step, ...] = (("3x3dbl_1", 64, ONE), ("3x3dbl_2", 96, THREE), ("3x3dbl_3", 96, THREE))
        self.Mixed_6a = Mixed(288, "halving", 0, (("3x3", 384, THREE),), double)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(_middle, (128, 160, 160, 192))
        seven: tuple[Step, ...] = (
            ("7x7x3_1", 192, ONE),
            ("7x7x3_2", 192, ROW),
            ("7x7x3_3", 192, COLUMN),
            ("7x7x3_4", 192, THREE),
        )
        self.Mixed_7a = Mixed(768, "halving", 0, (("3x3_1", 192, ONE), ("3x3_2", 320, THREE)), seven)
        self.Mixed_7b, self.Mixed_7c = _fine(1280, "average"), _fine(2048, "max")

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.named_children():
            x = layer(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = F.max_pool2d(x, 3, stride=2)
        return x.mean((2, 3))


class Inception:
    """Features as pytorch-fid computes them: images made 299 x 299 bilinearly, in [-1, 1], grey ones in three channels.

    Inception was trained on photographs in colour. Of grey images its features are far from those of any photograph;
    distances between them order models of the same images, and are published, but are not on the scale of colour sets.
    """

    bytes_per_image = BYTES_PER_IMAGE

    def __init__(self, state: Mapping[str, Tensor], *, sha256: str, device: torch.device) -> None:
        """Take the weights. Raise ValueError where they are not such a network's. sha256: of their file."""
        network = InceptionNetwork()
        try:
            network.load_state_dict({name: value for name, value in state.items() if not name.startswith(HEAD)})
        except RuntimeError as error:
            raise ValueError(f"these are not the weights of the FID's Inception: {_first_line(error)}") from error
        self._network = network.to(device).eval().requires_grad_(False)
        self.key = f"inception/{sha256}/{SIZE}-bilinear"

    def __call__(self, images: Tensor) -> Tensor:
        """Return [n, 2048]."""
        resized = F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False)
        features: Tensor = self._network((2 * resized - 1).expand(-1, 3, -1, -1))
        return features


def _first_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)][:200]
