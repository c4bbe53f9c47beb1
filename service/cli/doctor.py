"""doctor: what could be wrong here, each line OK, WARN or FAIL with how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.cli import output
from service.cli.arguments import AsJson
from service.errors import AuthError, VaesvcError
from service.quantities import size

if TYPE_CHECKING:
    from service.settings import Settings

GIB = 2**30
LOW_DISK, NO_DISK = 10 * GIB, 1 * GIB
LOW_SHM = 1 * GIB
LOW_MEMORY = 3 * GIB
SKEW_SECONDS = 2.0  # more than this makes leases and times of events hard to read; S3 refuses at 15 minutes
RAY_SECONDS = 5.0
SEEN_SECONDS = 30.0  # since the dispatcher looked at the cluster


@dataclass(frozen=True, kw_only=True)
class Finding:
    level: str  # OK, WARN, FAIL
    what: str
    detail: str
    mend: str = ""


def ok(what: str, detail: str) -> Finding:
    return Finding(level="OK", what=what, detail=detail)


def warn(what: str, detail: str, mend: str) -> Finding:
    return Finding(level="WARN", what=what, detail=detail, mend=mend)


def fail(what: str, detail: str, mend: str) -> Finding:
    return Finding(level="FAIL", what=what, detail=detail, mend=mend)


def doctor(json: AsJson = False) -> None:
    """Check this machine, the settings and every server they name. Exit code 1 if something must be mended."""
    checks = []
    for finding in examine():
        checks.append(finding)
        if not json:
            output.data(f"{finding.level:<4}  {finding.what:<12} {finding.detail}")
            if finding.mend:
                output.data(f"{'':<4}  {'':<12} -> {finding.mend}")
    if json:
        output.as_json([asdict(finding) for finding in checks])
    raise typer.Exit(1 if any(finding.level == "FAIL" for finding in checks) else 0)


def examine() -> Iterator[Finding]:
    """Yield all findings, one after the other, as they are known."""
    yield from _versions()
    yield _gpu()
    yield _shared_memory()
    yield _memory()
    from service import settings

    try:
        loaded = settings.load()
    except VaesvcError as error:
        yield fail("settings", str(error), "correct that, then run `vaesvc doctor` again")
        return
    yield from _settings(loaded)
    for name, path in (("disk: home", loaded.home), ("disk: cache", loaded.cache_dir)):
        yield _disk(name, path)
    yield _data(loaded)
    for check in (_api, _database, _mlflow, _s3, _ray, _logins):
        yield from _guarded(check, loaded)


def _guarded(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """Yield a check's findings; an error of ours is one of them."""
    what = {"_api": "API", "_mlflow": "MLflow", "_s3": "S3", "_ray": "Ray"}.get(check.__name__, check.__name__[1:])
    try:
        yield from check(settings)
    except VaesvcError as error:
        yield fail(what, str(error), "see above; `vaesvc status` shows the local stack's parts and their logs")


# --- this machine ---------------------------------------------------------------------------------------------------


def _versions() -> Iterator[Finding]:
    """Compare installed versions with what vaesvc declares."""
    from importlib import metadata

    from packaging.requirements import Requirement

    from service import __version__

    python = ".".join(str(part) for part in sys.version_info[:3])
    yield ok("python", f"{python}, vaesvc {__version__}")
    try:
        declared = [Requirement(line) for line in metadata.requires("vaesvc") or ()]
    except metadata.PackageNotFoundError:
        yield warn("packages", "vaesvc runs from a folder that is not installed", "pip install -e . in it")
        return
    wrong, shown = [], []
    for need in declared:
        if need.marker is not None and not need.marker.evaluate():
            continue
        try:
            have = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{need.name} is missing (needed: {need.specifier})")
            continue
        if not need.specifier.contains(have, prereleases=True):
            wrong.append(f"{need.name} {have} is not {need.specifier}")
        if need.name in ("torch", "ray", "mlflow"):
            shown.append(f"{need.name} {have}")
    yield (
        ok("packages", ", ".join(shown))
        if not wrong
        else fail("packages", "; ".join(wrong), "make the environment again: make env")
    )


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return ok("GPU", ", ".join(names))
    if shutil.which("nvidia-smi"):
        mend = "install a CUDA build of torch that fits the driver, or look at `nvidia-smi`"
        return warn("GPU", f"the driver is here, but torch {torch.__version__} sees no GPU", mend)
    return ok("GPU", f"none; {os.cpu_count()} CPU cores")


