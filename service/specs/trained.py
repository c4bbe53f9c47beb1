"""A trained model that a spec names, exactly."""

from __future__ import annotations

from pydantic import Field

from vae_models import bounds
from vae_models.strict import Strict


class TrainedModel(Strict):
    """A trained model, exactly: its files by their sums.

    job, trial:    what trained it; of a study's trial "STAGE/NUMBER", of its winner none
    name, version: under which it is registered, where a version is what was named
    uri:           of the checkpoint, or of the version's files
    run:           MLflow's, of the job that trained it; none of one of several trials
    """

    job: str = Field(max_length=100)
    trial: str | None = Field(default=None, max_length=bounds.TEXT)
    name: str | None = Field(default=None, max_length=100)
    version: int | None = Field(default=None, ge=1, le=2**63 - 1)
    uri: str = Field(max_length=1000)
    manifest_sha256: str = Field(max_length=64, pattern=r"^[0-9a-f]{64}$")
    step: int = Field(ge=0, le=2**63 - 1)
    run: str | None = Field(default=None, max_length=200)
