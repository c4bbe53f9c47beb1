"""The small parts around an attempt: what fits, what is best, who is away, what is logged."""

from __future__ import annotations

import io
import itertools
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.attempt.assignment import AttemptAccess, Outcome, read_outcome, write_outcome
from service.attempt.logs import LogShipper
from service.attempt.processes import scratch
from service.attempt.ray_cluster import avoidable, away_from, backend, scaling
from service.dispatch.ray_jobs import RayCluster, _schedulable
from service.errors import UnavailableError
from service.kinds.train import spec
from service.kinds.train.result import best_checkpoint
from service.queue.jobs import Capacity, Checkpoint, Resources
from service.queue.scheduling import fits
from service.retry import Patience

# --- room -----------------------------------------------------------------------------------------------------------


def brute_force(resources: Resources, nodes: list[dict[str, float]]) -> bool:
    """Every way to put the workers on the nodes."""
    bundle = resources.bundle()
    for places in itertools.product(range(len(nodes)), repeat=resources.workers):
        if all(
            places.count(node) * amount <= nodes[node].get(name, 0.0) + 1e-6
            for node in range(len(nodes))
            for name, amount in bundle.items()
        ):
            return True
    return False


@given(
    workers=st.integers(1, 4),
    cpus=st.sampled_from([0.5, 1.0, 1.5, 2.0]),
    gpus=st.sampled_from([0.0, 0.5, 1.0]),
    nodes=st.lists(
        st.fixed_dictionaries({"CPU": st.sampled_from([0.0, 1.0, 2.0, 4.0]), "GPU": st.sampled_from([0.0, 1.0, 2.0])}),
        min_size=1,
        max_size=3,
    ),
)
def test_fits_agrees_with_every_placement(
    workers: int, cpus: float, gpus: float, nodes: list[dict[str, float]]
) -> None:
    resources = Resources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)
    assert fits(resources, Capacity(nodes=tuple(nodes))) == brute_force(resources, nodes)


@pytest.mark.parametrize(("gpus", "name"), [(0.0, "gloo"), (0.5, "gloo"), (1.0, "nccl"), (2.0, "nccl")])
def test_workers_that_share_a_gpu_do_not_use_nccl(gpus: float, name: str) -> None:
    assert backend(Resources(gpus_per_worker=gpus)) == name


@pytest.mark.parametrize(
    ("workers", "hung", "kept_away"),
    [(2, "a", "a"), (2, "ab", "ab"), (2, "abc", ""), (4, "a", "a"), (5, "a", ""), (6, "d", "d"), (2, "", "")],
    ids=["others", "one is left", "a dead one is left", "both of them", "too few", "gone anyway", "nothing hung"],
)
def test_a_gang_keeps_away_from_where_it_hung_if_the_other_living_nodes_could_hold_it(
    workers: int, hung: str, kept_away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"NodeID": name, "Alive": name != "d", "Resources": {"CPU": 2.0}} for name in "abcd"]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert avoidable(Resources(workers=workers), tuple(hung)) == tuple(kept_away)


def test_where_others_are_drained_a_gang_goes_back_to_where_it_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"NodeID": name, "Alive": True, "Resources": {"CPU": 2.0}} for name in "abc"]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert avoidable(Resources(workers=2), ("a",), ("b",)) == ("a",)
    assert avoidable(Resources(workers=2), ("a",), ("b", "c")) == ()


def test_ray_takes_what_it_is_told_to_keep_away_from() -> None:
    """Its own check of a label selector, of a placement group and of a group of Ray Train's."""
    from ray._private.label_utils import validate_label_selector

    ids = (
        "8f22505c428b1b2cc169f7e30c5ba656a4995793e93aa624f58fef6f",
        "ce2dcc87f49aae2b30268926e88bf3087aeeeefec0deb4b2",
    )
    assert away_from(ids) == {"ray.io/node-id": f"!in({ids[0]},{ids[1]})"}
    assert validate_label_selector(away_from(ids)) is None
    assert validate_label_selector({"ray.io/node-id": "!in(a,"}) is not None  # it does look
    gang = Resources(workers=2, gpus_per_worker=1.0)
    assert scaling(gang, ids).label_selector == away_from(ids)
    assert scaling(gang).label_selector is None


def test_names_of_single_nodes_are_no_resources() -> None:
    total = {"CPU": 4, "memory": 8e9, "object_store_memory": 1e9, "node:10.0.0.1": 1, "node:__internal_head__": 1}
    assert _schedulable(total) == {"CPU": 4.0, "memory": 8e9}


def test_a_cluster_that_is_not_there_is_unavailable_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's client prefers RAY_ADDRESS to the address it is given; ours does not."""
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:7"):
        RayCluster("http://127.0.0.1:7", "token").jobs()
    assert time.monotonic() - began < 30
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:9"


