"""Job specs: what a user submits, as data. A spec names everything that the result depends on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.queue.jobs import Resources
from vae_models.config import Strict, TrainConfig


class RetryPolicy(Strict):
    max_attempts: int = Field(default=3, ge=1, le=100, description="attempts that may fail before the job does")
    backoff_seconds: float = Field(default=5.0, ge=0, description="before the 2nd attempt; doubles, at most 300 s")


class TrainSpec(Strict):
    """kind: train. One run of the loop on a gang of workers."""

    kind: Literal["train"] = "train"
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    recipe: str | None = None  # where `train` came from; kept for people, never read again
    register_as: str = Field(
        min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="registered model"
    )
    priority: int = Field(default=0, ge=-1000, le=1000)
    resources: Resources = Resources()
    retry: RetryPolicy = RetryPolicy()
    train: TrainConfig


JobSpec = TrainSpec  # a union discriminated by `kind` once there is a second kind (studies)
