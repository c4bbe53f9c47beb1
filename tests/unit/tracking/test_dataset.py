"""A run's data as MLflow's data set: what it says of published sets and of one's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.tracking import describe
from service.tracking.dataset import dataset
from vae_models.data.config import DataConfig

DIGEST = "0f" * 32
TEXT: dict[str, Any] = {
    "name": "lines", "digest": DIGEST,
    "facts": {
        "shape": [60], "axes": ["time"], "support": "tokens", "vocabulary": 90, "lengths": True, "sizes": [80, 10, 9],
    },
}  # fmt: skip


def fields(config: DataConfig) -> dict[str, str]:
    plain = config.model_dump(mode="json")
    return dataset(plain, describe.data_name({"data": plain}))


@pytest.mark.parametrize(
    ("name", "digest"), [("digits", "afc5d08a535f767c"), ("mnist", "b7ff6dddef746284")], ids=["no files", "files"]
)
def test_a_published_sets_digest_is_of_its_files_and_of_what_is_done_to_them(name: str, digest: str) -> None:
    """Runs of before there were facts, and runs of now, had the same data: their digests are the same."""
    assert fields(DataConfig(name=name))["digest"] == digest
    assert fields(DataConfig(name=name, residency="stream"))["digest"] == digest
    assert fields(DataConfig(name=name, binarize="dynamic"))["digest"] != digest


def test_ones_own_set_is_known_by_its_digest() -> None:
    found = fields(DataConfig.model_validate(TEXT))
    assert (found["name"], found["digest"]) == ("lines@0f0f0f0f", DIGEST[:36])
    told, profile = json.loads(found["source"]), json.loads(found["profile"])
    assert told["data"]["digest"] == DIGEST
    assert told["bucket"] == f"data/{DIGEST}"
    assert (profile["num_rows"], profile["train"], profile["shape"]) == (99, 80, [60])
    assert (profile["axes"], profile["support"], profile["vocabulary"]) == (["time"], "tokens", 90)
    (tensor,) = json.loads(json.loads(found["schema"])["mlflow_tensorspec"]["features"])
    assert tensor["tensor-spec"] == {"dtype": "int32", "shape": [-1, 60]}
