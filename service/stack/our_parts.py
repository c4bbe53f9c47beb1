"""Parts `api` and `dispatcher`: the service's own two processes. They read their settings as everybody does."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service import __version__
from service.errors import UnavailableError
from service.settings import Settings, config_file
from service.stack.part import LOOPBACK, Launch, Site, Unit, environment, get, python

_MAIN = ("-c", "from service.cli.main import main; main()")
SEEN_SECONDS = 30.0  # the dispatcher looks at the cluster far more often


def _provides(home: Path, ports: Mapping[str, int]) -> dict[str, Any]:
    # whoever started the stack may run what they want on it: it has their rights and no more
    own = {"user_code": "users"}
    return {"api_url": f"http://{LOOPBACK}:{ports['http']}", "token_file": str(home / "token"), **own}


def _launch(site: Site, *arguments: str) -> Launch:
    """Return how the part is launched: started again when any setting, or the version, is another one."""
    config = config_file()
    env = environment(VAESVC_HOME=str(site.home), VAESVC_CONFIG=str(config or ""))
    dumped = site.settings.model_dump(mode="json")
    storage = site.settings.storage()
    known = f"{sorted(dumped.items())}{storage.access_key}{storage.secret_key}"
    same = (*arguments, __version__, hashlib.sha256(known.encode()).hexdigest())
    return Launch(command=python(*_MAIN, *arguments), environment=env, same=same)


def _launch_api(site: Site) -> Launch:
    return _launch(site, "serve", "--host", LOOPBACK, "--port", str(site.ports["http"]))


def _launch_dispatcher(site: Site) -> Launch:
    launch = _launch(site, "dispatch")
    ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(site.settings.ray_token_file)}
    return Launch(
        command=launch.command,
        environment={**launch.environment, **(ray if site.settings.ray_token_file else {})},
        same=launch.same,
    )


def _check_api(settings: Settings) -> None:
    get(settings.api_url or "", "/v1/health", what="the API")


def _check_dispatcher(settings: Settings) -> None:
    _answers_dispatcher(settings, time.time() - SEEN_SECONDS)


def _answers_dispatcher(settings: Settings, since: float) -> None:
    """Check that the dispatcher has looked at the cluster since then, and found it."""
    if settings.api_url is None:
        raise UnavailableError("the API has no address, so nobody can be asked when the dispatcher last worked")
    cluster = get(settings.api_url, "/v1/cluster", what="the API", token=settings.user_token())
    seen = cluster.get("seen_at")
    if seen is None or seen < since:
        when = "never looked at the cluster" if seen is None else f"last looked {time.time() - seen:.0f} s ago"
        raise UnavailableError(f"the dispatcher {when}")
    if not cluster.get("ray_ok"):
        raise UnavailableError(f"the dispatcher runs, but Ray at {cluster.get('ray_address')} does not answer it")


API = Unit(
    name="api",
    fields=("api_url",),
    also=("token_file",),
    ports=("http",),
    provides=_provides,
    address=lambda settings: settings.api_url,
    launch=_launch_api,
    answers=lambda settings, since: _check_api(settings),
    check=_check_api,
    needs=("database",),
    start_seconds=60,
)
DISPATCHER = Unit(
    name="dispatcher",
    fields=("api_url",),
    provides=lambda home, ports: {},
    address=lambda settings: None,
    launch=_launch_dispatcher,
    answers=_answers_dispatcher,
    check=_check_dispatcher,
    needs=("database", "api", "ray"),
    start_seconds=60,
)
