"""Checkpoints, models and logs in an S3 bucket. With `s3_client` the only user of boto3.

A directory in the bucket is complete when its `manifest.json` is there: it is uploaded last, and it names every
file's SHA-256 and size. What is downloaded is checked against it, so a damaged object is refused, never used.
Calls are safe to repeat, from several threads too; those that meet a silent or overloaded server try again for
`patience_seconds`.
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from service.directories import (
    MANIFEST,
    CorruptObjectError,
    altered,
    disk_error,
    need_space,
    read_manifest,
    replace_directory,
    write_all,
)
from service.errors import NotFoundError, StorageError, UsageError, VaesvcError
from service.retry import again
from service.s3_client import listing, made_client, passing, root, unreachable
from service.storage_errors import NO_KEY, error_code, explain, public

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from service.wire import StorageSettings

T = TypeVar("T")

PART_BYTES = 8 * 2**20  # larger files go up in parts of this size
CHUNK_BYTES = 2**20  # read from a download at a time
DELETE_BATCH = 1000  # keys in one request, S3's own limit


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A directory in the bucket."""

    uri: str
    manifest_sha256: str
    bytes: int  # of all files, manifest included


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    uri: str
    bytes: int
    modified_at: float  # seconds since 1970, UTC


def parse(uri: str) -> tuple[str, str]:
    """Split an address: `s3://bucket/some/key` -> ("bucket", "some/key")."""
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"{public(uri)!r} is not an S3 address: it must look like s3://BUCKET/KEY")
    return parts.netloc, parts.path.lstrip("/")


