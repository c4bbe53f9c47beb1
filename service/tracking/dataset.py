"""The data of a run as MLflow's data set: name, fingerprint, shape and numbers. Nothing is read for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vae_models.data.catalogue import CATALOGUE

DIGEST_LENGTH = 16  # hexadecimal digits; MLflow takes 36


def dataset(data: Mapping[str, Any], name: str) -> dict[str, str]:
    """The fields of `mlflow.entities.Dataset` for a run's `data` as configured, known as `name`.

    digest: of the published checksums of its files, which loading verifies, and of what is done to them. Two runs that
    agree in it had the same data.
    """
    facts = CATALOGUE[data["name"]]
    sums = {key: [form.sha256 for form in file.forms] for key, file in facts.files.items()}
    told = json.dumps([data, sums, facts.shape, facts.sizes], sort_keys=True)
    homes = sorted({file.home for file in facts.files.values()})
    numbers = dict(zip(("train", "val", "test"), facts.sizes, strict=True))
    return {
        "name": name,
        "digest": hashlib.sha256(told.encode()).hexdigest()[:DIGEST_LENGTH],
        "source_type": "vaesvc",
        "source": json.dumps({"data": dict(data), "published": homes}),
        "schema": json.dumps({"mlflow_tensorspec": {"features": json.dumps(tensors(facts.shape)), "targets": None}}),
        "profile": json.dumps({"num_rows": sum(facts.sizes), **numbers, "shape": list(facts.shape)}),
    }


def tensors(shape: tuple[int, ...], kind: str = "float32") -> list[dict[str, Any]]:
    """MLflow's schema of one tensor without a name: any number of data of this shape."""
    return [{"type": "tensor", "tensor-spec": {"dtype": kind, "shape": [-1, *shape]}}]