_SHARED_MEMORY = "/dev/shm"  # nosec B108  # looked at, never written


def _shared_memory() -> Finding:
    try:
        free = shutil.disk_usage(_SHARED_MEMORY).free
    except OSError as error:
        return warn(
            _SHARED_MEMORY, f"cannot be looked at: {error.strerror}", "Ray then keeps its objects on disk: slow"
        )
    if free < LOW_SHM:
        mend = "containers: --shm-size=2g; Ray then keeps its objects on disk, which is slow"
        return warn(_SHARED_MEMORY, f"{size(free)} free, less than {size(LOW_SHM)}", mend)
    return ok(_SHARED_MEMORY, f"{size(free)} free")


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    if free < LOW_MEMORY:
        return warn("memory", f"{size(free)} available", "the local stack and a job of two workers need 3 GiB")
    return ok("memory", f"{size(free)} available")


def _disk(name: str, path: Path) -> Finding:
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return fail(name, f"{path}: not writable", "choose another folder with VAESVC_HOME or VAESVC_CACHE_DIR")
    shown = f"{path}: {size(free)} free"
    if free < NO_DISK:
        return fail(name, shown, "free some space, or choose another folder with VAESVC_HOME or VAESVC_CACHE_DIR")
    if free < LOW_DISK:
        return warn(name, shown, "checkpoints, logs and data sets will fill it")
    return ok(name, shown)


# --- settings -------------------------------------------------------------------------------------------------------


def _settings(settings: Settings) -> Iterator[Finding]:
    from service.settings import config_file, field_names

    path = config_file()
    yield ok("settings", f"file {path}" if path else "no file; environment, local stack and defaults")
    for field in field_names():
        origin = settings.origin(field)
        if origin != "default":
            yield ok("settings", f"{field} = {_shown(settings, field)}  (from {origin})")
    secrets = ("oidc.client_secret_file", "oidc.cli_client_secret_file")
    for name in ("secret_file", "signing_key_file", "token_file", "ray_token_file", *secrets):
        file: Path | None = settings.value(name)
        if file is not None and file.exists() and file.stat().st_mode & 0o077:
            yield fail("settings", f"{name}: others may read {file}", f"chmod 600 {file}")


def _shown(settings: Settings, field: str) -> str:
    from urllib.parse import urlsplit

    if field.endswith(("token", "secret", "secret_key", "access_key")):
        return "(hidden)"
    value = str(settings.value(field))
    parts = urlsplit(value)
    if "@" not in parts.netloc:
        return value
    return parts._replace(netloc="(hidden)@" + parts.netloc.rpartition("@")[2]).geturl()


def _data(settings: Settings) -> Finding:
    if settings.data_dir is None:
        return ok("data", f"no VAESVC_DATA_DIR; data sets are downloaded to {settings.cache_dir}")
    if not settings.data_dir.is_dir():
        mend = "set VAESVC_DATA_DIR to the folder that holds them, or leave it out to download them"
        return fail("data", f"{settings.data_dir} is no folder", mend)
    return ok("data", f"{settings.data_dir}: {len(list(settings.data_dir.iterdir()))} entries")


# --- servers --------------------------------------------------------------------------------------------------------


def _api(settings: Settings) -> Iterator[Finding]:
    from service import __version__
    from service.client import Client

    if settings.api_url is None:
        yield warn("API", "no address is set", "start the local stack with `vaesvc up`, or set VAESVC_API_URL")
        return
    with Client(settings.api_url, settings.user_token(), retry_seconds=2.0) as client:
        health = client.health()
        if health.version != __version__:
            mend = "install the same version at both ends"
            yield warn("API", f"{settings.api_url}: vaesvc {health.version}, here {__version__}", mend)
        else:
            yield ok("API", f"{settings.api_url}: vaesvc {health.version}")
        yield _skew(client.clock_skew)
        try:
            identity = client.identity()
            yield ok("token", f"accepted as {identity.owner!r}, role {identity.role}")
        except AuthError as error:
            yield fail("token", str(error), "set VAESVC_TOKEN or VAESVC_TOKEN_FILE, or `vaesvc login`")
            return
        cluster = client.cluster()
    seen = None if cluster.seen_at is None else time.time() - cluster.seen_at
    if seen is None or seen > SEEN_SECONDS:
        detail = "has not looked at the cluster yet" if seen is None else f"last looked {output.duration(seen)} ago"
        yield fail("dispatcher", detail, "start it: `vaesvc up`, or `vaesvc dispatch` where the service runs")
    elif not cluster.ray_ok:
        yield fail("dispatcher", f"runs, but Ray at {cluster.ray_address} does not answer it", "look at the Ray head")
    else:
        have = ", ".join(f"{amount:g} {name}" for name, amount in cluster.total.items() if name in ("CPU", "GPU"))
        yield ok("dispatcher", f"sees {len(cluster.nodes)} nodes with {have}; {cluster.running} jobs run")


