"""200 submits at once, each twice with its key, and two dispatchers on one database: each job runs once.

The API (in two processes), the databases, the dispatchers and their clients are real and processes of their own.
Attempts claim, renew and finish through the API, but train nothing; a Ray job costs seconds of the machine, so the
storm itself runs on processes behind the same port (tests/local_cluster.py), forked from one that has everything
loaded, and a gust of it on Ray.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.queue.jobs import Event, Job, JobState
from service.queue.store import Store
from tests import command, postgres, storm
from tests.forked import Forked, Forker
from tests.local_cluster import agent
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import Stack

STORM = str(Path(storm.__file__).resolve())
AGENT = (sys.executable, STORM, "agent")
FORKER = Forker(
    "tests.storm:main", ("service.client", "service.kinds.train.spec", "service.dispatch.dispatcher", "service.kinds")
)
CLIENTS = 5
OPEN = [state for state in JobState if not state.final]
SECONDS = 400  # a loaded machine is slow


@dataclass(frozen=True, kw_only=True)
class Service:
    """An API of its own over one database."""

    url: str
    token: str
    environment: dict[str, str]
    folder: Path

    @property
    def starts(self) -> Path:
        return self.folder / "starts"

    def started(self) -> list[str]:
        """A name for every start of an attempt's process."""
        return self.starts.read_text().split() if self.starts.exists() else []

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster"

    def store(self) -> Store:
        return Store(self.environment["VAESVC_DATABASE_URL"])


@contextlib.contextmanager
def service(folder: Path, database_url: str, more: dict[str, str]) -> Iterator[Service]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAESVC_", "AWS_"))}
    environment = kept | {
        "VAESVC_HOME": str(folder / "home"),
        "VAESVC_CONFIG": "",
        "VAESVC_DATABASE_URL": database_url,
        "VAESVC_POLL_SECONDS": "0.25",
        "OMP_NUM_THREADS": "1",
        **more,
    }
    # some of the jobs go first, which only an administrator may ask for
    token = command.vaesvc(environment, "token", "add", "ann", "--admin").stdout.strip()
    with (folder / "api.log").open("wb") as log:
        api = command.start(environment, "serve", "--port", "0", "--processes", "2", stderr=log)
    with ended(api):
        assert api.stdout is not None
        url = api.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), (folder / "api.log").read_text()
        environment |= {"VAESVC_API_URL": url, "VAESVC_TOKEN": token}
        yield Service(url=url, token=token, environment=environment, folder=folder)


@contextlib.contextmanager
def ended(*processes: command.Process) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait(20)


def start(at: Service, name: str, *arguments: str) -> Forked:
    with (at.folder / f"{name}.log").open("ab") as log:
        return FORKER.start(["storm", *arguments], at.environment, stdin=subprocess.PIPE, stderr=log)


def ready(process: Forked) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def submitted(at: Service, count: int) -> dict[int, str]:
    """Every job by number. `CLIENTS` processes share a ring of numbers so that each is submitted by two of them."""
    share = count // CLIENTS
    spans = [(first, first + 2 * share) for first in range(0, count, share)]
    clients = [
        start(at, f"client-{first}", "submit", at.url, at.token, str(first), str(last), str(count))
        for first, last in spans
    ]
    with ended(*clients), ThreadPoolExecutor(len(clients)) as threads:
        for client in clients:
            ready(client)
        texts = list(threads.map(lambda client: client.communicate("go\n", timeout=SECONDS)[0], clients))
        assert [client.returncode for client in clients] == [0] * len(clients)
    told = [tuple(line.split()) for text in texts for line in text.splitlines()]
    assert len(told) == 2 * count
    ids = {int(number): job_id for number, job_id in told}
    assert set(told) == {(str(number), job_id) for number, job_id in ids.items()}  # both were told the same
    assert len(set(ids.values())) == count
    return ids


def run_storm(at: Service, count: int, cluster: str, *, kill_one: bool) -> None:
    arguments = ("dispatch", cluster, str(at.starts))
    dispatchers = [start(at, f"dispatcher-{index}", *arguments) for index in range(2)]
    store = at.store()
    with contextlib.closing(store), ended(*dispatchers):
        for dispatcher in dispatchers:
            ready(dispatcher)
        with ThreadPoolExecutor(1) as thread:
            submitting = thread.submit(submitted, at, count)
            if kill_one:
                wait_for(lambda: len(at.started()) > count // 5, SECONDS, "nothing starts")
                dispatchers[0].kill()  # whatever it was doing; what it had begun is the other's to carry on
                dispatchers.append(start(at, "dispatcher-2", *arguments))
            ids = submitting.result()
        with ended(*dispatchers):
            wait_for(lambda: not store.jobs(OPEN, limit=1), SECONDS, "jobs are left")
            time.sleep(1)  # a second start would come now
            assert [dispatcher.poll() for dispatcher in dispatchers[1:]] == [None] * (len(dispatchers) - 1)
        check(at, store, ids)


def check(at: Service, store: Store, ids: dict[int, str]) -> None:
    jobs = store.jobs(limit=1000)
    assert {job.id for job in jobs} == set(ids.values())
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    started = Counter(at.started())
    assert started == Counter(f"{job_id}-1" for job_id in ids.values())  # the file of starts: each once
    histories = {job.id: store.events(job.id) for job in jobs}
    for events in histories.values():
        kinds = [event.kind for event in events if event.kind != "submitted_to_ray"]
        assert kinds == ["submitted", "admitted", "claimed", "finished"]
        assert [event.kind for event in events].count("submitted_to_ray") <= 1
    assert len({job.result["pid"] for job in jobs}) == len(jobs)
    most = _most_cpus(jobs, histories)
    assert 1 < most <= (store.cluster().total["CPU"])


def _most_cpus(jobs: list[Job], histories: dict[str, list[Event]]) -> float:
    """Taken at once, by the database's own clock, from each job's admission to its end."""
    changes = []
    for job in jobs:
        at = {event.kind: event.at for event in histories[job.id]}
        cpus = job.resources.total()["CPU"]
        changes += [(at["admitted"], 1, cpus), (at["finished"], 0, -cpus)]  # an end makes room at its very moment
    taken = most = 0.0
    for _, _, cpus in sorted(changes):
        taken += cpus
        most = max(most, taken)
    return most


def test_200_jobs_on_postgresql(tmp_path: Path) -> None:
    if why := postgres.missing():
        pytest.skip(why)
    with (
        postgres.server() as url,
        service(tmp_path, url, {}) as at,
        agent(at.cluster, (sys.executable, STORM, "agent")),
    ):
        run_storm(at, 200, str(at.cluster), kill_one=True)


def test_20_jobs_on_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    with service(tmp_path, url, {}) as at, agent(at.cluster, AGENT):
        run_storm(at, 20, str(at.cluster), kill_one=True)


def test_a_gust_on_ray(stack: Stack, tmp_path: Path) -> None:
    settings = stack.settings()
    ray = {"VAESVC_RAY_ADDRESS": str(settings.ray_address), "VAESVC_RAY_TOKEN_FILE": str(settings.ray_token_file)}
    with service(tmp_path, f"sqlite:///{tmp_path}/queue.db", ray) as at:
        run_storm(at, CLIENTS, "-", kill_one=False)
