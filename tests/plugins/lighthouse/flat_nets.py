"""The nets of `flat`."""

from __future__ import annotations

import math

from torch import nn

from vae_models.topologies.video.frames import FrameNet


class Down(nn.Module):
    def __init__(self, elements: int, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(elements, features)

    def forward(self, x):
        return self.layer(x.flatten(1)), ()


class Up(nn.Module):
    def __init__(self, features: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.layer = shape, nn.Linear(features, math.prod(shape))

    def forward(self, features, maps):
        return self.layer(features).unflatten(1, self.shape)


def flat(frame_shape, features, parameters):
    """Encoder and decoder of frames [channels, height, width]."""
    outputs = (frame_shape[0] * parameters, *frame_shape[1:])
    return FrameNet(Down(math.prod(frame_shape), features), Up(features, outputs))
