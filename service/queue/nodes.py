"""The cluster's nodes, and operators' drains of them, in SQL. Several dispatchers may write down what they see.

A drain is of a machine, by its address: a machine that is started again in the middle of its maintenance has another
id in Ray, and is drained still. It ends when somebody resumes the node, at its `until`, or when nothing has been seen
at its address for a day and it has no `until` that is to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service.errors import ConflictError, NotFoundError, UsageError
from service.queue.jobs import AttemptState, submission_id
from service.queue.node_records import Drain, Node, SeenNode
from service.queue.rows import Clocked, Transactions, clean
from service.queue.schema import attempts, drains, nodes

GONE_SECONDS = 86_400.0  # a node that is gone for so long is forgotten
_MARGIN_SECONDS = 5.0  # an attempt that was claimed so long after a drain may not have been told of it
_SHOWN = 20  # nodes that an error names
_OPEN = [state.value for state in AttemptState if state.open]


class Nodes(Transactions):
    """Each method is one short transaction."""

    def observe(self, seen: Sequence[SeenNode]) -> None:
        """Write down every living node; note which are gone, and forget what is long gone and drains that are over."""
        with self._write() as work:
            self._database.lock_admission(work.connection)  # one dispatcher at a time
            work.read_clock()
            known = {row["id"]: row for row in work.rows(sa.select(nodes))}
            living = {node.id: _values(node) | {"seen_at": work.now, "gone_at": None} for node in seen}
            work.connection.execute(sa.delete(nodes).where(nodes.c.id.in_(known.keys() & living.keys())))
            if living:
                rows = [{"id": name, **values} for name, values in living.items()]
                work.connection.execute(sa.insert(nodes), rows)
            gone = [row for name, row in known.items() if name not in living]
            _forget(work, gone, {node.address for node in seen})

    def all(self) -> list[Node]:
        """Return the nodes: the head first, then by address; those that are gone last."""
        with self._read() as work:
            return _listed(work)

    def drained(self) -> dict[str, Drain]:
        """Return the drains that hold now, by address."""
        with self._read() as work:
            return _drains(work)

    def kept_away_from(self) -> tuple[str, ...]:
        """Return Ray's ids of the living nodes that operators drain: Ray itself places nothing on those it drains."""
        with self._read() as work:
            addresses = _drains(work)
            if not addresses:
                return ()
            query = sa.select(nodes.c.id).where(nodes.c.gone_at.is_(None), nodes.c.address.in_(addresses))
            return tuple(work.connection.scalars(query.order_by(nodes.c.id)))

    def drain(self, name: str, *, by: str, because: str = "", until: float | None = None) -> list[Node]:
        """Let nothing run on the machine of this node until it is resumed, or until then; return its nodes.

        The same again changes nothing; another reason or end takes the place of the one before. name: Ray's id, the
        beginning of one, or an address. Raises NotFoundError, ConflictError for a beginning of several machines' ids,
        UsageError for an end that has passed.
        """
        with self._write() as work:
            self._database.lock_admission(work.connection)
            work.read_clock()
            address = _address(work, name)
            if until is not None and until <= work.now:
                raise UsageError("until: that moment has passed. Give a later one, or none: then `resume` ends it")
            said = {"because": clean(because) or "", "until": until}
            before = _drains(work).get(address)
            if before is None:
                work.connection.execute(sa.delete(drains).where(drains.c.address == address))  # one that is over
                work.connection.execute(sa.insert(drains).values(address=address, since=work.now, by=by, **said))
            elif (before.because, before.until) != (said["because"], until):
                work.connection.execute(sa.update(drains).where(drains.c.address == address).values(by=by, **said))
            return [node for node in _listed(work) if node.address == address]

    def resume(self, name: str) -> list[Node]:
        """Let attempts run on the machine of this node again; return its nodes. One that nobody drains stays as it is.
        Raises NotFoundError, ConflictError."""
        with self._write() as work:
            self._database.lock_admission(work.connection)
            work.read_clock()
            address = _address(work, name)
            work.connection.execute(sa.delete(drains).where(drains.c.address == address))
            return [node for node in _listed(work) if node.address == address]


