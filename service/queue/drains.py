"""Nodes that are drained: attempts on them give way, as those of a lower priority do, and at no cost either."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from service.queue import giving_way
from service.queue.database import Database
from service.queue.giving_way import Way
from service.queue.node_records import Drain
from service.queue.rows import Clocked


@dataclass(frozen=True, kw_only=True)
class DrainingNode:
    """A node that takes no new work: its cloud takes the machine back, an autoscaler wants less, or somebody drains it.

    node: Ray's id of it. address: its IP address. deadline: when it is gone, seconds since 1970; None: not said.
    order: the operator's, where it is an operator who drains it.
    """

    node: str
    address: str
    deadline: float | None = None
    order: Drain | None = None

    def __str__(self) -> str:
        """Return what is said of it in a reason."""
        until = "" if self.deadline is None else f", and is gone at {_utc(self.deadline)}"
        by = "" if self.order is None else f" by {self.order.by}"
        because = "" if self.order is None or not self.order.because else f" ({self.order.because})"
        return f"node {self.node[:12]} ({self.address}) is being drained{by}{because}{until}"


def union(
    nodes: Mapping[str, str], notices: Mapping[str, float | None], orders: Mapping[str, Drain]
) -> dict[str, DrainingNode]:
    """Return which of these nodes are being drained, by id: by Ray's notices, by operators, or by both.

    nodes: id -> address. notices: id -> deadline. orders: by address.
    """
    return {
        node: DrainingNode(node=node, address=address, deadline=notices.get(node), order=orders.get(address))
        for node, address in nodes.items()
        if node in notices or address in orders
    }


class Drains:
    """What the dispatcher does about attempts on such nodes. Several may do it at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, job_id: str, number: int, nodes: Iterable[DrainingNode], *, grace: float) -> str | None:
        """Ask an attempt on these nodes to give way; return a sentence, or None where it was asked to end before.

        grace: seconds in which it may checkpoint, where the nodes last as long. `preemptible` does not matter: the
        nodes go all the same. An attempt that nobody has claimed ends at once.
        """
        first = min(nodes, key=lambda draining: (draining.deadline or float("inf"), draining.node))
        why = f"leaves its node: {first}"
        left = grace if first.deadline is None else max(0.0, first.deadline - time.time())
        with self._database.write() as connection:
            work = Clocked(self._database, connection)
            asked = giving_way.ask(work, job_id, number, why, way=Way.DRAINED, grace=min(grace, left))
        return f"{job_id}-{number} {why}" if asked else None


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
