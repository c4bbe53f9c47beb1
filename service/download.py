"""Reading a model version as a user: its files come through presigned addresses, and nothing is used unverified.

Checked here, whatever the API and the bucket say: that a trusted key signed the statement, that it is about the model
that was asked for, that the manifest is the signed one, that every file is what the manifest says, and that no file is
there that a model does not consist of. Only then is anything but JSON parsed.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from service import model_files, signing
from service.client import LOOPBACK, Client
from service.code import storage
from service.code.reference import CodeRef
from service.code.wheel import CodeError
from service.directories import MANIFEST, altered, disk_error, replace_directory
from service.errors import ConflictError, NotFoundError, StorageError, UnavailableError, UntrustedError
from service.model_files import MLMODEL, SIGNATURE, Reference, Statement
from service.pyfunc import CODE
from service.retry import again
from service.wire import ModelFiles

if TYPE_CHECKING:
    from service.settings import Settings
    from vae_models.trained import Trained

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0  # without a byte
RETRY_SECONDS = 30.0  # for one file
CHUNK_BYTES = 1 << 20
CODE_BYTES = 1 << 30  # of a package; the service takes far less
TRUST = "trust"  # the package that the service has
MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """bytes, files: that came now; 0 where the version was there already."""

    statement: Statement
    bytes: int
    files: int


def load(model: str, client: Client, settings: Settings, code: str | Path | None = None) -> tuple[Trained, Statement]:
    """Return the model `NAME`, `NAME@best` or `NAME/3`, verified, in memory, and what the service signed of it; only
    its package stays on the disk.

    code: consent to run the package that it needs, if it needs one: see `agree`
    """
    from service.pyfunc import load_directory

    asked = model_files.reference(model)
    with tempfile.TemporaryDirectory(prefix="vaesvc-model-") as scratch:
        folder = Path(scratch) / "model"
        statement = pull(asked, folder, client, settings).statement
        if statement.code is not None and code is not None:
            agree(statement.code, code, folder, settings)
        return load_directory(folder), statement


def agree(needed: CodeRef, code: str | Path, folder: Path, settings: Settings) -> None:
    """Put the package that a model in `folder` needs on this process's path. Raises CodeError where it is another one.

    code: TRUST, for the one that was pulled with the model and that the service's signature names; or the path of a
    wheel, or of its source, that is the same
    """
    from service.code.build import built
    from service.code.path import use

    path = folder / CODE / needed.filename if code == TRUST else Path(code)
    wheel = built(path, most_bytes=settings.code_bytes)
    if wheel.digest != needed.digest:
        raise CodeError(
            f"the model needs the package {needed}, and {path} is {wheel}: another package, or the same in another "
            f"state. code={TRUST!r} takes the one that the service has"
        )
    use(wheel, settings.cache_dir)


def pull(
    asked: Reference,
    into: Path,
    client: Client,
    settings: Settings,
    *,
    report: Callable[[str], None] = lambda text: None,
) -> Fetched:
    """Download the model into the folder `into`: `fetch` with the keys that the settings trust."""
    keys = trusted_keys(client, settings)
    return fetch(client.model_files(asked.name, version=asked.version), into, asked=asked, keys=keys, report=report)


def trusted_keys(client: Client, settings: Settings) -> tuple[str, ...]:
    """Return the pinned keys (`verify_key`), else the service's. Raises UntrustedError where it has none of the
    pinned."""
    served = client.keys()
    pinned = signing.parse_keys(settings.verify_key)
    if pinned and not set(pinned) & set(served):
        raise UntrustedError(
            f"the service at {client.url} signs with {', '.join(served)}, but verify_key (from "
            f"{settings.origin('verify_key')}) trusts {', '.join(pinned)} alone: is this another service, or was "
            "its key replaced? Ask who runs it, and set verify_key to the new key if they say so"
        )
    return pinned or served


def fetch(
    files: ModelFiles, into: Path, *, asked: Reference, keys: Collection[str], report: Callable[[str], None]
) -> Fetched:
    """Download to `into`, which appears complete and verified, or not at all.

    Nothing is done where the very same version is there already. Raises ConflictError where something else is,
    UntrustedError or CorruptObjectError for what is not what the service signed, UnavailableError if the storage does
    not answer.
    """
    what = f"{files.name} version {files.version}"
    statement = model_files.read_statement(files.envelope, keys, what)
    _check_asked(statement, asked, files, what)
    if _is_there(statement, into, what):
        report(f"{into} holds this version already")
        _fetch_code(files, statement, into, what, report)
        return Fetched(statement=statement, bytes=0, files=0)
    try:
        into.absolute().parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.absolute().parent))
        try:
            sizes = _download(files, statement, partial, what)
            (partial / SIGNATURE).write_text(files.envelope)
            _fetch_code(files, statement, partial, what, report)
            partial.chmod(0o755)
            replace_directory(partial, into.absolute())
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise disk_error(error, into) from error
    return Fetched(statement=statement, bytes=sum(sizes.values()), files=len(sizes))


def _fetch_code(
    files: ModelFiles, statement: Statement, folder: Path, what: str, report: Callable[[str], None]
) -> None:
    """Download the package that the model needs into code/ of its folder, verified. Nothing of it is run."""
    needed = statement.code
    if needed is None:
        return
    path = folder / CODE / needed.filename
    if path.is_file() and storage.is_package(path.read_bytes(), needed):
        return
    if files.code is None:
        raise UntrustedError(f"{what}: the service gives no address for the package {needed}, which it needs")
    path.parent.mkdir(exist_ok=True)
    local = urlsplit(files.code).hostname in LOOPBACK
    with httpx.Client(timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS), trust_env=not local) as client:
        _file(client, files.code, path, None, CODE_BYTES)
    storage.verified(path.read_bytes(), needed, CODE_BYTES)
    report(f"{what} needs the package {needed}, which is user's code: it lies in {CODE}/ and was not run")


def _check_asked(statement: Statement, asked: Reference, files: ModelFiles, what: str) -> None:
    """Raise UntrustedError unless the signature is of the version asked for: none can stand for another."""
    right = statement.name == asked.name == files.name and str(statement.version) == files.version
    if not right or asked.version not in (None, statement.version):
        raise UntrustedError(
            f"{what}: {asked} was asked for, and its signature is about {statement.name} version {statement.version}"
        )


def _download(files: ModelFiles, statement: Statement, partial: Path, what: str) -> dict[str, int]:
    """Download the manifest, then what it names; return name -> bytes."""
    addresses = files.files
    with _client(addresses.values()) as client:
        _file(client, _address(addresses, MANIFEST, what), partial / MANIFEST, None, MANIFEST_BYTES)
        manifest = (partial / MANIFEST).read_bytes()
        sums = model_files.check_manifest(manifest, statement, what)
        sizes = {MANIFEST: len(manifest)}
        for name, (sha256, size) in sums.items():
            sizes[name] = _file(client, _address(addresses, name, what), partial / name, sha256, size)
    model_files.check_mlmodel((partial / MLMODEL).read_bytes(), what)
    return sizes


def _address(addresses: Mapping[str, str], name: str, what: str) -> str:
    try:
        return addresses[name]
    except KeyError:
        raise UntrustedError(f"{what}: the service gives no address for its {name}") from None


def _is_there(statement: Statement, into: Path, what: str) -> bool:
    if not into.exists():
        return False
    if not into.is_dir():
        raise ConflictError(f"{into} is there and is no folder; name a new one")
    manifest = into / MANIFEST
    if manifest.is_file() and _sha256(manifest) == statement.manifest_sha256:
        sums = model_files.check_manifest(manifest.read_bytes(), statement, what)
        wrong = [name for name, (sha256, _) in sums.items() if not _same(into / name, sha256)]
        if wrong:
            raise ConflictError(f"{into} holds this version, but {wrong[0]} was altered or deleted; remove the folder")
        return True
    if any(into.iterdir()):
        raise ConflictError(f"{into} is not empty; name a new or an empty folder")
    return False


def _same(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def get_file(address: str, path: Path, sha256: str, size: int) -> None:
    """Write what lies at a signed address to `path`. Raises CorruptObjectError if a byte differs."""
    with _client([address]) as client:
        _file(client, address, path, sha256, size)


def get_bytes(address: str, most: int, span: tuple[int, int] | None = None) -> bytes:
    """Return what lies at a signed address, at most so many bytes. span: the first byte, and the one after the last."""
    headers = {} if span is None else {"range": f"bytes={span[0]}-{span[1] - 1}"}
    with _client([address]) as client, tempfile.TemporaryDirectory(prefix="vaesvc-") as scratch:
        path = Path(scratch) / "bytes"
        _file(client, address, path, None, most, headers=headers)
        return path.read_bytes()


def _client(addresses: Collection[str]) -> httpx.Client:
    """Return a client for addresses of one bucket."""
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    local = any(urlsplit(address).hostname in LOOPBACK for address in addresses)
    return httpx.Client(timeout=timeout, trust_env=not local)


def _file(
    client: httpx.Client,
    address: str,
    path: Path,
    sha256: str | None,
    most: int,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Download to `path`, at most `most` bytes; return how many. sha256: the expected one; None where the caller checks
    it."""
    public = urlsplit(address)._replace(query="").geturl()  # the query is a key for an hour
    try:
        actual, count = again(
            lambda: _stream(client, address, public, path, most, headers),
            when=lambda error: isinstance(error, httpx.TransportError),
            seconds=RETRY_SECONDS,
        )
    except httpx.TransportError as error:
        raise UnavailableError(
            f"the storage at {urlsplit(address).netloc} does not answer ({error or type(error).__name__}); it must be "
            "reachable from here, not only from the service"
        ) from error
    if sha256 is not None and actual != sha256:
        raise altered(public, sha256, actual)
    return count


def _stream(
    client: httpx.Client, address: str, public: str, path: Path, most: int, headers: Mapping[str, str]
) -> tuple[str, int]:
    digest, count = hashlib.sha256(), 0
    with client.stream("GET", address, headers=dict(headers)) as answer:
        if answer.status_code >= 500:
            raise httpx.RemoteProtocolError(f"HTTP {answer.status_code}")
        if answer.status_code == 404:
            raise NotFoundError(f"{public} is not there any more")
        if answer.status_code not in (200, 206):
            raise StorageError(f"the storage refuses {public}: HTTP {answer.status_code} {answer.reason_phrase}")
        with path.open("wb") as file:
            for chunk in answer.iter_raw(CHUNK_BYTES):
                digest.update(chunk)
                count += len(chunk)
                if count > most:
                    raise UntrustedError(f"{public} has more than the {most} bytes that it should have: it is not read")
                file.write(chunk)
    return digest.hexdigest(), count
