"""Real servers for single tests, to be killed and started again: an S3 server (OpenStack Swift) and MLflow."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from service.stack.ports import choose
from service.wire import StorageSettings

BIN = Path(sys.executable).parent
RINGS = """
import sys
from swift.common.ring import RingBuilder
for name, port in zip(("account", "container", "object"), sys.argv[1:], strict=True):
    ring = RingBuilder(4, 1, 1)
    ring.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": int(port), "device": "d"})
    ring.rebalance()
    ring.get_ring().save(f"{name}.ring.gz")
"""
PIPELINES = {
    "account": "pipeline = account-server\n[app:account-server]\nuse = egg:swift#account\n",
    "container": "pipeline = container-server\n[app:container-server]\nuse = egg:swift#container\n",
    "object": "pipeline = object-server\n[app:object-server]\nuse = egg:swift#object\n",
    "proxy": """pipeline = catch_errors gatekeeper healthcheck listing_formats s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_vaesvc_admin = {secret} .admin
[filter:slo]
use = egg:swift#slo
""",
}


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} after {seconds} s")
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


class Server:
    """Processes that start together and die together."""

    def __init__(self, root: Path, health: str, environment: dict[str, str]) -> None:
        self.root = root
        self.health = health
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.processes: list[subprocess.Popen[bytes]] = []
        root.mkdir(parents=True, exist_ok=True)

    def commands(self) -> dict[str, list[str]]:
        raise NotImplementedError

    def start(self, wait: float = 60) -> None:
        for name, command in self.commands().items():
            with (self.root / f"{name}.log").open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        command, cwd=self.root, env=self.environment, stdout=log, stderr=log, start_new_session=True
                    )
                )
        if wait:
            wait_for(lambda: answers(self.health), wait, f"{self.health} does not answer (logs in {self.root})")

    def kill(self) -> None:
        """kill -9 of every process of it."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self.processes:
            os.killpg(process.pid, signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            os.killpg(process.pid, number)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        self.processes.clear()


class Swift(Server):
    """Objects on disk below `root`, S3's API on loopback, signatures checked."""

    def __init__(self, root: Path) -> None:
        self.ports = choose(PIPELINES, {})
        self.secret = secrets.token_urlsafe(16)
        endpoint = f"http://127.0.0.1:{self.ports['proxy']}"
        super().__init__(root, f"{endpoint}/healthcheck", {})
        self.settings = StorageSettings(
            bucket="vaesvc",
            prefix="tests",
            endpoint_url=endpoint,
            access_key="vaesvc:admin",
            secret_key=self.secret,
        )
        (root / "devices/d").mkdir(parents=True)
        salt = "".join(f"swift_hash_path_{end} = {secrets.token_hex(8)}\n" for end in ("prefix", "suffix"))
        (root / "swift.conf").write_text(f"[swift-hash]\n{salt}[storage-policy:0]\nname = default\ndefault = yes\n")
        for name, pipeline in PIPELINES.items():
            (root / f"{name}.conf").write_text(
                f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {self.ports[name]}\nswift_dir = {root}\n"
                f"devices = {root}/devices\nmount_check = false\nrecon_cache_path = {root}\nworkers = 0\n"
                f"user = {os.environ.get('USER', 'root')}\nfallocate_reserve = 0\n[pipeline:main]\n"
                + pipeline.replace("{secret}", self.secret)
            )
        ports = [str(self.ports[name]) for name in ("account", "container", "object")]
        subprocess.run([sys.executable, "-c", RINGS, *ports], cwd=root, check=True, timeout=60)
        self.environment["SWIFT_DIR"] = str(root)

    def commands(self) -> dict[str, list[str]]:
        return {name: [f"{BIN}/swift-{name}-server", f"{self.root}/{name}.conf"] for name in PIPELINES}


class Mlflow(Server):
    """SQLite below `root`; artifacts go through it to the bucket of `storage`."""

    def __init__(self, root: Path, storage: StorageSettings) -> None:
        self.port = choose(["mlflow"], {})["mlflow"]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.storage = storage
        environment = {
            "AWS_ACCESS_KEY_ID": storage.access_key or "",
            "AWS_SECRET_ACCESS_KEY": storage.secret_key or "",
            "AWS_DEFAULT_REGION": storage.region,
            "MLFLOW_S3_ENDPOINT_URL": storage.endpoint_url or "",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        super().__init__(root, f"{self.uri}/health", environment)

    def commands(self) -> dict[str, list[str]]:
        store = ["--backend-store-uri", f"sqlite:///{self.root}/mlflow.db"]
        artifacts = ["--artifacts-destination", f"s3://{self.storage.bucket}/mlflow", "--serve-artifacts"]
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return {"mlflow": [sys.executable, "-m", "mlflow", "server", *store, *artifacts, *where]}
