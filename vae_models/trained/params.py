"""The settings of tasks, without torch: what a model's signature lists for MLflow, whose `predict` takes one input and
`params`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Param:
    """A setting. type: MLflow's name; default: also what says that it was not given."""

    type: str
    default: Any
    help: str


PARAMS: Mapping[str, Param] = {
    "task": Param(type="string", default="reconstruct", help="what is asked for: the names of TASKS"),
    "count": Param(type="long", default=16, help="of sample: how many"),
    "sampler": Param(type="string", default="prior", help="of sample: the law of z"),
    "temperature": Param(type="double", default=1.0, help="of sample: what the noise of z is multiplied by"),
    "form": Param(type="string", default="means", help="of sample, continue: means, samples; of sample: latents"),
    "seed": Param(type="long", default=0, help="of sample, continue, score and graphs"),
    "frames": Param(type="long", default=None, help="of continue: how many; none: as many as in training"),
    "samples": Param(type="long", default=100, help="of score: of each posterior"),
    "steps": Param(type="long", default=8, help="of interpolate and traverse"),
    "how": Param(type="string", default="linear", help="of interpolate: linear, slerp or graph"),
    "top": Param(type="long", default=8, help="of traverse: so many dimensions"),
    "beta": Param(type="double", default=None, help="of a multi-rate model; none: 1"),
}
