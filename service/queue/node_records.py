"""Nodes of the cluster and their drains, as the dispatcher sees them, operators order them and the API sends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field

from service.queue.jobs import Record

NODE = r"^[0-9A-Za-z][0-9A-Za-z.:_-]{0,99}$"  # Ray's id, the beginning of one, or an address
MOST_WORDS = 500  # characters of a reason
LATEST = 1e11  # seconds since 1970


class DrainRequest(Record):
    """because: told to the owners of what leaves. until: when the maintenance ends by itself, seconds since 1970; none:
    with `resume`."""

    because: str = Field(default="", max_length=MOST_WORDS)
    until: float | None = Field(default=None, ge=0, le=LATEST)


class Drain(Record):
    """An operator's order that nothing shall run on the machine of this address: it outlives Ray's node and its id.

    since, until: seconds since 1970, by the database's clock. by: who ordered it, or changed it last.
    """

    address: str
    since: float
    by: str
    because: str = ""
    until: float | None = None


class Node(Record):
    """A node as the dispatcher saw it last.

    resources: in total, in Ray's names (memory in bytes). attempts: that have workers there; on the head all that have
    been started, whose runners are there. undecided: attempts from before the drain whose workers are nowhere yet: they
    may still come. seen_at, gone_at: when it was last seen, and first missed, seconds since 1970. ray_drains,
    ray_deadline: Ray drains it, whatever operators say, and it is gone then. obeyed: the dispatcher knows of the drain.
    """

    id: str
    address: str
    head: bool
    resources: dict[str, float]
    attempts: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    seen_at: float
    gone_at: float | None = None
    ray_drains: bool = False
    ray_deadline: float | None = None
    drain: Drain | None = None
    obeyed: bool = False

    @property
    def empty(self) -> bool:
        """Return whether nothing of the service runs on a node that an operator drains, or may come to run there."""
        if self.gone_at is not None:
            return True
        return self.drain is not None and self.obeyed and not self.attempts and not self.undecided


@dataclass(frozen=True, kw_only=True)
class SeenNode:
    """A living node in one look of the dispatcher's. ray_deadline: as in `Node`. obeys: since when there is the
    operators' drain that the look knew of; None: it knew of none."""

    id: str
    address: str
    head: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)
    attempts: tuple[str, ...] = ()
    ray_drains: bool = False
    ray_deadline: float | None = None
    obeys: float | None = None
