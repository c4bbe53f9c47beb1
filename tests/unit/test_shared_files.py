"""What adding a part costs: at most one shared file names a part, and none a package's."""

from __future__ import annotations

import pytest

from tests.benchmarks.shared_files import EXAMPLES, Example, cost

NAMED_IN = {
    "a likelihood": ("vae_models/likelihoods/specs.py",),
    "a data set": ("vae_models/data/sources.py",),
    "a set of sequences": ("vae_models/data/sources.py",),
    "a kind of job": ("service/kinds/__init__.py",),
    "a topology": ("vae_models/topologies/specs.py",),
    "an evaluator": ("vae_models/evaluation/specs.py",),
    "one of every seam": (),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.part)
def test_one_shared_file_names_a_part(example: Example) -> None:
    assert cost(example).names == NAMED_IN[example.what]
