"""The data of a run as MLflow's data set: name, fingerprint, source, shape and numbers. Nothing is read for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from service.areas import DATA
from vae_models.data.config import DataConfig
from vae_models.data.published import Published
from vae_models.data.sources import SOURCES
from vae_models.data.spec import DataSpec
from vae_models.measures import STORED

DIGEST_LENGTH = 16  # hexadecimal digits of a published set's
MLFLOW_DIGEST_LENGTH = 36  # of a set of a user's own: what MLflow takes of its 64


def dataset(data: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return the fields of `mlflow.entities.Dataset` for a run's `data` as configured, known as `name`.

    digest: of a user's own set its own, shortened; of any other one that of the published checksums of its files, which
            loading verifies, and of what is done to them. Two runs that agree in it had the same data
    source: the configuration, and where the data are from: addresses of what is published, or the place of a user's own
            set below the service's part of the bucket
    """
    config = DataConfig.model_validate(dict(data), context=STORED)
    source = SOURCES.find(config.name)
    origin = source.origin() if isinstance(source, Published) else {"sums": {}, "homes": []}
    provenance: dict[str, Any] = {
        "data": config.model_dump(mode="json", exclude={"facts"}),
        "published": origin["homes"],
    }
    if config.digest is not None:
        provenance["bucket"] = f"{DATA}/{config.digest}"
    kind = "int32" if config.facts.support == "tokens" else "float32"
    features = json.dumps(tensors(config.facts.shape, kind))
    return {
        "name": name,
        "digest": _digest(config, origin["sums"], published=isinstance(source, Published)),
        "source_type": "vaesvc",
        "source": json.dumps(provenance),
        "schema": json.dumps({"mlflow_tensorspec": {"features": features, "targets": None}}),
        "profile": json.dumps(_profile(config.facts)),
    }


def _digest(config: DataConfig, sums: Mapping[str, Any], *, published: bool) -> str:
    if config.digest is not None:
        return config.digest[:MLFLOW_DIGEST_LENGTH]
    facts = config.facts
    done = config.model_dump(mode="json", include={"name", "binarize", "noise"})
    identity = [done, sums, facts.shape, facts.sizes]
    if not published:  # a package's own source: what it says of its set is all there is
        identity.append(facts.model_dump(mode="json"))
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]


def _profile(facts: DataSpec) -> dict[str, Any]:
    numbers = dict(zip(("train", "val", "test"), facts.sizes, strict=True))
    said = facts.model_dump(mode="json", exclude={"sizes", "digest", "labels"}, exclude_defaults=True)
    labels = {} if facts.labels is None else {"labels": facts.labels.name}
    return {"num_rows": sum(facts.sizes), **numbers, **said, **labels}


def tensors(shape: tuple[int, ...], kind: str = "float32") -> list[dict[str, Any]]:
    """Return MLflow's schema of one tensor without a name: any number of data of this shape."""
    return [{"type": "tensor", "tensor-spec": {"dtype": kind, "shape": [-1, *shape]}}]
