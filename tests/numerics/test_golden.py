"""A dozen recipes, and one study's table, compute what they computed before the seams, to the bit.

All of them: `python -m tests.golden --compare`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.golden import kept, recipes, study

# small nets, and every part that has some mathematics of its own at least once
NAMES = (
    "binarized-mnist/beta-vae-mlp", "cmu-motion/iwae", "cmu-motion/vampprior", "cmu-motion/vhp-geco",
    "cmu-motion/vhp-rewo", "digits/beta-vae-mlp", "mnist/ar-elbo-diag-d", "mnist/gaussian-vae", "mnist/mr-linear-vae",
    "mnist/rae-gp", "mnist/wae-mmd", "pendulum/vhp",
)  # fmt: skip

BEFORE = kept.read()
OTHERWISE = kept.differences(BEFORE)
pytestmark = pytest.mark.skipif(bool(OTHERWISE), reason="; ".join(OTHERWISE))


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_losses_weights_and_evaluations_are_those_of_before() -> None:
    found = recipes.digests(NAMES, "float32", 1)
    assert kept.compare(BEFORE["digests"]["float32.1"], found) == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_studys_table_is_that_of_before(dtype: str) -> None:
    assert kept.compare(BEFORE["digests"][f"{dtype}.1"], study.digests(dtype)) == []
