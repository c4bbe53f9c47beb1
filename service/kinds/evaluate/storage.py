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
    from vae_models.evaluation.findings import Picture

PLACE = "evaluations"
SUMMARY = "evaluation.json"  # of all findings of an evaluation, wherever they are kept together


def findings_of(artifacts: Artifacts, job_id: str) -> dict[str, Mapping[str, Any]]:
    """Return what an evaluation has found out so far, without pictures and tensors, by key."""
    area, keys = Area(artifacts, PLACE, job_id), []
    for stored in artifacts.list(area.uri):
        key, _, name = stored.uri.removeprefix(f"{area.uri}/").partition("/")
        if name == MANIFEST:  # it is complete
            keys.append(key)
    return {key: json.loads(area.get_bytes(f"{area.uri}/{key}/{FINDINGS}")) for key in keys}


def keep_picture(artifacts: Artifacts, job_id: str, picture: Picture) -> dict[str, str]:
    """Put a picture, and the same in motion where it has that, among the job's. Return their addresses by name: the
    picture's, and NAME.gif.
    """
    forms = {picture.name: (f"{picture.name}.png", picture.png, "image/png")}
    if picture.gif is not None:
        forms[f"{picture.name}.gif"] = (f"{picture.name}.gif", picture.gif, "image/gif")
    addresses = {}
    for name, (file, content, media_type) in forms.items():
        addresses[name] = artifacts.uri("pictures", job_id, file)
        artifacts.put_bytes(addresses[name], content, media_type)
    return addresses
