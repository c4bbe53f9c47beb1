"""The queue in numbers, on every database, and as Prometheus reads them; and what users have used."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.cli.main import main
from service.figures.metrics import text
from service.kinds.train.spec import resolve
from service.queue.store import Store
from service.queue.used import By
from tests.api_server import running_api, settings_in
from tests.contract.queue_checks import before_measured, cluster, expire_lease, finish, spec, sql

DASHBOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "vaesvc.json"


def read(store: Store) -> dict[tuple[str, ...], float]:
    """Samples by name and values of labels."""
    shown = text(store.figures.now(), store.cluster()).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(shown)
        for sample in family.samples
    }


@pytest.fixture
def busy(store: Store, database: str) -> Store:
    """Four jobs were admitted: one runs, one has succeeded, one failed, one was lost and waits; two more wait."""
    store.observe_cluster(cluster(8), address="ray", ok=True)
    ids = [store.submit(spec(workers=2), owner=owner).id for owner in ("ann", "ann", "bob", "bob")]
    store.admit()
    for job_id in ids:
        store.claim(job_id, 1, "runner")
    store.finish(ids[1], 1, finish())
    store.finish(ids[2], 1, finish("failed", error="CUDA out of memory: ...", retryable=False))
    expire_lease(database, ids[3])
    store.attempt_lost(ids[3], 1, "the node has died", outage=True)
    store.submit(spec(priority=5), owner="ann")
    store.submit(spec(priority=-1), owner="ann")
    return store


def test_prometheus_reads_depth_waits_attempts_failures_silence_and_use(busy: Store, database: str) -> None:
    sql(database, "UPDATE vaesvc_jobs SET created_at = created_at - 100")
    sql(database, "UPDATE vaesvc_attempts SET lease_until = lease_until - 7 WHERE state = 'RUNNING'")
    busy.figures.measure({"plan_seconds": 0.25, "plan_seconds_most": 1.5})
    busy.figures.measure({"plan_seconds": 0.125})
    seen = read(busy)
    states = {name: seen["vaesvc_jobs", name] for name in ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")}
    assert states == {"QUEUED": 3, "RUNNING": 1, "SUCCEEDED": 1, "FAILED": 1, "CANCELLED": 0}
    assert {name: seen["vaesvc_queue_jobs", name] for name in ("high", "normal", "low")} == {
        "high": 1, "normal": 1, "low": 1,
    }  # fmt: skip
    assert 100 <= seen["vaesvc_queue_oldest_wait_seconds", "normal"] < 400
    assert seen["vaesvc_admissions_total",] == 4
    assert (seen["vaesvc_attempts", "LOST"], seen["vaesvc_attempts", "RUNNING"]) == (1, 1)
    assert seen["vaesvc_failures_total", "out_of_memory"] == seen["vaesvc_failures_total", "machine_lost"] == 1
    assert seen["vaesvc_wait_seconds_count",] == 4
    assert seen["vaesvc_wait_seconds_bucket", "60.0"] == 0
    assert seen["vaesvc_wait_seconds_bucket", "+Inf"] == seen["vaesvc_wait_seconds_bucket", "3600.0"] == 4
    assert seen["vaesvc_wait_seconds_sum",] >= 400
    assert 7 <= seen["vaesvc_heartbeat_lag_seconds",] < 300
    assert (seen["vaesvc_cluster_total", "CPU"], seen["vaesvc_cluster_used", "CPU"]) == (8, 2)
    assert (seen["vaesvc_ray_up",], seen["vaesvc_notices_pending",]) == (1, 0)
    assert (seen["vaesvc_plan_seconds",], seen["vaesvc_plan_seconds_most",]) == (0.125, 1.5)


def test_an_empty_queue_has_numbers_too(store: Store) -> None:
    seen = read(store)
    assert (seen["vaesvc_jobs", "QUEUED"], seen["vaesvc_wait_seconds_count",]) == (0, 0)
    assert (seen["vaesvc_heartbeat_lag_seconds",], seen["vaesvc_ray_up",]) == (0, 0)


def test_usage_is_what_gangs_have_held_inside_the_window(busy: Store, database: str) -> None:
    began = 1_000_000.0
    sql(database, f"UPDATE vaesvc_attempts SET created_at = {began}, ended_at = {began + 100}")
    ann, bob = busy.figures.used(since=began - 1)
    assert (ann.name, ann.jobs, ann.attempts, ann.cpu_seconds, ann.gpu_seconds) == ("ann", 2, 2, 400, 0)
    assert (bob.name, bob.jobs, bob.attempts, bob.cpu_seconds) == ("bob", 2, 2, 400)
    (half,) = busy.figures.used(since=began + 50, until=began + 75, owner="bob")
    assert half.cpu_seconds == 100
    assert busy.figures.used(since=began + 100) == []
    sql(database, f"UPDATE vaesvc_attempts SET ended_at = NULL WHERE job_id = '{busy.jobs(owner='bob')[0].id}'")
    (going,) = busy.figures.used(since=began, until=began + 1000, owner="bob")
    assert going.cpu_seconds == 2200  # one has not ended


def test_usage_by_group_and_by_label(store: Store, database: str) -> None:
    store.observe_cluster(cluster(8), address="ray", ok=True)
    store.shares.set_group("vision", 1.0)
    store.shares.add_member("vision", "ann")
    labelled = ({"project": "a"}, {"project": "a", "run": "x=1"}, {})
    for owner, labels in zip(("ann", "bob", "bob"), labelled, strict=True):
        store.submit(spec().model_copy(update={"labels": labels}), owner=owner)
    assert len(store.admit()) == 3
    began = 1_000_000.0
    sql(database, f"UPDATE vaesvc_attempts SET created_at = {began}, ended_at = {began + 100}")

    def used(by: By, owner: str | None = None) -> dict[str, tuple[int, float]]:
        listed = store.figures.used(since=began, owner=owner, by=by)
        return {each.name: (each.jobs, each.cpu_seconds) for each in listed}

    assert used("user") == {"ann": (1, 100.0), "bob": (2, 200.0)}
    assert used("group") == {"vision": (1, 100.0), "": (2, 200.0)}
    assert used("label") == {"project=a": (2, 200.0), "run=x=1": (1, 100.0), "": (1, 100.0)}
    assert used("label", owner="ann") == {"project=a": (1, 100.0)}


def test_a_database_of_before_gets_its_table(store: Store, database: str) -> None:
    before_measured(database)
    store.migrate()
    store.figures.measure({"plan_seconds": 1.0})
    assert store.figures.now().measured == {"plan_seconds": 1.0}


def test_who_has_a_token_scrapes_and_the_command_lists_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_api(settings_in(tmp_path, read="own")) as api, api.client() as ann, api.user("bob") as bob:
        for client in (ann, bob):
            client.submit(resolve("digits/beta-vae-mlp"))
        assert len(api.admit()) == 2
        assert [one.name for one in ann.figures.usage(since=0)] == ["ann"]
        with api.user("op", admin=True) as op:
            assert [one.name for one in op.figures.usage(since=0)] == ["ann", "bob"]
        assert httpx.get(f"{api.url}/metrics").status_code == 401
        answer = httpx.get(f"{api.url}/metrics", headers={"authorization": f"Bearer {api.token}"})
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'vaesvc_jobs{state="STARTING"} 2.0' in answer.text
        assert "ann" not in answer.text
        monkeypatch.setenv("VAESVC_API_URL", api.url)
        monkeypatch.setenv("VAESVC_TOKEN", api.token)
        monkeypatch.setattr(sys, "argv", ["vaesvc", "usage", "--since", "1d", "--csv", "--by", "group"])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code in (None, 0)
        header, row = capsys.readouterr().out.splitlines()
        assert header == "GROUP,JOBS,ATTEMPTS,GPU [h],CPU [h]"
        assert row.startswith("-,1,1,0.00,")


def test_the_dashboard_asks_for_numbers_that_there_are(busy: Store) -> None:
    busy.figures.measure({"plan_seconds": 0.25, "plan_seconds_most": 1.5})
    there = {name for name, *_ in read(busy)}
    asked = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            asked |= set(re.findall(r"vaesvc_[a-z_]+", target["expr"]))
    assert len(asked) > 10
    assert asked <= there
