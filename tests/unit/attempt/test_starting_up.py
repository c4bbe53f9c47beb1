"""What makes the way to the first step short: where its seconds go, processes that wait ready, who may use them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.attempt import preload, timeline
from service.attempt.failures import of_gang
from service.attempt.members import GangFailed
from service.attempt.ray_cluster import needs_environment
from service.attempt.stacks import works_for
from service.code.reference import VARIABLE
from service.errors import UnavailableError
from service.queue.jobs import Resources
from vae_models.collectives import PeerError

NAMES = list(timeline.STAGES)


@given(st.lists(st.floats(0, 100), min_size=len(NAMES), max_size=len(NAMES)), st.sets(st.sampled_from(NAMES)))
def test_the_stages_add_up_to_the_whole(spans: list[float], unknown: set[str]) -> None:
    moments = {name: 1e9 + sum(spans[: i + 1]) for i, name in enumerate(NAMES)}
    known = {name: at for name, at in moments.items() if name not in unknown or name == "first_progress"}
    seconds = timeline.seconds(1e9, known)
    whole = seconds.pop(timeline.TOTAL)
    assert whole == pytest.approx(sum(spans), abs=1e-5)
    assert sum(seconds.values()) == pytest.approx(whole, abs=1e-5)
    assert set(seconds) == {timeline.STAGES[name] for name in known}


def test_an_attempt_without_a_step_has_stages_but_no_whole() -> None:
    assert timeline.seconds(10.0, {"driver_started": 12.5}) == {timeline.STAGES["driver_started"]: 2.5}


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 16)), min_size=1, max_size=5),
    st.integers(1, 32),
    st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    st.integers(0, 8),
    st.integers(0, 8),
)
def test_no_more_processes_wait_than_a_gang_takes_and_a_machine_has_room_for(
    machines: list[tuple[bool, int]], workers: int, cpus: float, room: int, most: int
) -> None:
    nodes = [
        {"NodeID": str(i), "Alive": alive, "Resources": {"CPU": float(cores)}}
        for i, (alive, cores) in enumerate(machines)
    ]
    resources = Resources(workers=workers, cpus_per_worker=cpus)
    shares: list[tuple[Any, int]] = list(preload._shares(resources, nodes, "0", room, most))
    assert sum(count for _, count in shares) <= workers
    for node, count in shares:
        assert node["Alive"]
        assert 0 < count * cpus <= node["Resources"]["CPU"]
        assert count <= (room if node["NodeID"] == "0" else most)


def test_a_process_that_waited_while_a_file_of_its_modules_changed_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    preload.check_current()  # this one was not held ready: it is as new as its files
    files = preload._files()
    assert files[preload.__file__] == Path(preload.__file__).stat().st_mtime_ns
    other = tmp_path / "of_an_installed_package.py"
    other.write_text("")
    monkeypatch.setattr(preload, "_loaded", preload._changed([preload.__file__, str(other)]))
    preload.check_current()
    os.utime(other, ns=(0, 0))
    with pytest.raises(UnavailableError, match=r"while .*package\.py changed: a new one takes its place"):
        preload.check_current()
    other.unlink()
    with pytest.raises(UnavailableError, match="a new one takes its place"):
        preload.check_current()


def test_no_process_waits_where_the_cluster_does_not_load_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_preload_python_modules", raising=False)
    assert preload.refill(Resources()) == 0


COUNT = "from service.attempt import preload; print(preload._idle(), preload._room(0), preload._room(1))"


def test_no_more_wait_than_the_setting_says() -> None:
    """Those of another raylet, which is no ancestor of the process that counts, are not counted."""
    waiting = subprocess.Popen(["ray::IDLE", "120"], executable="/bin/sleep")
    try:
        assert preload._idle() == 0  # a child of this process, not one beside it
        done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=300, check=True)
    finally:
        waiting.kill()
        waiting.wait(10)
    assert done.stdout.split() == ["1", "0", "0"]
    assert preload._room(10**6) < 10**6  # there is memory for fewer


@pytest.mark.parametrize(
    ("folder", "ours"),
    [
        ("/ray/session/artifacts/j-abc-1", True),
        ("/ray/session/artifacts/j-abc-1-grid-3/working_dirs", True),  # of a trial
        ("/ray/session/artifacts/j-abc-11", False),
        ("/ray/session/artifacts/x-j-abc-1", False),
        ("/", False),
    ],
)
def test_a_process_that_waited_is_known_by_its_folder(folder: str, ours: bool) -> None:
    assert works_for("j-abc-1", folder) is ours


LOADED = (
    "import sys, time; start = time.time(); sys.argv = {argv}; from service.attempt import preload; "
    "print('torch' in sys.modules, preload.waited(start), preload.waited(time.time()))"
)


@pytest.mark.parametrize(
    ("argv", "loads"),
    [
        (["/ray/workers/default_worker.py", "--worker-type=WORKER", "--runtime-env-hash=0"], True),
        (["/ray/workers/default_worker.py", "--runtime-env-hash=-1174"], False),  # it has its job already
        (["-m"], False),  # a driver, a runner: they name the module and load nothing ahead
    ],
)
def test_only_a_worker_that_any_job_may_get_loads_ahead(argv: list[str], loads: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(argv=argv)], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.split() == [str(loads), "False", str(loads)]  # what loads meanwhile has not waited


def test_code_of_a_jobs_own_and_gpus_never_come_to_a_process_that_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not needs_environment(Resources(workers=2))
    assert needs_environment(Resources(gpus_per_worker=1))
    monkeypatch.setenv(VARIABLE, "0" * 64)
    assert needs_environment(Resources())


def test_the_cause_is_told_of_a_gang_that_failed() -> None:
    echo, cause = PeerError("worker 0 failed"), ValueError("beta is -1")
    failure = of_gang(GangFailed({0: cause, 1: echo}))
    assert (failure.text, failure.retryable) == ("ValueError: beta is -1", False)
    assert of_gang(GangFailed({0: echo, 1: cause})).text == "ValueError: beta is -1"
