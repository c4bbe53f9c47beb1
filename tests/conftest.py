"""Shared by all tests: isolation from this user's own set-up, the published data sets, and one embedded stack."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as hypothesis_settings

from service.collector import collect_rarely

if TYPE_CHECKING:
    from service.settings import Settings
    from tests import real_jobs

# a busy machine is no failure: properties are about results, not about milliseconds
hypothesis_settings.register_profile("no-deadline", deadline=None)
hypothesis_settings.load_profile("no-deadline")

collect_rarely()  # as every process of vaesvc does

EXIT_SECONDS = 120.0  # from the last test to the end of the process
ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `tests.*` is imported from here, however pytest was started
    sys.path.insert(0, str(ROOT))


def _leave_specs_to_pydantic() -> None:
    """Shapes are checked in mathematics. A part's `specs` name its mathematics in annotations only, which would load
    torch, so that nothing could look the names up when a specification is built."""
    for finder in sys.meta_path:
        instruments = getattr(finder, "should_instrument", None)  # jaxtyping's, from --jaxtyping-packages
        if instruments is not None:
            finder.should_instrument = lambda name, of=instruments: of(name) and not name.endswith(".specs")  # type: ignore[attr-defined]


_leave_specs_to_pydantic()

_KEPT = ("VAESVC_DATA_DIR", "VAESVC_CACHE_DIR")  # where data sets are; everything else of the user's is left out
_FOREIGN = ("VAESVC_", "AWS_", "MLFLOW_", "RAY_ADDRESS", "RAY_AUTH")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the stack are marked so, and come last: what is quick to fail fails first."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker("stack")
    items.sort(key=lambda item: item.get_closest_marker("stack") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport]:
    """What a failed test left on the stack ends with it: a job of a million steps would take all others' cores."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(stack, Stack):
        from tests import real_jobs

        try:
            real_jobs.end_all(stack)
        except Exception as error:  # the test's own failure is what is told
            report.sections.append(("what it left", f"its jobs could not be ended: {error!r}"))
    return report


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """A thread that keeps the process from ending is shown, with all others, and ended: no test's limit holds here."""
    faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=sys.__stderr__)


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No settings, addresses or keys of the user who runs the tests reach them, and no test reaches their stack."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(_FOREIGN) and name not in _KEPT]:
            patch.delenv(name)
        patch.setenv("VAESVC_CONFIG", "")
        patch.setenv("VAESVC_HOME", str(tmp_path_factory.mktemp("no-stack") / "home"))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Published data sets: VAESVC_DATA_DIR, else ../shared/data beside the repository; skips where neither is."""
    named = os.environ.get("VAESVC_DATA_DIR")
    found = Path(named) if named else ROOT.parent / "shared" / "data"
    if not found.is_dir():
        pytest.skip(f"no data sets: {found} is not there; set VAESVC_DATA_DIR to a folder that holds them")
    return found


@pytest.fixture(scope="module")
def shapes_unchecked() -> Iterator[None]:
    """Leave the shapes of tensors unchecked in a module: so many steps of one model spend two fifths of their time with
    the same shapes."""
    import jaxtyping

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The embedded stack that the session started. `environment` is for subprocesses and for `settings.load`."""

    home: Path
    environment: dict[str, str]

    def settings(self) -> Settings:
        from service import settings

        return settings.load(self.environment)

    @property
    def mlflow_uri(self) -> str:
        """MLflow's address with the login of the user who started the stack."""
        from service.tracking import login

        return str(login.for_user(self.settings()))

    def vaesvc(self, *arguments: str, seconds: float = 120, **more: str) -> subprocess.CompletedProcess[str]:
        """The command line against this stack; `more` adds to its environment. Never raises for its exit code."""
        from tests import command

        return command.run(self.environment | more, *arguments, seconds=seconds)


@pytest.fixture(scope="session")
def stack_home() -> Iterator[Path]:
    """A state directory with a short path, on a file system that keeps extended attributes."""
    home = Path(tempfile.mkdtemp(prefix="vst", dir=_folder_with_attributes()))
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(stack_home: Path, _isolated: None) -> Iterator[Stack]:
    """The whole embedded stack, started once; at the end it goes down by itself, and nothing of it may be left."""
    from service import stack as embedded
    from service.errors import VaesvcError

    environment = {**os.environ, "VAESVC_HOME": str(stack_home), "VAESVC_CACHE_DIR": _cache(stack_home)}
    # where priorities differ, and of elastic gangs, which are in their own tests alone
    environment |= {"VAESVC_PREEMPTION": "true", "VAESVC_GROW_SECONDS": "1"}
    if (shared := ROOT.parent / "shared" / "data").is_dir():
        environment.setdefault("VAESVC_DATA_DIR", str(shared))
    running = Stack(home=stack_home, environment=environment)
    lines: list[str] = []
    try:
        with _environment(environment):
            embedded.up(running.settings(), lines.append)
        yield running
    except VaesvcError as error:
        pytest.fail(f"the stack does not start: {error}\n" + "\n".join((*lines, *_logs(stack_home))), pytrace=False)
    finally:
        ended: list[str] = []
        embedded.down(running.settings(), ended.append)
    left = leftovers(stack_home)
    assert not left, f"processes of the stack are left after `down`: {left}"
    assert not [line for line in ended if "killed" in line], ended


@pytest.fixture(scope="session")
def uninterrupted(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> real_jobs.Outcome:
    """Of `vaesvc run` of the spec that is interrupted elsewhere: another process, no cluster, no interruption."""
    from tests import real_jobs

    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    return real_jobs.local_outcome(stack, real_jobs.DIGITS, real_jobs.SLOWLY, folder)


def leftovers(home: Path, parts: Sequence[str] = ("s3", "mlflow", "ray", "api", "dispatcher")) -> dict[str, list[int]]:
    """Processes that a stack's parts left behind, by part."""
    from service.stack import process, state

    found = {part: [p.pid for p in process.members(state.mark(home, part), None)] for part in parts}
    return {part: pids for part, pids in found.items() if pids}


def _cache(home: Path) -> str:
    return os.environ.get("VAESVC_CACHE_DIR") or str(home / "cache")


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """The daemons inherit this process's environment."""
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _logs(home: Path) -> list[str]:
    from service.stack import process

    return [f"--- {log} ---\n{process.tail(log)}" for log in sorted((home / "logs").glob("*.log"))]


def _folder_with_attributes() -> str:
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(dir=folder) as probe:
            os.setxattr(probe.name, b"user.vaesvc", b"1")
            return folder
    pytest.skip("no temporary folder keeps extended attributes, which the embedded S3 server needs")
