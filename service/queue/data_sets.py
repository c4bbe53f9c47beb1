"""Data sets of users' own in SQL: what lies in the bucket, which names point to it, and which jobs need it.

A set is immutable and named by its digest. Its life: `uploading` from the first word of it, `complete` when all files
are there, `removing` when nothing has needed it for long. A name points to a complete set; where it has ever pointed is
kept. A job names digests, so that it repeats whatever becomes of a name; it keeps its sets for as long as it is known,
because every job that is over can be given more to do.

What needs a set is said in `service.queue.data_needs`.

Whoever begins to need a set locks its row first, and so does the one who removes it: of the two, one sees the other.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import RowMapping

from service.data.records import KeptSet, Move, NamedSet, SetState, StoredSet
from service.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError
from service.queue import shares
from service.queue.data_needs import JOB_GRACE_SECONDS, Asked, Grace, kept, unneeded
from service.queue.jobs import FINAL
from service.queue.rows import Clocked, Transactions
from service.queue.schema import data_moves, data_names, data_sets, job_data, jobs
from vae_models.data.spec import DataSpec


def digests(spec: Mapping[str, Any]) -> set[str]:
    """Return the digests of the sets that a resolved spec names, wherever in it a `data` stands."""
    return set(_digests(spec))


def _digests(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        data = value.get("data")
        if isinstance(data, Mapping) and isinstance(data.get("digest"), str):
            yield data["digest"]
        for part in value.values():
            yield from _digests(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _digests(part)


def lock(work: Clocked, wanted: Iterable[str]) -> None:
    """Lock the sets of these digests, in the one order in which everybody does."""
    for digest in sorted(wanted):
        _locked(work, digest)


def need(work: Clocked, job_id: str, wanted: Iterable[str]) -> None:
    """Note which sets, by digest, the job needs that is new, or goes back into the line: sets of a job that was over
    for long may be gone. Raises NotFoundError for one that is not stored, or not whole.
    """
    insert = sqlite.insert if work.database.sqlite else postgresql.insert
    for digest in sorted(wanted):
        row = _locked(work, digest)
        if row is None or row["state"] != SetState.COMPLETE:
            raise NotFoundError(f"no data set {digest} is stored here: add it with `vaesvc data add NAME PATH`")
        _touch(work, digest)
        needed = insert(job_data).values(job_id=job_id, digest=digest).on_conflict_do_nothing()
        work.connection.execute(needed)


class DataSets(Transactions):
    """The sets and their names in a database. Each method is one short transaction."""

    # --- sets -------------------------------------------------------------------------------------------------------

    def begin(self, digest: str, *, manifest: str, facts: DataSpec, bytes: int, files: int, owner: str) -> StoredSet:
        """Note that a set is on its way; again: that it is still wanted. Raises UnavailableError while it is being
        removed, QuotaError for a new one that is more than the owner may store."""
        insert = sqlite.insert if self._database.sqlite else postgresql.insert
        with self._write() as work:
            if work.row(sa.select(data_sets.c.digest).where(data_sets.c.digest == digest)) is None:
                shares.check_storage(work, owner, bytes)
            values = {
                "digest": digest, "owner": owner, "state": SetState.UPLOADING.value, "manifest": manifest,
                "facts": facts.model_dump(mode="json"), "bytes": bytes, "files": files, "created_at": work.now,
                "touched_at": work.now,
            }  # fmt: skip
            work.connection.execute(insert(data_sets).values(values).on_conflict_do_nothing())
            row = self._usable(work, digest)
            _touch(work, digest)
            return _set_record(row)

    def complete(self, digest: str) -> StoredSet:
        """Note that all of the set's files are stored. The same again changes nothing."""
        with self._write() as work:
            row = self._usable(work, digest)
            _touch(work, digest, state=SetState.COMPLETE.value)
            return _set_record(row).model_copy(update={"state": SetState.COMPLETE})

    def stored(self, digest: str) -> StoredSet | None:
        """Return the set of this digest, in whatever state; None where it is not known."""
        with self._read() as work:
            row = work.row(sa.select(data_sets).where(data_sets.c.digest == digest))
            return None if row is None else _set_record(row)

    def brought(self, digest: str, user: str) -> bool:
        """Return whether `user` has brought this set, or has pointed a name to it."""
        moved = sa.select(data_moves.c.id).where(data_moves.c.digest == digest, data_moves.c.by == user).limit(1)
        owned = sa.select(data_sets.c.digest).where(data_sets.c.digest == digest, data_sets.c.owner == user)
        with self._read() as work:
            return work.row(owned) is not None or work.row(moved) is not None

    def _usable(self, work: Clocked, digest: str) -> RowMapping:
        row = _locked(work, digest)
        if row is None:
            raise NotFoundError(f"no data set {digest} is known here: its upload begins with POST /v1/data/uploads")
        if row["state"] == SetState.REMOVING:
            raise UnavailableError(f"the data set {digest} is being removed just now: try again in a moment")
        return row

    # --- names ------------------------------------------------------------------------------------------------------

    def point(self, name: str, digest: str, *, by: str, admin: bool = False) -> NamedSet:
        """Let `name` point to a complete set. The same again changes nothing.

        Raises NotFoundError for a set that is not whole, ForbiddenError for another's name.
        """
        insert = sqlite.insert if self._database.sqlite else postgresql.insert
        with self._write() as work:
            self._check_complete(work, digest)
            new = {"name": name, "digest": digest, "owner": by, "created_at": work.now, "moved_at": work.now}
            work.connection.execute(insert(data_names).values(new).on_conflict_do_nothing())
            row = _locked_name(work, name)
            assert row is not None
            _check_owner(row, by, admin)
            made = row["digest"] == digest and row["created_at"] == row["moved_at"] == new["created_at"]
            if made:
                self._record(work, name, digest, None, by)
            elif row["digest"] != digest:
                values = {"digest": digest, "moved_at": work.now}
                work.connection.execute(sa.update(data_names).where(data_names.c.name == name).values(values))
                self._record(work, name, digest, row["digest"], by)
            return self._named(work, name)

    def _check_complete(self, work: Clocked, digest: str) -> None:
        if self._usable(work, digest)["state"] != SetState.COMPLETE:
            raise NotFoundError(f"the data set {digest} is not whole: its upload has not ended")
        _touch(work, digest)

    def remove(
        self, name: str, *, by: str, admin: bool = False, digest: str | None = None, owner: str | None = None
    ) -> Move:
        """Take the name away; what it pointed to stays while anything needs it, and for the grace after that.

        digest: what the name is expected to point to; then, asked again, the removal that was made is the answer.
        owner: whose names are seen at all, where not everybody's are.
        Raises NotFoundError, ForbiddenError for another's name, ConflictError where it points elsewhere by now.
        """
        with self._write() as work:
            row = _locked_name(work, name)
            if row is None:
                last = self._last_move(work, name)
                if last is not None and last.digest is None and last.previous == digest and last.by == by:
                    return last
                raise unknown_name(name, self._names(work, owner))
            if owner not in (None, row["owner"]):
                raise unknown_name(name, self._names(work, owner))
            _check_owner(row, by, admin)
            if digest not in (None, row["digest"]):
                raise ConflictError(f"{name} points to {row['digest']} by now, not to {digest}: nothing was removed")
            work.connection.execute(sa.delete(data_names).where(data_names.c.name == name))
            self._record(work, name, None, row["digest"], by)
            removal = self._last_move(work, name)
            assert removal is not None
            return removal

    def named(self, name: str, owner: str | None = None) -> NamedSet:
        """Return what `name` (of `owner`, where that is given) points to. Raises NotFoundError with the nearest."""
        with self._read() as work:
            row = work.row(_NAMED.where(data_names.c.name == name))
            if row is None or owner not in (None, row["owner"]):
                raise unknown_name(name, self._names(work, owner))
            return _named_record(row)

    def names(self, owner: str | None = None) -> list[NamedSet]:
        """Return every name (of `owner`, where that is given) with its set, by name."""
        query = _NAMED.order_by(data_names.c.name)
        with self._read() as work:
            rows = work.rows(query if owner is None else query.where(data_names.c.owner == owner))
            return [_named_record(row) for row in rows]

    def moves(self, name: str) -> list[Move]:
        """Return where the name has ever pointed, oldest first."""
        with self._read() as work:
            query = sa.select(data_moves).where(data_moves.c.name == name).order_by(data_moves.c.id)
            return [_move_record(row) for row in work.rows(query)]

    def waiting_jobs(self, digest: str) -> list[str]:
        """Return the jobs that are not over and need the set, oldest first."""
        over = [state.value for state in FINAL]
        query = (
            sa.select(jobs.c.id)
            .join(job_data, job_data.c.job_id == jobs.c.id)
            .where(job_data.c.digest == digest, jobs.c.state.not_in(over))
            .order_by(jobs.c.id)
        )
        with self._read() as work:
            return list(work.connection.scalars(query))

    def _named(self, work: Clocked, name: str) -> NamedSet:
        row = work.row(_NAMED.where(data_names.c.name == name))
        assert row is not None
        return _named_record(row)

    def _names(self, work: Clocked, owner: str | None = None) -> list[str]:
        query = sa.select(data_names.c.name).order_by(data_names.c.name)
        return list(work.connection.scalars(query if owner is None else query.where(data_names.c.owner == owner)))

    def _record(self, work: Clocked, name: str, digest: str | None, previous: str | None, by: str) -> None:
        values = {"name": name, "digest": digest, "previous": previous, "by": by, "at": work.now}
        work.connection.execute(sa.insert(data_moves).values(values))
        if previous is not None:
            _touch(work, previous)  # from now on nothing may need it: its grace begins

    def _last_move(self, work: Clocked, name: str) -> Move | None:
        query = sa.select(data_moves).where(data_moves.c.name == name).order_by(data_moves.c.id.desc()).limit(1)
        row = work.row(query)
        return None if row is None else _move_record(row)

    # --- what nothing needs -----------------------------------------------------------------------------------------

    def unneeded(self, grace_seconds: float, job_grace_seconds: float = JOB_GRACE_SECONDS) -> list[str]:
        """Return the sets that no name, no job and no model needs, nor has for the grace, and those whose removal was
        begun: see `service.queue.data_needs`.
        """
        grace = Grace(seconds=grace_seconds, job_seconds=job_grace_seconds)
        with self._read() as work:
            return list(work.connection.scalars(unneeded(work, grace)))

    def begin_removal(self, digest: str, grace_seconds: float, job_grace_seconds: float = JOB_GRACE_SECONDS) -> bool:
        """Mark the set as being removed, if nothing needs it still: from here on nobody can begin to need it."""
        grace = Grace(seconds=grace_seconds, job_seconds=job_grace_seconds)
        with self._write() as work:
            if _locked(work, digest) is None:
                return False
            if work.row(unneeded(work, grace).where(data_sets.c.digest == digest)) is None:
                return False
            _touch(work, digest, state=SetState.REMOVING.value)
            return True

    def kept(self, grace: Grace, *, owner: str | None = None, digest: str | None = None) -> list[KeptSet]:
        """Return the complete sets (of `owner`, where that is given; of `digest` alone), oldest first, and why each is
        kept: the names, the registered models and the jobs that need it, or until when it is kept without any.
        """
        with self._read() as work:
            return kept(work, grace, Asked(owner=owner, digest=digest))

    def end_removal(self, digest: str) -> None:
        """Forget the set: none of its files is left. Saying it again changes nothing."""
        which = (data_sets.c.digest == digest, data_sets.c.state == SetState.REMOVING.value)
        removing = sa.select(data_sets.c.digest).where(*which)
        with self._write() as work:
            work.connection.execute(sa.delete(job_data).where(job_data.c.digest.in_(removing)))
            work.connection.execute(sa.delete(data_sets).where(*which))

    def known(self, among: Collection[str]) -> set[str]:
        """Return which of these digests are known, in whatever state."""
        with self._read() as work:
            return set(work.connection.scalars(sa.select(data_sets.c.digest).where(data_sets.c.digest.in_(among))))