class Artifacts:
    """One bucket (and a prefix in it) of one S3 server.

    patience_seconds: how long a call tries again while the server does not answer or says that it is overloaded;
    0 for one try.
    """

    def __init__(self, settings: StorageSettings, *, patience_seconds: float = 90.0) -> None:
        self.settings = settings
        self.patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._made: S3Client | None = None

    # --- addresses --------------------------------------------------------------------------------------------------

    def uri(self, *parts: str) -> str:
        """Return s3://bucket/prefix/parts."""
        path = "/".join(p.strip("/") for p in (self.settings.prefix, *parts) if p.strip("/"))
        return f"s3://{self.settings.bucket}/{path}"

    def presign(self, uri: str, seconds: int = 3600) -> str:
        """Return an https or http address that reads the object without keys, for `seconds`."""
        bucket, key = parse(uri)
        params = {"Bucket": bucket, "Key": key}
        return str(self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=int(seconds)))

    def presign_put(self, uri: str, seconds: int, *, bytes: int, sha256: str) -> tuple[str, dict[str, str]]:
        """Return an address that takes one object without keys, for `seconds`, and the request's headers.

        Size and sum are signed: the server refuses a body of another length, and one with another SHA-256.
        """
        bucket, key = parse(uri)
        checksum = base64.b64encode(builtins.bytes.fromhex(sha256)).decode()
        params = {"Bucket": bucket, "Key": key, "ContentLength": bytes, "ChecksumSHA256": checksum}
        url = self._client.generate_presigned_url("put_object", Params=params, ExpiresIn=int(seconds))
        return str(url), {"content-length": str(bytes), "x-amz-checksum-sha256": checksum}

    # --- bucket -----------------------------------------------------------------------------------------------------

    def ensure_bucket(self) -> None:
        """Create the bucket unless it exists."""
        from botocore.exceptions import ClientError

        try:
            self.check()
            return
        except NotFoundError:
            raise
        except StorageError as error:
            if not isinstance(error.__cause__, ClientError) or error_code(error.__cause__) != "NoSuchBucket":
                raise
        where: dict[str, Any] = {}
        if self.settings.endpoint_url is None and self.settings.region != "us-east-1":
            where = {"CreateBucketConfiguration": {"LocationConstraint": self.settings.region}}

        def create() -> None:
            try:
                self._client.create_bucket(Bucket=self.settings.bucket, **where)
            except ClientError as error:
                if error_code(error) != "BucketAlreadyOwnedByYou":
                    raise

        self._call("create the bucket", self.uri(), create)

    def check(self) -> None:
        """Raise UnavailableError or StorageError, with the cause, unless the bucket exists and the keys open it."""
        bucket = self.settings.bucket
        self._call("look into", self.uri(), lambda: listing(self._client.list_objects_v2(Bucket=bucket, MaxKeys=1)))

    # --- single objects ---------------------------------------------------------------------------------------------

    def put_bytes(self, uri: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        bucket, key = parse(uri)
        self._call(
            "write",
            uri,
            lambda: self._client.put_object(Bucket=bucket, Key=key, Body=data, ContentType=content_type),
        )

    def get_bytes(self, uri: str, start: int = 0) -> bytes:
        """Return the object from byte `start`; empty when it ends there or earlier. Raises NotFoundError if there is
        none."""
        from botocore.exceptions import ClientError

        bucket, key = parse(uri)
        span: dict[str, Any] = {"Range": f"bytes={start}-"} if start > 0 else {}

        def read() -> bytes:
            try:
                reply = self._client.get_object(Bucket=bucket, Key=key, **span)
                data = reply["Body"].read()
                return data if not span or reply.get("ContentRange") else data[start:]  # some ignore the range
            except ClientError as error:
                if error_code(error) in ("InvalidRange", "416"):
                    return b""
                raise

        return self._call("read", uri, read)

    def digest(self, uri: str) -> tuple[str, int]:
        """Return SHA-256 and size (bytes) of the object, read to its end, not kept. Raises NotFoundError if there is
        none."""
        bucket, key = parse(uri)

        def read() -> tuple[str, int]:
            digest, size = hashlib.sha256(), 0
            body = self._client.get_object(Bucket=bucket, Key=key)["Body"]
            with contextlib.closing(body):
                for chunk in body.iter_chunks(CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
            return digest.hexdigest(), size

        return self._call("read", uri, read)

    def list(self, uri: str) -> list[StoredObject]:
        """Return the objects under the directory `uri`, and the object of that name, sorted by address."""
        bucket, key = parse(uri)
        return self._call("list", uri, lambda: list(self._under(bucket, key)))

    def delete_prefix(self, uri: str) -> int:
        """Delete the directory `uri`, manifests first, so it is never half there. Returns how many objects."""
        bucket, key = parse(uri)
        if not key.strip("/"):
            raise UsageError(f"{uri} is the whole bucket: name a directory in it")
        return self._call("delete", uri, lambda: self._delete(bucket, key))

    # --- directories ------------------------------------------------------------------------------------------------

    def put_directory(self, directory: Path, uri: str) -> Stored:
        """Upload every file under `directory`, manifest.json last; what was at `uri` counts as incomplete meanwhile."""
        bucket, key = parse(uri.rstrip("/"))
        manifest = directory / MANIFEST
        if not manifest.is_file():
            raise StorageError(f"{directory} has no {MANIFEST}, so it could not be told complete: write it first")
        files = {p.relative_to(directory).as_posix(): p for p in sorted(directory.rglob("*")) if p.is_file()}
        data = manifest.read_bytes()
        if missing := set(read_manifest(data, str(manifest))) - set(files):
            raise CorruptObjectError(f"{directory} lacks {sorted(missing)}, which its {MANIFEST} names")
        target = f"s3://{bucket}/{key}/{MANIFEST}"
        self._call("delete", target, lambda: self._client.delete_object(Bucket=bucket, Key=f"{key}/{MANIFEST}"))
        for name, path in files.items():
            if name != MANIFEST:
                self._upload(path, bucket, f"{key}/{name}")
        self.put_bytes(target, data, "application/json")
        total = sum(path.stat().st_size for path in files.values())
        return Stored(uri=f"s3://{bucket}/{key}/", manifest_sha256=hashlib.sha256(data).hexdigest(), bytes=total)

    def get_directory(
        self, uri: str, into: Path, manifest_sha256: str | None = None, only: Collection[str] | None = None
    ) -> Path:
        """Copy the directory `uri` to `into`, verified: the copy appears complete or not at all.

        manifest_sha256: what the manifest itself must be, where that is known (a committed checkpoint's row).
        only: the names of the files to fetch, where not all are needed; the manifest comes in any case.
        Raises CorruptObjectError, naming the object and both sums, if a byte differs.
        """
        uri = uri.rstrip("/")
        try:
            data = self.get_bytes(f"{uri}/{MANIFEST}")
        except NotFoundError as error:
            raise CorruptObjectError(f"{uri} has no {MANIFEST}: it was never completed, or it was deleted") from error
        actual = hashlib.sha256(data).hexdigest()
        if manifest_sha256 is not None and actual != manifest_sha256:
            raise altered(f"{uri}/{MANIFEST}", manifest_sha256, actual)
        files = read_manifest(data, f"{uri}/{MANIFEST}")
        if only is not None:
            files = {name: entry for name, entry in files.items() if name in only}
        into.parent.mkdir(parents=True, exist_ok=True)
        need_space(into.parent, sum(size for _, size in files.values()))
        partial = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
        try:
            for name, (sha256, size) in files.items():
                self.download(f"{uri}/{name}", partial / name, sha256, size)
            (partial / MANIFEST).write_bytes(data)
            partial.chmod(0o755)  # mkdtemp's 0700 would hide it from others
            replace_directory(partial, into)
        except OSError as error:
            raise disk_error(error, into) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return into

    def download(
        self, uri: str, path: Path, sha256: str, size: int, told: Callable[[int], None] = lambda count: None
    ) -> None:
        """Write the object into the file `path`, and to the disk. Raises CorruptObjectError if a byte differs.

        told: called with the number of bytes that came; with a negative one, where they have to come again.
        """
        bucket, key = parse(uri)
        path.parent.mkdir(parents=True, exist_ok=True)

        def fetch() -> tuple[str, int]:
            digest = hashlib.sha256()
            body = self._client.get_object(Bucket=bucket, Key=key)["Body"]
            with contextlib.closing(body), path.open("wb", buffering=0) as file:
                try:
                    for chunk in body.iter_chunks(CHUNK_BYTES):
                        digest.update(chunk)
                        write_all(file, chunk)
                        told(len(chunk))
                except BaseException:
                    told(-file.tell())
                    raise
                os.fsync(file.fileno())
                return digest.hexdigest(), file.tell()

        try:
            actual, count = self._call("read", uri, fetch)
        except NotFoundError as error:
            raise CorruptObjectError(f"{uri} is missing, though it is named beside it") from error
        if (actual, count) != (sha256, size):
            raise altered(uri, f"{sha256} ({size} bytes)", f"{actual} ({count} bytes)")

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> S3Client:
        with self._lock:
            if self._made is None:
                self._made = made_client(self.settings)
            return self._made

    def _under(self, bucket: str, key: str) -> Iterator[StoredObject]:
        key = key.rstrip("/")
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
            for item in listing(page).get("Contents", []):
                name = item["Key"]
                if not key or name == key or name.startswith(f"{key}/"):
                    at = item["LastModified"].timestamp()
                    yield StoredObject(uri=f"s3://{bucket}/{name}", bytes=item["Size"], modified_at=at)

    def _delete(self, bucket: str, key: str) -> int:
        keys = [parse(item.uri)[1] for item in self._under(bucket, key)]
        self._abort_uploads(bucket, key)
        manifests = [k for k in keys if k.endswith(f"/{MANIFEST}")]
        rest = [k for k in keys if not k.endswith(f"/{MANIFEST}")]
        for group in (manifests, rest):
            for start in range(0, len(group), DELETE_BATCH):
                self._delete_keys(bucket, group[start : start + DELETE_BATCH])
        return len(keys)

    def _abort_uploads(self, bucket: str, key: str) -> None:
        """Abort large files' uploads that were killed: their parts lie in no listing, and would lie there for ever."""
        from botocore.exceptions import ClientError

        with contextlib.suppress(ClientError):  # not every server can list them
            for each in self._client.list_multipart_uploads(Bucket=bucket, Prefix=f"{key.rstrip('/')}/").get(
                "Uploads", []
            ):
                self._client.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])

    def _delete_keys(self, bucket: str, keys: Sequence[str]) -> None:
        reply = self._client.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": k} for k in keys], "Quiet": True}
        )
        failed = [e for e in reply.get("Errors", []) if e.get("Code") not in NO_KEY]
        if failed:
            first = failed[0]
            why = f"{first.get('Code')}: {first.get('Message', '')}"
            raise StorageError(
                f"{len(failed)} objects were not deleted, s3://{bucket}/{first.get('Key')} first ({why})"
            )

    def _upload(self, path: Path, bucket: str, key: str) -> None:
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
        self._call(
            "write", f"s3://{bucket}/{key}", lambda: self._client.upload_file(str(path), bucket, key, Config=config)
        )

    def _call(self, doing: str, uri: str, function: Callable[[], T]) -> T:
        """Run one repeatable request, again while it fails for a passing reason; raise an error that explains why it
        failed."""
        try:
            return again(function, when=passing, seconds=self.patience_seconds)
        except VaesvcError:
            raise
        except Exception as error:
            cause = root(error)
            raise self._explain(cause, doing, uri) from cause

    def _explain(self, error: Exception, doing: str, uri: str) -> VaesvcError:
        from botocore.exceptions import NoCredentialsError, PartialCredentialsError

        endpoint = self.settings.endpoint_url
        where = public(endpoint) if endpoint else f"AWS ({self.settings.region})"
        bucket, key = parse(uri)
        return explain(
            error,
            what=f"could not {doing} {uri} at {where}",
            bucket=None if key else bucket,
            keyless=isinstance(error, NoCredentialsError | PartialCredentialsError),
            unreachable=unreachable(error),
        )
