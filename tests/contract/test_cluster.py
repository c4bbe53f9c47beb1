"""What the dispatcher relies on in a cluster: the same of Ray's Jobs API and of the stand-in that storms run on."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.dispatch.ray_jobs import RayCluster, RayJob, RayState, capacity
from tests.local_cluster import LocalCluster, agent
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import Stack

Cluster = RayCluster | LocalCluster
SECONDS = 180
WAIT = "import time; print('begun', flush=True); time.sleep(600)"


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Cluster]:
    with agent(tmp_path):
        yield LocalCluster(tmp_path)


@pytest.fixture
def ray(stack: Stack) -> Cluster:
    settings = stack.settings()
    assert settings.ray_address is not None
    return RayCluster(settings.ray_address, settings.ray_token())


def python(code: str) -> str:
    return f"{sys.executable} -c {shlex.quote(code)}"


def check_all(cluster: Cluster, folder: Path) -> None:
    """One after the other on one cluster: jobs of Ray take seconds each, so they run at the same time."""
    name = f"contract-{time.time_ns()}"
    good, bad, long = f"{name}-1", f"{name}-2", f"{name}-3"
    starts = folder / "starts"
    line = f"import os; open({str(starts)!r}, 'a').write(os.environ['WHO'] + '\\n'); print('said', flush=True)"

    def job(submission_id: str) -> RayJob:
        return cluster.jobs()[submission_id]

    assert capacity(cluster.nodes()).total()["CPU"] >= 2
    assert [node.head for node in cluster.nodes()].count(True) == 1
    assert good not in cluster.jobs()
    for who in ("first", "second"):  # the second time changes nothing
        cluster.submit(good, python(line), env={"WHO": who}, metadata={"who": who})
    cluster.submit(bad, python("raise SystemExit('no luck')"), env={}, metadata={})
    cluster.submit(long, python(WAIT), env={}, metadata={})
    assert not job(long).state.over

    wait_for(lambda: job(good).state.over and job(bad).state.over, SECONDS, "they do not end")
    assert (job(good).state, job(good).exit_code) == (RayState.SUCCEEDED, 0)
    assert (job(bad).state, job(bad).exit_code) == (RayState.FAILED, 1)
    assert dict(job(good).metadata) == {"who": "first"}
    assert "no luck" in job(bad).message
    assert "said" in cluster.log(good)
    cluster.submit(good, python(line), env={"WHO": "third"}, metadata={})  # nor does it when it is over
    cluster.stop(good)
    time.sleep(1)
    assert job(good).state.over
    assert starts.read_text() == "first\n"

    wait_for(lambda: "begun" in cluster.log(long), SECONDS, "it does not begin")
    assert job(long).state is RayState.RUNNING
    cluster.stop(long)
    wait_for(lambda: job(long).state.over, SECONDS, "it is not stopped")
    assert job(long).state is RayState.STOPPED

    for submission_id in (good, bad, long, "nosuch"):
        cluster.delete(submission_id)
    cluster.stop("nosuch")
    assert cluster.log("nosuch") == ""
    assert not {good, bad, long} & cluster.jobs().keys()


def test_the_local_stand_in(local: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_all(local, tmp_path_factory.mktemp("starts"))


def test_ray(ray: Cluster, tmp_path: Path) -> None:
    check_all(ray, tmp_path)