# --- the best checkpoint --------------------------------------------------------------------------------------------


def checkpoint(step: int, elbo: float | None, number: int = 1) -> Checkpoint:
    metrics = {} if elbo is None else {"val/elbo": elbo, "val/rate": elbo}
    return Checkpoint(attempt=number, step=step, uri=f"s3://b/{step}/", manifest_sha256="0", bytes=1, metrics=metrics)


def test_fault_07_the_best_by_the_specs_metric() -> None:
    found = [checkpoint(40, None), checkpoint(30, -3.0), checkpoint(20, -1.0), checkpoint(10, -2.0)]
    highest = spec.resolve("digits/beta-vae-mlp")
    lowest = spec.resolve("digits/beta-vae-mlp", ["checkpoint.metric=val/rate"])
    assert best_checkpoint(found, highest) == found[2]
    assert best_checkpoint(found, lowest) == found[1]
    assert best_checkpoint([checkpoint(5, -1.0), checkpoint(6, -1.0)], highest) == checkpoint(6, -1.0)
    assert best_checkpoint([checkpoint(9, None, 1), checkpoint(4, None, 2)], highest) == checkpoint(4, None, 2)
    assert best_checkpoint([], highest) is None


# --- patience -------------------------------------------------------------------------------------------------------


def test_away_is_said_once_and_asked_less_and_less_often(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    patience = Patience("Ray", logging.getLogger("test"), clock=lambda: now)
    caplog.set_level(logging.INFO, "test")
    asked = []
    for tenth in range(1200):
        now = tenth / 10
        if patience.due:
            asked.append(now)
            with patience.attempt():
                raise UnavailableError("no answer")
            assert not patience.ok
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert gaps[:4] == pytest.approx([1, 2, 4, 8], abs=0.11)
    assert max(gaps) == pytest.approx(15, abs=0.11)
    now = 200.0
    with patience.attempt():
        pass
    assert patience.ok
    assert patience.due
    assert [record.getMessage() for record in caplog.records] == ["Ray: no answer (trying on)", "Ray answers again"]


def test_a_bug_is_not_taken_for_an_absence() -> None:
    patience = Patience("Ray", logging.getLogger("test"))
    with pytest.raises(ZeroDivisionError), patience.attempt():
        _ = 1 // 0


# --- logs, files, secrets -------------------------------------------------------------------------------------------


def test_a_log_is_shipped_whole_after_uploads_that_failed(tmp_path: Path) -> None:
    kept: list[bytes] = []
    fails = iter([True, True, False, False, False, False])

    def upload(data: bytes) -> None:
        if next(fails):
            raise UnavailableError("away")
        kept.append(data)

    echo = io.BytesIO()
    shipper = LogShipper(tmp_path / "log", upload, echo=echo, ship_seconds=0.0)
    shipper.note("one")
    shipper.start()
    deadline = time.monotonic() + 20
    while not kept and time.monotonic() < deadline:
        time.sleep(0.05)
    with (tmp_path / "log").open("a") as file:
        file.write("two\nthree")
    assert shipper.close(10)
    assert kept[-1] == b"[vaesvc] one\ntwo\nthree"
    assert echo.getvalue() == kept[-1]
    assert shipper.tail(2) == "two\nthree"


def test_a_log_that_storage_refuses_is_not_called_kept(tmp_path: Path) -> None:
    def upload(_: bytes) -> None:
        raise UnavailableError("away")

    shipper = LogShipper(tmp_path / "log", upload)
    shipper.note("one")
    shipper.start()
    assert not shipper.close(10)


def test_scratch_of_the_dead_is_swept_and_of_the_living_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = "from service.attempt.processes import scratch; import os; print(scratch('x'), flush=True); os._exit(0)"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    dead = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(dead.stdout.strip()).is_dir()
    mine = scratch("a")
    again = scratch("b")
    assert not Path(dead.stdout.strip()).exists()
    assert mine.is_dir()
    assert again.is_dir()


def test_an_outcome_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    assert read_outcome(path) is None
    path.write_text('{"outcome": "succ')
    assert read_outcome(path) is None
    outcome = Outcome(outcome="failed", error="loss is nan", retryable=False, result={"steps": 3})
    write_outcome(outcome, path)
    assert read_outcome(path) == outcome


def test_a_token_is_handed_on_and_never_shown() -> None:
    access = AttemptAccess(api_url="http://h", job_id="j", number=2, token="s3cret")  # type: ignore[arg-type]
    assert "s3cret" not in f"{access!r} {access}"
    assert AttemptAccess.model_validate_json(access.model_dump_json()) == access
    assert "s3cret" in access.environment().values()


def test_the_driver_of_a_study_waits_for_no_torch() -> None:
    modules = "service.kinds.study.ray_study, tuning.curves"
    code = f"import sys, {modules}; print('torch' in sys.modules, 'mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]
