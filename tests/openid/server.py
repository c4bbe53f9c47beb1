"""oidc-provider (Node), on a port of its own: installed from its lock once for this machine, ended by `stop`."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from service.stack import ports
from tests.servers import wait_for

HERE = Path(__file__).parent
INSTALL_SECONDS = 240
OLDEST_NODE = 20
PAGE, CLI = "page", "cli"
PAGE_SECRET = "a secret: with/odd%characters"


def modules() -> Path:
    """Return the folder of the installed provider. Raises LookupError saying why there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise LookupError("no Node (node, npm) on this machine: the provider that logins are tested with needs it")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    if int(version.strip().lstrip("v").partition(".")[0]) < OLDEST_NODE:
        raise LookupError(
            f"Node {version.strip()} is too old for the provider that logins are tested with: {OLDEST_NODE}"
        )
    lock = (HERE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vaesvc-tests"
    place = cache / f"openid-{hashlib.sha256(lock).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "openid.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (place / "done").exists():
            place.mkdir(exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, place / name)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                done = subprocess.run(
                    command, cwd=place, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                raise LookupError(f"`npm ci` took longer than {INSTALL_SECONDS} s") from None
            if done.returncode != 0:
                raise LookupError(f"`npm ci` failed: {done.stderr[-500:]}")
            (place / "done").touch()
    return place


def signing_key(name: str) -> dict[str, Any]:
    """Return a new private key as the provider takes it (JWK)."""
    private = RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=2048), as_dict=True)
    return {**private, "kid": name, "use": "sig", "alg": "RS256"}


def free_port() -> int:
    """Return a port that no outgoing connection gets by chance."""
    return ports.choose(["http"], {})["http"]


class OpenidProvider:
    """The provider below `root`. `people`: login -> claims, which `tell` changes."""

    def __init__(self, root: Path, page_url: str, people: dict[str, dict[str, Any]]) -> None:
        self._modules = modules()
        self._root = root
        self._page_url = page_url
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.issuer = f"http://127.0.0.1:{self._port}"
        self.tell(people)

    def tell(self, people: dict[str, dict[str, Any]]) -> None:
        """Let these be the people, with these claims."""
        (self._root / "accounts.json").write_text(json.dumps(people))

    def start(self, *, device: bool = True, key: str = "first") -> None:
        """Start it, with a new key of this name."""
        config = {
            "issuer": self.issuer, "port": self._port, "keys": [signing_key(key)], "device": device,
            "accounts": str(self._root / "accounts.json"),
            "clients": [
                {
                    "client_id": PAGE, "client_secret": PAGE_SECRET,
                    "redirect_uris": [f"{self._page_url}/oidc/callback"],
                },
                {
                    "client_id": CLI, "application_type": "native", "token_endpoint_auth_method": "none",
                    "redirect_uris": ["http://127.0.0.1/callback"],
                    "grant_types": ["authorization_code", *["urn:ietf:params:oauth:grant-type:device_code"] * device],
                },
            ],
        }  # fmt: skip
        path, log = self._root / "provider.json", self._root / "provider.log"
        path.write_text(json.dumps(config))
        command = ["node", str(HERE / "provider.mjs"), str(path), str(self._modules)]
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        wait_for(self._answers, 60, "the provider does not answer")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError((self._root / "provider.log").read_text()[-2000:])
        try:
            address = f"{self.issuer}/.well-known/openid-configuration"
            return httpx.get(address, trust_env=False, timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None
