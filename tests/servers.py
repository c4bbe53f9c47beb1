"""Single parts of the embedded stack for single tests, to be killed, frozen and started again: S3 server and MLflow."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from service import auth
from service.errors import VaesvcError
from service.settings import S3Settings, Settings
from service.stack import ports
from service.stack.mlflow_server import MLFLOW
from service.stack.part import Site, Unit
from service.stack.process import tail
from service.stack.s3 import S3
from service.tracking import login
from service.wire import StorageSettings

PATIENCE_SECONDS = 60.0  # a busy machine may keep what takes a moment for as long


def wait_for(condition: Callable[[], bool], seconds: float, what: str, *, every: float = 0.05) -> None:
    """Wait until the condition holds. Raise TimeoutError where it does not after `seconds`, but at least a minute.

    It is against waiting for ever. A test that something is quick asserts so by the times that were written down.
    """
    limit = max(seconds, PATIENCE_SECONDS)
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} after {limit} s")
        time.sleep(every)


class Server:
    """One part below `root`, on ports of its own. It is a child of the tests and ends with `stop`."""

    def __init__(self, unit: Unit, root: Path, settings: Settings) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.log = root / f"{unit.name}.log"
        self.unit = unit
        chosen = ports.choose(unit.ports, {})
        self.settings = _with(settings, unit, root, chosen)
        self._site = Site(home=root, settings=self.settings, ports=chosen)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        launch = self.unit.launch(self._site)
        environment = {**launch.environment, "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                launch.command, cwd=self.log.parent, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._answers, 120, f"{self.unit.name} does not answer: {tail(self.log)}")
        if self.unit.ready is not None:
            self.unit.ready(self.settings)

    def kill(self) -> None:
        """kill -9 of every process of it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def processor_seconds(self) -> float:
        """Of all its processes so far."""
        assert self._process is not None
        leader = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (leader, *leader.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def _answers(self) -> bool:
        try:
            self.unit.answers(self.settings, 0.0)
        except VaesvcError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:  # its children may have sessions of their own
            leader = psutil.Process(self._process.pid)
            for process in (leader, *leader.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        if self._process is not None:
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait(15)
        self._process = None


class Swift(Server):
    """The S3 server: objects on disk, signatures checked, the bucket made."""

    def __init__(self, root: Path) -> None:
        super().__init__(S3, root, Settings(home=root))

    @property
    def storage(self) -> StorageSettings:
        return self.settings.storage()


class Mlflow(Server):
    """Runs and models in SQLite; artifacts go through it to the bucket of `swift`."""

    def __init__(self, root: Path, swift: Swift) -> None:
        own = Settings(home=root)
        update = {name: getattr(own, name) for name in ("home", "database_url", "secret_file")}
        super().__init__(MLFLOW, root, swift.settings.model_copy(update=update))

    @property
    def secret(self) -> bytes:
        return auth.read_secret(self.settings.secret_file)

    @property
    def uri(self) -> str:
        """With the service's own login."""
        return str(login.for_service(self.settings, self.secret))


def _with(settings: Settings, unit: Unit, root: Path, chosen: dict[str, int]) -> Settings:
    """The settings as they are once the part runs."""
    given = unit.provides(root, chosen)
    s3 = {name.removeprefix("s3."): value for name, value in given.items() if name.startswith("s3.")}
    rest = {name: value for name, value in given.items() if not name.startswith("s3.")}
    return settings.model_copy(update={**rest, "s3": S3Settings(**s3, prefix="tests") if s3 else settings.s3})
