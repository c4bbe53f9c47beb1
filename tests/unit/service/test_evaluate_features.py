"""`--features` of the command line: for each evaluator that measures on features."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import UsageError
from service.kinds.evaluate import plans

PIXELS = {"kind": "pixels"}


@pytest.mark.parametrize(
    ("features", "evaluators", "written"),
    [
        ("pixels", ["fid"], [{"kind": "fid", "features": PIXELS}]),
        (
            "{kind: pixels, size: 4}",
            ["likelihood", "interpolation-fid", "{kind: fid, count: 100}"],
            [
                "likelihood",
                {"kind": "interpolation-fid", "features": PIXELS | {"size": 4}},
                {"kind": "fid", "count": 100, "features": PIXELS | {"size": 4}},
            ],
        ),
    ],
)
def test_features_are_of_the_evaluators_that_have_them(
    features: str, evaluators: list[str], written: list[Any]
) -> None:
    plan = plans.read(plans.written(features=features, evaluators=evaluators))
    assert plan == plans.read({"evaluators": written})


@pytest.mark.parametrize("evaluators", [[], ["likelihood"]])
def test_features_of_no_evaluator_are_a_mistake(evaluators: list[str]) -> None:
    with pytest.raises(UsageError, match="add --evaluator fid or interpolation-fid"):
        plans.written(features="pixels", evaluators=evaluators)


def test_unknown_features_are_named_with_the_known_ones() -> None:
    fields = plans.written(features="pixel", evaluators=["fid"])
    with pytest.raises(UsageError, match=r"features\.kind: pixel is not allowed.*did you mean pixels"):
        plans.read(fields)
