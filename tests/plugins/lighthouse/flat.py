"""Nets of a video's frame: one linear layer each way, and no skips."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from vae_models.topologies.video.frame_specs import FrameNetSpec


class FlatConfig(FrameNetSpec):
    """Linear, of frames of any size."""

    kind: Literal["flat"] = "flat"
    features: int = Field(default=8, ge=1, le=4096)

    @property
    def width(self):
        return self.features

    def weights(self, frame_shape, parameters_per_element):
        elements = math.prod(frame_shape)
        return (elements + 1) * self.features + (self.features + 1) * elements * parameters_per_element

    def build(self, frame_shape, parameters_per_element):
        from lighthouse.flat_nets import flat

        return flat(frame_shape, self.features, parameters_per_element)
