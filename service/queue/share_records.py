"""Groups and quotas, as administrators make them and the API sends them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.queue.jobs import Record

NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$"
EVERY_USER = "*"  # the quota of whoever has none of their own
OWNER = r"^(\*|[A-Za-z0-9][A-Za-z0-9._@-]{0,99})$"

Kind = Literal["user", "group"]


class Bounds(Record):
    """The most of everything that somebody may have; none: no limit. Of a group, all of its users together."""

    gpus: float | None = Field(default=None, ge=0, le=1e9, description="GPUs that running jobs hold at a time")
    cpus: float | None = Field(default=None, ge=0, le=1e9, description="CPU cores that running jobs hold at a time")
    workers: int | None = Field(default=None, ge=1, le=4096, description="workers of one job: the largest gang")
    queued: int | None = Field(default=None, ge=0, le=10**9, description="jobs that wait in the line at a time")
    priority: int | None = Field(default=None, ge=-1000, le=1000, description="the highest priority of a job")
    storage_bytes: int | None = Field(
        default=None, ge=0, le=2**60, description="bytes of checkpoints, registered models and data sets"
    )

    def running(self) -> dict[str, float]:
        """Return the most at a time, by resource, where there is a limit."""
        asked = {"GPU": self.gpus, "CPU": self.cpus}
        return {name: most for name, most in asked.items() if most is not None}


class Quota(Bounds):
    """A quota, and whose it is. user *: whoever has none of their own."""

    kind: Kind
    name: str = Field(pattern=OWNER)
    stored_bytes: int | None = Field(
        default=None, description="what is stored now of that which storage_bytes bounds; none: of user *, or not asked"
    )


class GroupRequest(Record):
    weight: float = Field(default=1.0, gt=0, le=1e6, description="its part of the cluster, beside those of others")


class Used(Record):
    """What somebody's jobs have held, each second counted half after 7 days, a quarter after 14."""

    user: str
    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0


class Group(Record):
    """A group, its users and their usage in it. The group "" is that of all users in no group."""

    name: str
    weight: float
    members: tuple[str, ...] = ()
    usage: tuple[Used, ...] = ()
    share: float = Field(description="its weight, of the sum of all weights")
    stored_bytes: int = Field(default=0, description="its users' checkpoints, registered models and data sets")
