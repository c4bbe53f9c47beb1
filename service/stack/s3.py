"""Part `s3`: the embedded S3 server (OpenStack Swift) and its bucket."""

from __future__ import annotations

import importlib.util
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.errors import StorageError, UsageError
from service.settings import Settings
from service.stack import state, swift_config
from service.stack.part import LOOPBACK, Launch, Site, Unit, environment, get, python

BUCKET = "vaesvc"


def _provides(home: Path, ports: Mapping[str, int]) -> dict[str, Any]:
    return {
        "s3.bucket": BUCKET,
        "s3.endpoint_url": f"http://{LOOPBACK}:{ports['proxy']}",
        "s3.region": swift_config.REGION,
        "s3.access_key": swift_config.ACCESS_KEY,
        "s3.secret_key": state.secret(home / "s3-secret"),
    }


def _launch(site: Site) -> Launch:
    if importlib.util.find_spec("swift") is None:
        raise UsageError(
            "the embedded S3 server is not installed: pip install 'vaesvc[local]', or name a bucket of yours with "
            "VAESVC_S3_BUCKET (and VAESVC_S3_ENDPOINT_URL unless it is on AWS)"
        )
    root = site.home / "s3"
    root.mkdir(exist_ok=True, mode=0o700)
    _need_attributes(root)
    user = pwd.getpwuid(os.getuid()).pw_name
    layout = swift_config.Layout(root=root, port=site.ports["proxy"], system_user=user)
    swift_config.write(layout, state.secret(site.home / "s3-secret"))
    command = python("-m", "service.stack.swift_server", str(layout.configs), str(layout.sockets))
    return Launch(command=command, environment=environment(), same=(*command, str(sorted(site.ports.items()))))


def _need_attributes(root: Path) -> None:
    """Check for extended attributes, in which Swift keeps the name and checksum of an object's file."""
    probe = root / ".attributes"
    probe.touch()
    try:
        os.setxattr(probe, b"user.vaesvc", b"1")
    except OSError as error:
        raise StorageError(
            f"the file system of {root} keeps no extended attributes ({error.strerror}): set VAESVC_HOME to a folder "
            "on ext4, xfs or btrfs"
        ) from error
    finally:
        probe.unlink()


def _check(settings: Settings) -> None:
    from service.artifacts import Artifacts

    Artifacts(settings.storage(), patience_seconds=0).check()


def _answers(settings: Settings, since: float) -> None:
    """Check that the server answers, whether or not the bucket exists yet."""
    get(settings.s3.endpoint_url or "", "/healthcheck", what="the S3 server")


def _ready(settings: Settings) -> None:
    from service.artifacts import Artifacts

    Artifacts(settings.storage(), patience_seconds=10).ensure_bucket()


def _address(settings: Settings) -> str | None:
    return settings.s3.endpoint_url or f"s3://{settings.s3.bucket}"


S3 = Unit(
    name="s3",
    fields=("s3.bucket", "s3.endpoint_url"),
    also=("s3.region",),
    ports=("proxy",),
    provides=_provides,
    address=_address,
    launch=_launch,
    answers=_answers,
    check=_check,
    ready=_ready,
    start_seconds=60,
)