def _values(node: SeenNode) -> dict[str, Any]:
    return {
        "address": node.address, "head": node.head, "resources": dict(node.resources),
        "attempts": sorted(node.attempts), "ray_drains": node.ray_drains, "ray_deadline": node.ray_deadline,
        "obeys": node.obeys,
    }  # fmt: skip


def _forget(work: Clocked, gone: Iterable[RowMapping], living: set[str]) -> None:
    """Note the nodes that are gone; forget those gone for long, whose machine is there under another id, and drains
    that are over. A node stays known as long as a drain of its machine has an end that is to come."""
    work.connection.execute(sa.delete(drains).where(drains.c.until <= work.now))
    lasting = {address for address, drain in _drains(work).items() if drain.until is not None}
    forgotten = set()
    for row in gone:
        which = nodes.c.id == row["id"]
        if row["gone_at"] is None and row["address"] not in living:
            work.connection.execute(sa.update(nodes).where(which).values(gone_at=work.now, attempts=[]))
        elif row["address"] in living or (row["gone_at"] <= work.now - GONE_SECONDS and row["address"] not in lasting):
            work.connection.execute(sa.delete(nodes).where(which))
            forgotten.add(row["address"])
    if forgotten:
        there = sa.exists(sa.select(nodes.c.id).where(nodes.c.address == drains.c.address))
        work.connection.execute(sa.delete(drains).where(drains.c.address.in_(forgotten), ~there))


def _drains(work: Clocked) -> dict[str, Drain]:
    query = sa.select(drains).where(sa.or_(drains.c.until.is_(None), drains.c.until > work.now))
    return {row["address"]: Drain(**row) for row in work.rows(query)}


def _address(work: Clocked, name: str) -> str:
    """Return the address of the one machine that is meant."""
    rows = work.rows(sa.select(nodes.c.id, nodes.c.address).order_by(nodes.c.address, nodes.c.id))
    exact = {row["address"] for row in rows if name in (row["id"], row["address"])}
    meant = exact or {row["address"] for row in rows if row["id"].startswith(name)}
    if len(meant) == 1:
        return str(meant.pop())
    if meant:
        several = [row for row in rows if row["address"] in meant]
        raise ConflictError(f"several nodes begin with {name!r}: {_shown(several)}. Give more of the id, or an address")
    there = f"there are {_shown(rows)}" if rows else "none has been seen yet"
    raise NotFoundError(f"no node {name!r}; {there}. `vaesvc node list` shows them")


def _shown(rows: Sequence[RowMapping]) -> str:
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return ", ".join(f"{row['id'][:12]} ({row['address']})" for row in rows[:_SHOWN]) + more


def _listed(work: Clocked) -> list[Node]:
    rows = work.rows(sa.select(nodes))
    ordered = _drains(work)
    query = sa.select(attempts.c.job_id, attempts.c.number, attempts.c.submitted_at, attempts.c.started_at)
    going = {
        submission_id(row["job_id"], row["number"]): row
        for row in work.rows(query.where(attempts.c.state.in_(_OPEN)).order_by(attempts.c.job_id))
    }
    placed = {name for row in rows for name in row["attempts"]}
    listed = []
    for row in rows:
        drain = ordered.get(row["address"])
        gone = row["gone_at"] is not None
        there, undecided = list(row["attempts"]), list[str]()
        if row["head"] and not gone:
            there = sorted({*there, *(name for name, each in going.items() if each["submitted_at"] is not None)})
        elif drain is not None and not gone:
            undecided = [
                name
                for name, each in going.items()
                if name not in placed
                and each["started_at"] is not None
                and each["started_at"] <= drain.since + _MARGIN_SECONDS
            ]
        listed.append(
            Node(
                **{name: row[name] for name in ("id", "address", "head", "resources", "seen_at", "gone_at")},
                attempts=tuple(there),
                undecided=tuple(undecided),
                ray_drains=row["ray_drains"] and not gone,
                ray_deadline=row["ray_deadline"],
                drain=drain,
                obeyed=drain is not None and row["obeys"] == drain.since,
            )
        )
    return sorted(listed, key=lambda node: (node.gone_at is not None, not node.head, node.address, node.id))