def _skew(seconds: float | None) -> Finding:
    if seconds is None:
        return warn("clock", "the API's answer carries no date", "a proxy strips it; compare the clocks by hand")
    if abs(seconds) > SKEW_SECONDS:
        return warn("clock", f"differs from the API's by {seconds:+.0f} s", "synchronize both machines (NTP)")
    return ok("clock", "agrees with the API's")


def _database(settings: Settings) -> Iterator[Finding]:
    """Check the database, only where the service itself runs: users of a distant one have none."""
    if not settings.explicit("database_url") and not (settings.home / "vaesvc.db").exists():
        return
    from service.queue.store import Store

    store = Store(settings.database_url, lease_seconds=settings.lease_seconds)
    try:
        store.ping()
        yield ok("database", f"{_shown(settings, 'database_url')} answers")
    finally:
        store.close()


def _mlflow(settings: Settings) -> Iterator[Finding]:
    if settings.mlflow_uri is None:
        yield warn("MLflow", "no address is set", "start the local stack with `vaesvc up`, or set VAESVC_MLFLOW_URI")
        return
    from service import tracking
    from service.tracking import login

    tracking.check(str(login.for_user(settings)))
    yield ok("MLflow", f"{_shown(settings, 'mlflow_uri')} answers")


def _s3(settings: Settings) -> Iterator[Finding]:
    if settings.s3.endpoint_url is None and not settings.explicit("s3.bucket"):
        yield warn("S3", "no bucket is set", "start the local stack with `vaesvc up`, or set VAESVC_S3_BUCKET and keys")
        return
    from service.artifacts import Artifacts

    artifacts = Artifacts(settings.storage(), patience_seconds=2.0)
    artifacts.check()
    yield ok("S3", f"{artifacts.uri()} at {settings.s3.endpoint_url or 'AWS'} opens with these keys")


def _logins(settings: Settings) -> Iterator[Finding]:
    """Ask the provider of logins for its metadata and keys, where one is set."""
    from service.oidc.signing_in import provider_of

    provider = provider_of(settings.oidc, cli=True)
    if provider is None:
        return
    try:
        ways = "codes and browsers" if provider.has_device() else "browsers, no device's codes"
        yield ok("logins", f"{provider.issuer}: {ways}, {len(provider.keys())} keys")
    finally:
        provider.close()


def _ray(settings: Settings) -> Iterator[Finding]:
    """Check Ray over plain HTTP: importing it takes seconds, and its address answers without it."""
    if settings.ray_address is None:
        yield warn("Ray", "no address is set", "start the local stack with `vaesvc up`, or set VAESVC_RAY_ADDRESS")
        return
    import httpx

    token = settings.ray_token()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    address = settings.ray_address.rstrip("/")
    try:
        answer = httpx.get(f"{address}/api/version", headers=headers, timeout=RAY_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        mend = "is the head running, and is this its dashboard's address (http://HOST:8265)?"
        yield fail("Ray", f"{address} does not answer ({error or type(error).__name__})", mend)
        return
    if answer.status_code in (401, 403):
        yield fail("Ray", f"{address} refuses the token (HTTP {answer.status_code})", "set VAESVC_RAY_TOKEN_FILE")
    elif not answer.is_success:
        yield fail("Ray", f"{address} answers HTTP {answer.status_code}", "is it a Ray dashboard's address?")
    elif token is None:
        mend = "start the head with RAY_AUTH_MODE=token: without it, whoever reaches it runs code"
        yield warn("Ray", f"{address}: Ray {_ray_version(answer.json())}, open to everybody", mend)
    else:
        yield _same_ray(address, _ray_version(answer.json()))


def _ray_version(reply: object) -> str:
    return str(reply.get("ray_version", "?")) if isinstance(reply, dict) else "?"


def _same_ray(address: str, there: str) -> Finding:
    from importlib import metadata

    here = metadata.version("ray")
    if there != here:
        return warn("Ray", f"{address}: Ray {there}, here {here}", "install the cluster's version of Ray")
    return ok("Ray", f"{address}: Ray {there}, token accepted")
