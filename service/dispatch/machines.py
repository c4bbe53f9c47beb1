"""The cluster's machines as the dispatcher sees them: which may be planned with, which go, whose workers are where."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from service.dispatch.ray_jobs import RayCluster, RayNode, capacity
from service.errors import VaesvcError
from service.queue.drains import DrainingNode, union
from service.queue.jobs import Capacity
from service.queue.node_records import Drain, SeenNode

log = logging.getLogger("vaesvc.dispatcher")


class Notices(Protocol):
    """What tells of nodes that are being drained: `drain_notices.DrainNotices`."""

    def read(self) -> Mapping[str, float | None]:
        """Return the deadline of each such node, seconds since 1970, None where there is none, by Ray's id."""
        ...


class Machines:
    """Remembers nothing that the next look does not find again."""

    def __init__(self, ray: RayCluster, notices: Notices) -> None:
        self._ray = ray
        self._notices = notices
        self._nodes: tuple[RayNode, ...] = ()
        self._notified: dict[str, float | None] = {}
        self._draining: dict[str, DrainingNode] = {}

    def look(self, orders: Mapping[str, Drain] = MappingProxyType({})) -> Capacity:
        """Return what gangs may be planned on: every node that is not being drained, and none where the head is, on
        which all runners are. orders: operators' drains, by address. Raises what `RayCluster` raises."""
        self._nodes = self._ray.nodes()
        self._notified = dict(self._notices.read())
        draining = union({node.id: _address(node) for node in self._nodes}, self._notified, orders)
        for node in draining.keys() - self._draining.keys():
            log.warning("%s: its attempts give way, and no others start there", draining[node])
        self._draining = draining
        if self._heads:
            return Capacity()
        return capacity([node for node in self._nodes if node.id not in draining])

    def drained(self, names: Collection[str]) -> dict[str, Sequence[DrainingNode]]:
        """Return on which draining nodes each of these attempts is, as of the last look, by its name in Ray; of those
        that are on one. Raises what `RayCluster` raises."""
        if not self._draining or not names:
            return {}
        if heads := self._heads:
            return dict.fromkeys(names, heads)
        places = self._ray.places()
        on = {name: [self._draining[node] for node in places.get(name, ()) if node in self._draining] for name in names}
        return {name: nodes for name, nodes in on.items() if nodes}

    def seen(self) -> tuple[SeenNode, ...]:
        """Return the nodes as of the last look, and what has workers there now. Raises what `RayCluster` raises."""
        there: dict[str, list[str]] = {}
        for name, nodes in self._ray.places().items():
            for node in nodes:
                there.setdefault(node, []).append(name)
        return tuple(
            SeenNode(
                id=node.id,
                address=_address(node),
                head=node.head,
                resources=dict(node.resources),
                attempts=tuple(sorted(there.get(node.id, ()))),
                ray_drains=node.id in self._notified,
                ray_deadline=self._notified.get(node.id),
                obeys=None if (order := self._order(node)) is None else order.since,
            )
            for node in self._nodes
        )

    def of(self, name: str) -> frozenset[str]:
        """Return Ray's ids of the nodes that an attempt's workers are on; none where Ray does not tell."""
        try:
            return self._ray.places().get(name, frozenset())
        except VaesvcError as error:
            log.warning("on which nodes %s is, is not known: %s", name, error)
            return frozenset()

    @property
    def draining(self) -> bool:
        """Return whether any node was being drained at the last look."""
        return bool(self._draining)

    @property
    def _heads(self) -> list[DrainingNode]:
        return [self._draining[node.id] for node in self._nodes if node.head and node.id in self._draining]

    def _order(self, node: RayNode) -> Drain | None:
        draining = self._draining.get(node.id)
        return None if draining is None else draining.order


def _address(node: RayNode) -> str:
    """Return by what operators drain the node: its address, or its id where Ray tells none."""
    return node.address or node.id
