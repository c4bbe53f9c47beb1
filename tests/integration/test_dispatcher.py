"""The dispatcher as a process: when Ray does not answer, and when it is told to end."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import auth
from service.kinds.train import spec
from service.queue.jobs import Capacity, JobState
from service.queue.store import Store
from service.settings import Settings
from tests.command import start
from tests.servers import wait_for


class Dispatching:
    def __init__(self, home: Path, ray_address: str) -> None:
        self.log = home / f"log-{time.time_ns()}"
        environment = os.environ | {
            "VAESVC_HOME": str(home),
            "VAESVC_RAY_ADDRESS": ray_address,
            "VAESVC_API_URL": "http://127.0.0.1:9",
            "VAESVC_POLL_SECONDS": "0.1",
        }
        with self.log.open("wb") as log:
            self.process = start(environment, "dispatch", stdout=log, stderr=log)

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()

    def end(self) -> float:
        """Seconds from SIGTERM to the end, which has to be one without complaint."""
        asked = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0
        return time.monotonic() - asked


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    settings = Settings(home=tmp_path)
    auth.read_secret(settings.secret_file)
    store = Store(settings.database_url, lease_seconds=1.0)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def started() -> Iterator[list[Dispatching]]:
    found: list[Dispatching] = []
    yield found
    for one in found:
        one.process.kill()
        one.process.wait(10)


def admitted(store: Store, runner: str | None) -> str:
    """A job with an attempt, claimed by `runner` if there is one."""
    job = store.submit(spec.resolve("digits/beta-vae-mlp"), owner="ann")
    store.observe_cluster(Capacity(nodes=({"CPU": 8.0},)), address="http://ray", ok=True)
    (attempt,) = store.admit()
    if runner is not None:
        store.claim(job.id, attempt.number, runner)
    return job.id


def test_a_ray_that_refuses_is_said_once_and_leases_end_all_the_same(
    tmp_path: Path, store: Store, started: list[Dispatching]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    running, waiting, cancelled = admitted(store, "r1"), admitted(store, None), admitted(store, None)
    store.cancel(cancelled, by="ann")
    started.append(one := Dispatching(tmp_path, closed))
    wait_for(lambda: store.job(running).state is JobState.QUEUED, 30, "the lease's end is not seen")
    wait_for(lambda: store.job(cancelled).state is JobState.CANCELLED, 10, "the cancel is not carried out")
    time.sleep(3)
    assert store.job(waiting).state is JobState.STARTING  # it has neither been started nor given up
    assert not store.cluster().ray_ok
    warnings = [line for line in one.said() if "vaesvc.dispatcher: Ray:" in line]
    assert len(warnings) == 1, one.said()
    assert closed in warnings[0]
    assert one.end() < 6.0
    assert not [line for line in one.said() if "Traceback" in line]


def test_it_ends_soon_in_the_middle_of_a_call(
    tmp_path: Path, store: Store, started: list[Dispatching], silent_server: str
) -> None:
    started.append(one := Dispatching(tmp_path, silent_server))
    wait_for(lambda: any("dispatching to Ray" in line for line in one.said()), 30, "it does not start")
    time.sleep(2.0)  # by now it waits for an answer
    assert one.end() < 6.0  # the call itself would wait for ten


def test_it_says_which_address_it_lacks(tmp_path: Path, store: Store, started: list[Dispatching]) -> None:
    started.append(one := Dispatching(tmp_path, ""))
    assert one.process.wait(30) != 0
    assert "VAESVC_RAY_ADDRESS" in one.said()[-1]
