"""Part `mlflow`: the tracking server and model registry, SQLite behind it, artifacts passed on to the bucket.

Behind the service's login: `service.tracking.gate`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from service import __version__
from service.errors import UsageError
from service.settings import Settings, config_file
from service.stack.part import LOOPBACK, Launch, Site, Unit, environment, get, python
from service.tracking.gate import SAFE

APP = "vaesvc"


def _provides(home: Path, ports: Mapping[str, int]) -> dict[str, Any]:
    return {"mlflow_uri": f"http://{LOOPBACK}:{ports['http']}", "mlflow_login": "vaesvc"}


def _launch(site: Site) -> Launch:
    _need_gate()
    folder = site.home / "mlflow"
    folder.mkdir(exist_ok=True, mode=0o700)
    s3 = site.settings.s3
    destination = "/".join(filter(None, (f"s3://{s3.bucket}", s3.prefix.strip("/"), "mlflow")))
    command = python(
        *(
            "-m",
            "mlflow",
            "server",
            "--app-name",
            APP,
            "--host",
            LOOPBACK,
            "--port",
            str(site.ports["http"]),
            "--workers",
            "1",
        ),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", destination),
    )
    storage = _storage(site.settings)
    known = environment(VAESVC_HOME=str(site.home), VAESVC_CONFIG=str(config_file() or ""))
    env = {name: value for name, value in known.items() if not name.startswith("MLFLOW_")}
    if storage.get("AWS_ACCESS_KEY_ID"):  # a whole set of keys: nothing of another one may be mixed in
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
            env.pop(name, None)
    oidc = site.settings.oidc
    if oidc.issuer is not None and oidc.page_url is None:  # browsers find it where it is started
        env["VAESVC_OIDC_PAGE_URL"] = f"http://{LOOPBACK}:{site.ports['http']}"
    same = (
        *command,
        __version__,
        *([oidc.model_dump_json()] if oidc.issuer else []),
        site.settings.read,
        site.settings.database_url,
        str(site.settings.secret_file),
    )
    same = (*same, *(f"{name}={value}" for name, value in sorted(storage.items())))
    return Launch(command=command, environment=env | SAFE | storage, same=same)


def _need_gate() -> None:
    """Check that MLflow can find the gate: by an entry point of the installed package."""
    if any(point.name == APP for point in entry_points(group="mlflow.app")):
        return
    raise UsageError(
        "this environment was made before MLflow had a login: install this package again (`make env`, or "
        f"{sys.executable} -m pip install --no-deps --editable {Path(__file__).parents[2]})"
    )


def _storage(settings: Settings) -> dict[str, str]:
    storage = settings.storage()
    variables = {"AWS_DEFAULT_REGION": storage.region, "AWS_REGION": storage.region}
    if storage.endpoint_url:
        variables |= {"MLFLOW_S3_ENDPOINT_URL": storage.endpoint_url, "AWS_ENDPOINT_URL": storage.endpoint_url}
        variables["AWS_ENDPOINT_URL_S3"] = storage.endpoint_url
    if storage.access_key and storage.secret_key:
        variables |= {"AWS_ACCESS_KEY_ID": storage.access_key, "AWS_SECRET_ACCESS_KEY": storage.secret_key}
    return variables


def _check(settings: Settings) -> None:
    address = settings.mlflow_uri or ""
    if os.path.isabs(address) or address.startswith(("sqlite:", "file:")):
        raise UsageError(f"mlflow_uri {address} is no server: workers on other machines could not reach it")
    get(address, "/health", what="MLflow")


MLFLOW = Unit(
    name="mlflow",
    fields=("mlflow_uri",),
    also=("mlflow_login",),
    ports=("http",),
    provides=_provides,
    address=lambda settings: settings.mlflow_uri,
    launch=_launch,
    answers=lambda settings, since: _check(settings),
    check=_check,
    hint=lambda settings: f"sign in with any name; the password is the token in {settings.token_file}",
    start_seconds=120,
)
