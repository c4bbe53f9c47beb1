"""Which cells an NVAE has: widths and sizes, from the specification alone. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Body = Literal["swish", "depthwise"]
Way = Literal["same", "down", "up"]
EXPANSION, POST_EXPANSION = 6, 3  # of depthwise cells: in the tower of latents, and after it


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """One residual cell. way: down halves the side and doubles the channels, up the other way round.

    expansion: of a depthwise body, hidden channels per input channel; body "swish" has none
    """

    inputs: int
    outputs: int
    way: Way = "same"
    body: Body = "swish"
    expansion: int = 1

    def weights(self, *, squeeze: bool) -> int:
        """Return how many numbers are trained in it."""
        return self._body() + self._skip() + (squeeze_weights(self.outputs) if squeeze else 0)

    def outputs_of_layers(self, *, squeeze: bool) -> int:
        """Return how many outputs its convolutions and linear layers have together: what gates are counted by."""
        hidden = self.inputs * self.expansion
        body = 2 * self.outputs if self.body == "swish" else 2 * hidden + self.outputs
        skip = 0 if self.way == "same" else self.outputs
        return body + skip + (squeeze_hidden(self.outputs) + self.outputs if squeeze else 0)

    def _body(self) -> int:
        ci, co = self.inputs, self.outputs
        if self.body == "swish":
            return 2 * ci + convolution_weights(ci, co, 3) + 2 * co + convolution_weights(co, co, 3)
        hidden = ci * self.expansion
        return 2 * ci + ci * hidden + 2 * hidden + 25 * hidden + 2 * hidden + hidden * co + 2 * co

    def _skip(self) -> int:
        if self.way == "same":
            return 0
        plain = self.inputs * self.outputs + self.outputs
        return plain + (self.outputs if self.way == "down" else 0)  # the way up has a plain convolution


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """One group of latents, top-down. cells: of the decoder before it; none before the first."""

    channels: int
    scale: int  # 0: the smallest
    side: tuple[int, int]
    cells: tuple[CellPlan, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of it. steps: of the way down, groups of latents and the cells between scales, in order.

    before, after: the cells between x and the first scale, and back; rises: the encoder's, a list for each of its taps
    (from x upwards), and the last list ends at the top
    """

    before: tuple[CellPlan, ...]
    rises: tuple[tuple[CellPlan, ...], ...]
    steps: tuple[GroupPlan | CellPlan, ...]
    after: tuple[CellPlan, ...]
    top: tuple[int, int, int]  # channels, height, width of the learned constant
    padded: tuple[int, int]  # the image's height and width with padding

    @property
    def groups(self) -> tuple[GroupPlan, ...]:
        """Return the groups of latents, top-down."""
        return tuple(step for step in self.steps if isinstance(step, GroupPlan))

    def cells(self) -> Iterator[CellPlan]:
        """Yield every cell."""
        yield from self.before
        for rise in self.rises:
            yield from rise
        for step in self.steps:
            yield from step.cells if isinstance(step, GroupPlan) else (step,)
        yield from self.after


def convolution_weights(inputs: int, outputs: int, kernel: int) -> int:
    """Return the numbers of a weight-normalised convolution: weights, a bias and a norm for each output channel."""
    return inputs * outputs * kernel**2 + 2 * outputs


def squeeze_hidden(channels: int) -> int:
    """Return the width of the hidden layer of a squeeze-and-excitation."""
    return max(channels // 16, 4)


def squeeze_weights(channels: int) -> int:
    """Return the numbers of a squeeze-and-excitation."""
    hidden = squeeze_hidden(channels)
    return 2 * channels * hidden + hidden + channels


def groups_by_scale(scales: int, groups: int, *, halved: bool, least: int) -> tuple[int, ...]:
    """Return how many groups each scale has, the largest image first.

    halved: each smaller scale has half of the one before, at least `least` ("adaptive": MNIST's 10 and 5)
    """
    counts = [groups]
    for _ in range(scales - 1):
        counts.append(max(least, counts[-1] // 2) if halved else groups)
    return tuple(counts)


def made(
    *,
    size: tuple[int, int],
    channels: int,
    groups: Sequence[int],
    blocks: int,
    block_cells: int,
    encoder_cells: int,
    decoder_cells: int,
    body: Body,
) -> Plan:
    """Return the plan. groups: of each scale, the largest image first; blocks: before and after the scales, each of
    `block_cells` cells, one of which halves (doubles) the side."""
    scales = len(groups)
    step = 2 ** (blocks + scales - 1)
    padded = (-(-size[0] // step) * step, -(-size[1] // step) * step)
    widths = [channels * 2**place for place in range(blocks + scales)]
    before = [cell for block in range(blocks) for cell in _block(widths[block], block_cells)]
    after = [cell for block in reversed(range(blocks)) for cell in _block_back(widths[block], block_cells, body)]
    height, width = padded[0] // step, padded[1] // step
    return Plan(
        before=tuple(before),
        rises=tuple(map(tuple, _rises(widths[blocks:], groups, encoder_cells))),
        steps=tuple(_steps(widths[blocks:], groups, decoder_cells, body, (height, width))),
        after=tuple(after),
        top=(widths[-1], height, width),
        padded=padded,
    )


def _block(width: int, cells: int) -> Iterator[CellPlan]:
    for _ in range(cells - 1):
        yield CellPlan(inputs=width, outputs=width)
    yield CellPlan(inputs=width, outputs=2 * width, way="down")


def _block_back(width: int, cells: int, body: Body) -> Iterator[CellPlan]:
    yield _down_tower(2 * width, width, body, POST_EXPANSION, way="up")
    for _ in range(cells - 1):
        yield _down_tower(width, width, body, POST_EXPANSION)


def _down_tower(inputs: int, outputs: int, body: Body, expansion: int, way: Way = "same") -> CellPlan:
    return CellPlan(
        inputs=inputs, outputs=outputs, way=way, body=body, expansion=expansion if body == "depthwise" else 1
    )


def _rises(widths: Sequence[int], groups: Sequence[int], cells: int) -> Iterator[list[CellPlan]]:
    """Yield the encoder's cells before each tap, from x upwards; the last ends at the top, which has no tap."""
    rise: list[CellPlan] = []
    for scale, (width, count) in enumerate(zip(widths, groups, strict=True)):
        for _ in range(count):
            rise += [CellPlan(inputs=width, outputs=width)] * cells
            yield rise
            rise = []
        if scale + 1 < len(groups):
            rise = [CellPlan(inputs=width, outputs=2 * width, way="down")]


def _steps(
    widths: Sequence[int], groups: Sequence[int], cells: int, body: Body, top: tuple[int, int]
) -> Iterator[GroupPlan | CellPlan]:
    """Yield the way down: groups of latents, and a cell between scales."""
    for scale, (width, count) in enumerate(zip(reversed(widths), reversed(groups), strict=True)):
        side = (top[0] * 2**scale, top[1] * 2**scale)
        if scale:
            yield _down_tower(2 * width, width, body, EXPANSION, way="up")
        for group in range(count):
            first = scale == 0 and group == 0
            own = () if first else (_down_tower(width, width, body, EXPANSION),) * cells
            yield GroupPlan(channels=width, scale=scale, side=side, cells=own)
