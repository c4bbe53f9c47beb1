"""The API's side of data sets: what is missing, when a set is whole, what a name's files are.

The API never moves the data: it signs addresses, and looks at what lies there. A signed address takes one file of one
size and one SHA-256, which the S3 server checks, and nobody else writes below a digest: so a file that is there, in its
right size, is the file that data.json names. Whoever fetches it checks its sum once more.

    upload   begin -> PUT the files that are missing, in any order and as often as need be -> point
    crashes  after any step the client begins again: what is there is not sent again. What is never ended is removed
             after its grace (`service.data.housekeeping`)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from service import areas, wire
from service.artifacts import Artifacts
from service.data.records import NamedSet, StoredSet
from service.errors import ConflictError, NotFoundError, UsageError
from service.mistakes import listed
from service.queue.data_needs import Grace
from service.queue.data_sets import DataSets
from service.spec_errors import explain
from vae_models.data import canonical
from vae_models.data.canonical import DATA_JSON, Canonical

AT_ONCE = 64  # files whose addresses are given out in one answer: they are good for an hour


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The service's limits. most_bytes: of one set."""

    most_bytes: int


def begin(
    sets: DataSets, artifacts: Artifacts, limits: Limits, request: wire.DataUpload, owner: str
) -> wire.DataMissing:
    """Note that the set is on its way, and return where its missing files go. Raises UsageError for a wrong
    data.json."""
    described = checked(request, limits)
    sets.begin(
        request.digest,
        manifest=request.data,
        facts=canonical.facts(described, request.digest),
        bytes=described.bytes,
        files=len(described.shards()),
        owner=owner,
    )
    area = areas.DataArea(artifacts, request.digest)
    missing = _missing(area.sizes(), described)
    signed = (_signed(area, shard) for shard in missing[:AT_ONCE])
    return wire.DataMissing(
        files=tuple(signed), missing=len(missing), missing_bytes=sum(file.bytes for file in missing)
    )


def checked(request: wire.DataUpload, limits: Limits) -> Canonical:
    """Return what data.json says. Raises UsageError with its first mistakes."""
    data = request.data.encode("utf-8", "replace")
    if canonical.digest_of(data) != request.digest:
        raise UsageError(f"digest: {request.digest} is not the SHA-256 of data.json, {canonical.digest_of(data)}")
    try:
        manifest = canonical.decode(data)
    except ValidationError as error:
        raise UsageError(listed(f"{DATA_JSON}: {line}" for line in explain(error, Canonical))) from None
    except ValueError as error:
        raise UsageError(f"{DATA_JSON}: {error}") from None
    if manifest.bytes > limits.most_bytes:
        raise UsageError(
            f"the set has {manifest.bytes:,} bytes; at most {limits.most_bytes:,} are taken (the service's setting "
            "data_set_bytes): make the data smaller, with --size for instance, or ask who runs the service"
        )
    return manifest


def _missing(there: Mapping[str, int], manifest: Canonical) -> list[canonical.ShardFile]:
    """Return the shards that are not stored. there: bytes of the files that are stored, by name."""
    return [shard for shard in manifest.shards() if there.get(shard.file) != shard.bytes]


def _signed(area: areas.DataArea, shard: canonical.ShardFile) -> wire.DataFile:
    address, headers = area.presign_put(shard.file, bytes=shard.bytes, sha256=shard.sha256)
    return wire.DataFile(file=shard.file, bytes=shard.bytes, address=address, headers=headers)


def complete(sets: DataSets, artifacts: Artifacts, digest: str) -> StoredSet:
    """Check that every file is stored, write data.json beside them, and note that the set is whole. Idempotent.

    Raises NotFoundError for a set that nobody has begun, ConflictError where files are missing.
    """
    known = sets.stored(digest)
    if known is None:
        raise NotFoundError(f"no data set {digest} is known here: its upload begins with POST /v1/data/uploads")
    area, manifest = areas.DataArea(artifacts, digest), known.manifest.encode()
    there = area.sizes()  # also of a set that was whole: a bucket may have lost files
    missing = _missing(there, canonical.decode(manifest))
    if missing:
        raise ConflictError(
            f"{len(missing):,} of {known.files:,} files of the data set {digest} are not there, {missing[0].file} "
            "first: send them (`vaesvc data add` again goes on where it stopped)"
        )
    if there.get(DATA_JSON) != len(manifest):
        artifacts.put_bytes(area.file(DATA_JSON), manifest, "application/json")
    return sets.complete(digest)


def detail(sets: DataSets, named: NamedSet, grace: Grace, owner: str | None) -> wire.DataDetail:
    """Return all that is known of the set that a name points to. owner: whose reasons to keep it are told; None:
    everybody's.
    """
    stored = sets.stored(named.digest)
    assert stored is not None  # a foreign key says so
    (with_reasons,) = sets.kept(grace, owner=owner, digest=named.digest)
    manifest = canonical.decode(stored.manifest.encode())
    return wire.DataDetail(
        data=named,
        kept=with_reasons.kept,
        made=manifest.made,
        source=manifest.source,
        moves=tuple(sets.moves(named.name)),
        jobs=tuple(sets.waiting_jobs(named.digest)),
    )


def files(sets: DataSets, artifacts: Artifacts, named: NamedSet) -> wire.DataFiles:
    """Return addresses that read the set's files without keys, for an hour."""
    stored = sets.stored(named.digest)
    assert stored is not None
    area = areas.DataArea(artifacts, named.digest)
    names = [DATA_JSON, *(shard.file for shard in canonical.decode(stored.manifest.encode()).shards())]
    return wire.DataFiles(digest=named.digest, files={name: area.presign(area.file(name)) for name in names})
