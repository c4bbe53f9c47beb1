"""What an evaluation has found out, as it lies in the bucket: evaluations/JOB/KEY/. Light: the API uses it too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.areas import Area
from service.directories import MANIFEST
from vae_models.evaluation.findings import FINDINGS

if TYPE_CHECKING:
    from service.artifacts import Artifacts

PLACE = "evaluations"
SUMMARY = "evaluation.json"  # of all findings of an evaluation, wherever they are kept together


def found(artifacts: Artifacts, job_id: str) -> dict[str, Mapping[str, Any]]:
    """Return what an evaluation has found out so far, without pictures and tensors, by key."""
    area, keys = Area(artifacts, PLACE, job_id), []
    for stored in artifacts.list(area.uri):
        key, _, name = stored.uri.removeprefix(f"{area.uri}/").partition("/")
        if name == MANIFEST:  # it is complete
            keys.append(key)
    return {key: json.loads(area.get_bytes(f"{area.uri}/{key}/{FINDINGS}")) for key in keys}
