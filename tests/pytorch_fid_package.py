"""The package pytorch-fid, which is compared with: its network with weights of ours, and its distance.

It derives the network from torchvision's. The usual index has torchvision for CUDA builds of torch alone: beside a CPU
build its compiled operators do not load, and its Python stops at their names. None of them is in the network, so their
names are declared here where they are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

OPERATORS = ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
_DECLARED: list[torch.library.Library] = []  # a declaration ends with its library


def frechet_distance(*moments: Any) -> float:
    """Return the package's distance of mean, covariance, mean, covariance."""
    _declare_operators()
    from pytorch_fid.fid_score import calculate_frechet_distance

    return float(calculate_frechet_distance(*moments))


def network(state: Mapping[str, Tensor]) -> nn.Module:
    """Return the package's network as it makes it, with this state in place of the downloaded one; it is strict."""
    _declare_operators()
    from pytorch_fid import inception

    with mock.patch.object(inception, "load_state_dict_from_url", return_value=state):
        return inception.InceptionV3().eval()


def _declare_operators() -> None:
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # operator torchvision::nms does not exist
        library = torch.library.Library("torchvision", "FRAGMENT")
        _DECLARED.append(library)
        for name in (*OPERATORS, *(f"_{name}_backward" for name in OPERATORS[2:])):
            library.define(f"{name}(Tensor x) -> Tensor")