_NAMED = sa.select(
    data_names, data_sets.c.facts.label("facts"), data_sets.c.bytes.label("bytes"), data_sets.c.files.label("files")
).join(data_sets, data_sets.c.digest == data_names.c.digest)


def unknown_name(name: str, names: Collection[str]) -> NotFoundError:
    """Return the error for a name that does not exist, or not for the one who asks: in the same words."""
    near = difflib.get_close_matches(name, names, n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return NotFoundError(
        f"no data set is named {name!r}; {meant}`vaesvc data list` lists those there are, "
        f"`vaesvc data add {name} PATH` adds one"
    )


def _check_owner(row: RowMapping, user: str, admin: bool) -> None:
    if row["owner"] != user and not admin:
        raise ForbiddenError(
            f"the data set's name {row['name']} is {row['owner']}'s: only {row['owner']} or an administrator may move "
            f"or remove it, and you are {user}. Choose another name"
        )


def _locked(work: Clocked, digest: str) -> RowMapping | None:
    return _clocked(work, sa.select(data_sets).where(data_sets.c.digest == digest))


def _locked_name(work: Clocked, name: str) -> RowMapping | None:
    return _clocked(work, sa.select(data_names).where(data_names.c.name == name))


def _clocked(work: Clocked, query: sa.Select[Any]) -> RowMapping | None:
    """Return the row, locked until the end of the transaction; the clock is read again: waiting may have taken long."""
    row = work.row(query.with_for_update())
    work.read_clock()
    return row


def _touch(work: Clocked, digest: str, **values: Any) -> None:
    changes = {"touched_at": work.now, **values}
    work.connection.execute(sa.update(data_sets).where(data_sets.c.digest == digest).values(changes))


def _set_record(row: RowMapping) -> StoredSet:
    return StoredSet(**{name: row[name] for name in StoredSet.model_fields})


def _named_record(row: RowMapping) -> NamedSet:
    return NamedSet(**{name: row[name] for name in NamedSet.model_fields})


def _move_record(row: RowMapping) -> Move:
    return Move(**{name: row[name] for name in Move.model_fields})
