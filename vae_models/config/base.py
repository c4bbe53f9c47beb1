"""What every config shares."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

DataShape = tuple[int, int, int]  # (channels, height, width)


class Strict(BaseModel):
    """Frozen; unknown fields and non-finite numbers are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
