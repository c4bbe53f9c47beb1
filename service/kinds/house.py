"""What the service has, as far as somebody may see it: for specs that name jobs, models and addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.models import Models
    from service.queue.store import Store


@dataclass(frozen=True, kw_only=True)
class House:
    """sees: whether the one who asks may see a job, by its id; it need not exist."""

    store: Store
    artifacts: Artifacts
    models: Models
    sees: Callable[[str], bool]
