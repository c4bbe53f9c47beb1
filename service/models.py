"""Registered models as the service knows them: what it signs, which is the best, and what it lets be read.

Signing is the API's and the dispatcher's alone: the key never leaves their machines. An attempt stores a model's files
and asks; the service then reads the files itself, and signs only what a registration of that job makes. SQL has the
signed statements (`service.queue.models`); MLflow's registry shows them and is never asked.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service import areas, model_files, signing
from service.areas import Area
from service.attempt.best import Choice, choose
from service.code import storage
from service.code.reference import CodeRef
from service.directories import MANIFEST, read_manifest
from service.errors import NotFoundError, UntrustedError, UsageError
from service.model_files import BEST, MLMODEL, PAYLOAD_TYPE, SIGNATURE, Reference, Statement
from service.pyfunc import CODE, CONFIG, MODEL
from service.queue import models as rows
from service.queue.jobs import Checkpoint, Job
from service.queue.models import VersionRow
from service.queue.store import Store
from service.signing import SigningKey
from service.tracking import describe
from service.wire import ModelFiles, ModelVersion, RegisterReply

if TYPE_CHECKING:
    from service.artifacts import Artifacts

STATE = "state.json"  # of a checkpoint
Seen = Callable[[list[ModelVersion]], list[ModelVersion]]
SMALL_BYTES = 16 << 20  # of any file but the weights


@dataclass(frozen=True, kw_only=True)
class Models:
    store: Store
    artifacts: Artifacts
    key: SigningKey

    # --- what there is ----------------------------------------------------------------------------------------------

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """Return every model's versions (or `name`'s), by name and number. `best` is on the best whose signature
        holds."""
        rows_of_name = self.store.model_versions(name)
        statements = {row.job_id: self._statement(row) for row in rows_of_name}
        best = {name: self._best(name, rows_of_name, statements) for name in {row.name for row in rows_of_name}}
        return [self._listed(row, statements[row.job_id], best[row.name]) for row in rows_of_name]

    def best(self, name: str) -> ModelVersion | None:
        return next((version for version in self.versions(name) if BEST in version.aliases), None)

    def _best(
        self, name: str, version_rows: list[VersionRow], statements: Mapping[str, Statement | None]
    ) -> int | None:
        signed = [statements[row.job_id] for row in version_rows if row.name == name]
        best = rows.best([version for version in signed if version is not None])
        return None if best is None else best.version

    def said(self, row: VersionRow) -> Statement:
        """Return what was signed of a version. Raises UntrustedError where the service's key has not signed it."""
        statement = self._statement(row)
        if statement is None:
            raise UntrustedError(
                f"{row.name} version {row.version} is not signed with the service's key: was the key replaced? Then "
                "the dispatcher signs it again within a minute; else `vaesvc models` has the others"
            )
        return statement

    def _statement(self, row: VersionRow) -> Statement | None:
        """Return what was signed of it; None where the service's key did not sign it, or signed another one."""
        statement = _verified(row.envelope, self.key.public)
        if statement is None:
            return None
        named = (statement.name, statement.version, statement.job_id)
        return statement if named == (row.name, row.version, row.job_id) else None

    def _listed(self, row: VersionRow, statement: Statement | None, best: int | None) -> ModelVersion:
        return ModelVersion(
            name=row.name,
            version=str(row.version),
            aliases=(BEST,) if row.version == best else (),
            source=self.artifacts.uri(*model_files.source(row.name, row.job_id)),
            job_id=row.job_id,
            metric=None if statement is None else statement.metric,
            value=None if statement is None else statement.value,
            created_at=row.created_at,
            mlflow_version=None if row.mlflow_version is None else str(row.mlflow_version),
            signed=statement is not None,
            code=None if statement is None else statement.code,
        )

    # --- reading ----------------------------------------------------------------------------------------------------

    def files(self, asked: Reference, seen: Seen = lambda versions: versions) -> ModelFiles:
        """Return addresses of a signed version's files. Raises NotFoundError, or UntrustedError if not as signed.

        seen: of some versions, those that the caller may see.
        """
        row, statement = self.signed(asked, seen)
        what = f"{row.name} version {row.version}"
        area = Area(self.artifacts, *model_files.source(row.name, row.job_id))
        manifest = area.get_bytes(f"{area.uri}/{MANIFEST}")
        names = (MANIFEST, *model_files.check_manifest(manifest, statement, what))
        files = {name: area.presign(f"{area.uri}/{name}") for name in names}
        code = None if statement.code is None else self._code(statement.code)
        return ModelFiles(name=row.name, version=str(row.version), files=files, envelope=row.envelope, code=code)

    def signed(self, asked: Reference, seen: Seen = lambda versions: versions) -> tuple[VersionRow, Statement]:
        """Return a version's row, and what the service signed of it. Raises NotFoundError, or UntrustedError where it
        is not signed."""
        chosen = self._pick(asked, seen)
        row = next(each for each in self.store.model_versions(asked.name) if str(each.version) == chosen.version)
        return row, self.said(row)

    def _code(self, ref: CodeRef) -> str:
        """Return an address of the package that a model needs."""
        area = Area(self.artifacts, storage.PLACE)
        return area.presign(storage.address(self.artifacts, ref))

    def _pick(self, asked: Reference, seen: Seen) -> ModelVersion:
        versions = seen(self.versions(asked.name))
        if not versions:
            known = ", ".join(sorted({version.name for version in seen(self.versions())})) or "none yet"
            raise NotFoundError(f"no registered model {asked.name!r}; there are: {known}")
        for version in versions:
            if version.version == str(asked.version) or (asked.version is None and BEST in version.aliases):
                return version
        wanted = f"version {asked.version}" if asked.version is not None else f"alias {BEST!r}"
        there = ", ".join(
            " ".join((version.version, *(f"@{alias}" for alias in version.aliases))) for version in versions
        )
        raise NotFoundError(f"model {asked.name!r} has no {wanted}; it has versions {there}")

    # --- signing ----------------------------------------------------------------------------------------------------

    def sign(
        self, job: Job, result: Mapping[str, Any], mlflow_version: int | None, *, number: int | None = None
    ) -> RegisterReply:
        """Sign the model that the job's files in the bucket are, after reading them. Idempotent.

        result: the attempt's; of a study it names the winner. number: of the attempt that asks. Raises UntrustedError
        where the files are not those of the job's best checkpoint, UsageError where it has none.
        """
        choice = self._choice(job, result)
        name = str(job.spec["register_as"])
        area = Area(self.artifacts, *model_files.source(name, job.id))
        manifest = area.get_bytes(f"{area.uri}/{MANIFEST}")
        known = self.store.model_version(job.id)
        said = None if known is None else self._statement(known)
        if said is None or not _is_about(said, choice, manifest):
            what = f"the model of job {job.id}"
            config = self._read(choice.checkpoint, area, manifest, what, job.spec.get("code"))
            said = _statement(name, job, choice, manifest, config)
        row = self._put(said, mlflow_version, number, manifest)
        version = next(each for each in self.versions(name) if each.job_id == job.id)
        return RegisterReply(version=version, envelope=row.envelope, best=self.best(name))

    def sign_again(self, row: VersionRow) -> VersionRow:
        """Sign a version with the service's current key, its files read again. Raises UntrustedError for altered
        ones."""
        said = Statement.model_validate(signing.payload(row.envelope))
        what = f"{row.name} version {row.version}"
        area = Area(self.artifacts, *model_files.source(row.name, row.job_id))
        manifest = area.get_bytes(f"{area.uri}/{MANIFEST}")
        sums = model_files.check_manifest(manifest, said, what)
        self._check_objects(area, sums, what, own_code=said.code is not None)
        return self._put(said, None, None, manifest)

    def unsigned(self) -> list[VersionRow]:
        """Return the versions that the service's current key has not signed."""
        return [row for row in self.store.model_versions() if not signing.signed_by(row.envelope, self.key.public)]

    def _put(self, said: Statement, mlflow_version: int | None, number: int | None, manifest: bytes) -> VersionRow:
        """Sign the statement, with the number that the version has or gets, into SQL, then beside the files."""
        sizes = [size for _, size in read_manifest(manifest, MANIFEST).values()]

        def sign(number: int) -> str:
            statement = said.model_copy(update={"version": number})
            aside = {"code"} if statement.code is None else None
            return self.key.sign(statement.model_dump(mode="json", exclude=aside), PAYLOAD_TYPE)

        row = self.store.put_model_version(
            said.job_id, said.name, mlflow_version, sign, number=number, bytes=sum(sizes) + len(manifest)
        )
        copy = self.artifacts.uri(*model_files.source(said.name, said.job_id), SIGNATURE)
        self.artifacts.put_bytes(copy, row.envelope.encode(), "application/json")
        return row

    def _choice(self, job: Job, result: Mapping[str, Any]) -> Choice:
        """Return the checkpoint that the job is known for, by the queue (a run) or by its winner (a study)."""
        try:
            choice = choose(job, result, lambda: self.store.checkpoints(job.id))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"the winner of job {job.id} is not understood ({type(error).__name__})") from error
        if choice is None:
            raise UsageError(f"job {job.id} has no checkpoint, so there is no model to register")
        areas.check_checkpoint(self.artifacts, job.id, choice.checkpoint)
        return choice

    def _read(
        self, checkpoint: Checkpoint, area: Area, manifest: bytes, what: str, code: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return the model's configuration, after all its files' bytes were read and compared with the checkpoint."""
        stored = checkpoint.uri.rstrip("/")
        committed = self.artifacts.get_bytes(f"{stored}/{MANIFEST}")
        state = self.artifacts.get_bytes(f"{stored}/{STATE}")
        origin = read_manifest(committed, f"{stored}/{MANIFEST}")
        if _sha256(committed) != checkpoint.manifest_sha256 or origin.get(STATE) != (_sha256(state), len(state)):
            raise UntrustedError(f"{what}: its checkpoint {stored} is not what was committed")
        files = read_manifest(manifest, f"{area.uri}/{MANIFEST}")
        model_files.check_names(files, what)
        if changed := [name for name in (MODEL, CONFIG) if files[name] != origin.get(name)]:
            raise UntrustedError(f"{what}: {changed[0]} is not the one of its checkpoint {stored}")
        if _told(manifest, "data_shape") != _told(state, "data_shape") or _told(manifest, "step") != checkpoint.step:
            raise UntrustedError(f"{what}: its {MANIFEST} says another shape or step than its checkpoint")
        if _told(manifest, "vocabulary") != _told(state, "vocabulary"):
            raise UntrustedError(f"{what}: its {MANIFEST} says another vocabulary than its checkpoint")
        if _told(manifest, CODE) != code:
            raise UntrustedError(f"{what}: its {MANIFEST} names another package of own code than its job")
        config: dict[str, Any] = json.loads(self._check_objects(area, files, what, own_code=code is not None)[CONFIG])
        return config

    def _check_objects(
        self, area: Area, files: Mapping[str, tuple[str, int]], what: str, *, own_code: bool
    ) -> dict[str, bytes]:
        """Return the small files, after every file's bytes were compared with the manifest, and MLmodel and config
        read."""
        from vae_models.config.train import TrainConfig
        from vae_models.measures import STORED
        from vae_models.open_union import foreign_allowed

        contents: dict[str, bytes] = {}
        for name, (sha256, size) in files.items():
            uri = area.address(f"{area.uri}/{name}")
            if name == MODEL:
                stored = self.artifacts.digest(uri)
            elif size > SMALL_BYTES:
                raise UntrustedError(f"{what}: {name} has {size} bytes, more than any model of this service has")
            else:
                contents[name] = self.artifacts.get_bytes(uri)
                stored = _sha256(contents[name]), len(contents[name])
            if stored != (sha256, size):
                raise UntrustedError(f"{what}: {name} is not what its {MANIFEST} says: it was altered in the bucket")
        model_files.check_mlmodel(contents[MLMODEL], what)
        try:
            with foreign_allowed(own_code):
                TrainConfig.model_validate_json(contents[CONFIG], context=STORED)
        except ValueError as error:
            raise UntrustedError(f"{what}: its {CONFIG} is no configuration of this version of vaesvc") from error
        return contents


@functools.lru_cache(maxsize=8192)
def _verified(envelope: str, key: str) -> Statement | None:
    """Return what this key signed; None where it did not. Remembered: the same text and key give the same."""
    try:
        return model_files.read_statement(envelope, [key], "a version")
    except UntrustedError:
        return None


def _statement(name: str, job: Job, choice: Choice, manifest: bytes, config: Mapping[str, Any]) -> Statement:
    """Return what is to be signed; the number is given when it is."""
    value = choice.checkpoint.metrics.get(choice.metric, math.nan)
    return Statement(
        name=name,
        version=1,
        job_id=job.id,
        source="/".join(model_files.source(name, job.id)),
        manifest_sha256=_sha256(manifest),
        metric=choice.metric,
        value=value if math.isfinite(value) else None,
        mode=choice.mode,
        measure=describe.measure(config),
        data=describe.data_name(config),
        step=choice.checkpoint.step,
        checkpoint=choice.checkpoint.uri,
        code=job.spec.get("code"),
    )


def _is_about(said: Statement, choice: Choice, manifest: bytes) -> bool:
    """Return whether this very model was read and signed already."""
    return said.checkpoint == choice.checkpoint.uri and said.manifest_sha256 == _sha256(manifest)


def _told(data: bytes, key: str) -> Any:
    """Return a value of a JSON object; None where it has none."""
    try:
        return json.loads(data).get(key)
    except (ValueError, AttributeError):
        return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
