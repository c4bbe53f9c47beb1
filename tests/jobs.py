"""Jobs as the queue would hand them out, without a queue."""

from __future__ import annotations

import secrets
from typing import Any

from service.kinds.train import spec
from service.queue.jobs import Job, JobState, Resources


def make_job(recipe: str = "digits/beta-vae-mlp", *, overrides: tuple[str, ...] = (), **fields: Any) -> Job:
    """A running job with an id of its own."""
    resolved = spec.resolve(recipe, overrides, name=fields.pop("name", recipe), **fields.pop("spec", {}))
    values = {
        "id": f"j{secrets.token_hex(6)}",
        "name": resolved.name,
        "kind": resolved.kind,
        "state": JobState.RUNNING,
        "priority": 0,
        "owner": "ada",
        "spec": resolved.model_dump(mode="json"),
        "resources": Resources(),
        "attempt": 1,
        **fields,
    }
    return Job(**values)
