"""What the store's tests share: specs, a way to turn the clock, and what must hold of a database at any time."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from service.kinds.train.spec import TrainSpec
from service.queue.database import VERSION_TABLE
from service.queue.jobs import TRANSITIONS, AttemptState, Capacity, Checkpoint, Job, JobState, Resources
from service.queue.store import Store
from service.specs.job import RetryPolicy
from service.wire import FinishRequest
from vae_models.config.run import CheckpointConfig
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig

RUNNER = "runner"


def spec(
    name: str = "job", *, priority: int = 0, keep_best: int = 1, backoff: float = 0.0, **resources: Any
) -> TrainSpec:
    return TrainSpec(
        name=name,
        register_as="model",
        priority=priority,
        resources=Resources(**resources),
        retry=RetryPolicy(max_attempts=3, backoff_seconds=backoff),
        train=TrainConfig(data=DataConfig(name="digits"), steps=10, checkpoint=CheckpointConfig(keep_best=keep_best)),
    )


def cluster(*cpus: float) -> Capacity:
    return Capacity(nodes=tuple({"CPU": amount} for amount in cpus))


def checkpoint(number: int, step: int, value: float | None = None) -> Checkpoint:
    return Checkpoint(
        attempt=number,
        step=step,
        uri=f"s3://bucket/checkpoints/{number}-{step}/",
        manifest_sha256=f"{number:032x}{step:032x}",
        bytes=10,
        metrics={} if value is None else {"val/elbo": value},
    )


def finish(outcome: str = "succeeded", *, runner: str = "runner", **values: Any) -> FinishRequest:
    return FinishRequest.model_validate({"runner_id": runner, "outcome": outcome, **values})


def started(store: Store, job: Job | None = None, *, claim: bool = True) -> Job:
    """A job with an attempt, on a cluster with room."""
    store.observe_cluster(cluster(8, 8), address="ray", ok=True)
    job = job or store.submit(spec(), owner="me")
    (attempt,) = [a for a in store.admit() if a.job_id == job.id]
    if claim:
        store.claim(job.id, attempt.number, RUNNER)
    return store.job(job.id)


def kinds(store: Store, job: Job) -> list[str]:
    return [event.kind for event in store.events(job.id)]


def sql(url: str, statement: str, **values: Any) -> list[Any]:
    """One statement past the store, in a transaction of its own: to turn clocks and to look."""
    with _engine(url).begin() as connection:
        result = connection.execute(sa.text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []


@cache
def _engine(url: str) -> sa.Engine:
    return sa.create_engine(url)


def expire_lease(url: str, job_id: str) -> None:
    sql(url, "UPDATE vaesvc_attempts SET lease_until = 0 WHERE job_id = :id AND lease_until IS NOT NULL", id=job_id)


def end_backoff(url: str, job_id: str) -> None:
    sql(url, "UPDATE vaesvc_jobs SET not_before = 0 WHERE id = :id", id=job_id)


def before_nodes(url: str) -> None:
    """Take the database back to the version before nodes and operators' drains."""
    for name in ("nodes", "drains"):
        sql(url, f"DROP TABLE vaesvc_{name}")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0018'")


def before_hung_on(url: str) -> None:
    """Take the database back to the version before the nodes of attempts that hung."""
    before_nodes(url)
    sql(url, "ALTER TABLE vaesvc_attempts DROP COLUMN hung_on")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0017'")


def before_storage_quotas(url: str) -> None:
    """Take the database back to the version before quotas of storage."""
    before_hung_on(url)
    sql(url, "DROP INDEX vaesvc_data_sets_owner")
    sql(url, "ALTER TABLE vaesvc_quotas DROP COLUMN storage_bytes")
    sql(url, "ALTER TABLE vaesvc_model_versions DROP COLUMN bytes")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0016'")


def before_giving_way(url: str) -> None:
    """Take the database back to the version before attempts that give way."""
    before_storage_quotas(url)
    sql(url, "ALTER TABLE vaesvc_jobs DROP COLUMN preemptible")
    for name in ("stop_until", "gives_way", "gives_way_to"):
        sql(url, f"ALTER TABLE vaesvc_attempts DROP COLUMN {name}")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0015'")


def before_identities(url: str) -> None:
    """Take the database back to the version before logins by a provider."""
    before_giving_way(url)
    sql(url, "DROP TABLE vaesvc_identities")
    sql(url, "ALTER TABLE vaesvc_tokens DROP COLUMN login")
    sql(url, "ALTER TABLE vaesvc_users DROP COLUMN disabled_at")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0014'")


def before_expected(url: str) -> None:
    """Take the database back to the version before expected starts."""
    before_identities(url)
    for name in ("expectations", "expected"):
        sql(url, f"DROP TABLE vaesvc_{name}")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0013'")


def before_order(url: str) -> None:
    """Take the database back to the version before holds, dependencies, arrays, labels and limits."""
    before_expected(url)
    for name in ("limits", "arrays", "after", "holds", "labels"):
        sql(url, f"DROP TABLE vaesvc_{name}")
    for name in ("array", "owned"):
        sql(url, f"DROP INDEX vaesvc_jobs_{name}")
    sql(url, 'ALTER TABLE vaesvc_jobs DROP COLUMN "array"')
    for name in ("moved_at", "usual_seconds", "stop_reason", "hangs"):
        sql(url, f"ALTER TABLE vaesvc_attempts DROP COLUMN {name}")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0012'")


def before_marks(url: str) -> None:
    """Take the database back to the version before marks."""
    before_order(url)
    for name in ("marks", "marked_at"):
        sql(url, f"ALTER TABLE vaesvc_plan DROP COLUMN {name}")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0011'")


def before_measured(url: str) -> None:
    """Take the database back to the version before measurements."""
    before_marks(url)
    sql(url, "DROP TABLE vaesvc_measured")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0010'")


def before_notices(url: str) -> None:
    """Take the database back to the version before notices."""
    before_measured(url)
    for name in ("outbox", "subscriptions"):
        sql(url, f"DROP TABLE vaesvc_{name}")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0009'")


def before_users(url: str) -> None:
    """Take the database, in which there are no tokens, back to the version before users."""
    before_notices(url)
    for name in ("audit", "tokens", "users"):
        sql(url, f"DROP TABLE vaesvc_{name}")
    columns = "name VARCHAR(200) PRIMARY KEY, sha256 VARCHAR(64) NOT NULL UNIQUE, created_at DOUBLE PRECISION NOT NULL"
    sql(url, f"CREATE TABLE vaesvc_tokens ({columns}, admin BOOLEAN DEFAULT false NOT NULL)")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0008'")


def before_shares(url: str) -> None:
    """Take the database back to the version before groups, quotas and usage."""
    before_users(url)
    for name in ("jobs_owner", "attempts_charged"):
        sql(url, f"DROP INDEX vaesvc_{name}")
    sql(url, "ALTER TABLE vaesvc_attempts DROP COLUMN charged")
    for name in ("held", "shares"):
        sql(url, f"ALTER TABLE vaesvc_plan DROP COLUMN {name}")
    for name in ("members", "groups", "quotas", "usage"):
        sql(url, f"DROP TABLE vaesvc_{name}")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0007'")


def before_lanes(url: str) -> None:
    """Take the database back to the version before lanes."""
    before_shares(url)
    for name in ("lane", "line", "tracked"):
        sql(url, f"DROP INDEX vaesvc_jobs_{name}")
    sql(url, "ALTER TABLE vaesvc_jobs DROP COLUMN lane")
    sql(url, "DROP TABLE vaesvc_plan")
    sql(url, "CREATE INDEX vaesvc_jobs_state ON vaesvc_jobs (state)")
    sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '0006'")


def check_database(url: str, *, cpus: float | None = None) -> None:
    """Holds at any moment, also after a crash: state, attempts and events tell the same story."""
    if url.startswith("sqlite"):
        assert sql(url, "PRAGMA integrity_check") == [("ok",)]
    attempts: dict[str, list[tuple[int, str]]] = {}
    for job_id, number, state in sql(url, "SELECT job_id, number, state FROM vaesvc_attempts ORDER BY number"):
        attempts.setdefault(job_id, []).append((number, state))
    told: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for job_id, kind, detail in sql(url, "SELECT job_id, kind, detail FROM vaesvc_events ORDER BY id"):
        told.setdefault(job_id, []).append((kind, json.loads(detail)))
    edges = {(source.value, target.value) for (source, _), target in TRANSITIONS.items()}
    for job_id, state, number in sql(url, "SELECT id, state, attempt FROM vaesvc_jobs"):
        mine = attempts.get(job_id, [])
        assert [number for number, _ in mine] == list(range(1, number + 1)), job_id
        running = state in (JobState.STARTING, JobState.RUNNING, JobState.CANCELLING)
        assert [AttemptState(s).open for _, s in mine] == [running and n == number for n, _ in mine], (job_id, state)
        events = told[job_id]
        assert events[0][0] == "submitted"
        moves = [(d.get("from"), d["to"]) for _, d in events if "to" in d]
        assert all(move in edges for move in moves[1:]), moves
        assert all(a[1] == b[0] for a, b in pairwise(moves)), moves
        assert moves[-1][1] == state
        assert Counter(kind for kind, _ in events)["admitted"] == number
    if cpus is not None:
        assert most_cpus_at_once(url) <= cpus + 1e-9


def most_cpus_at_once(url: str) -> float:
    """The most that attempts ever held together, by their times in the database."""
    query = "SELECT a.created_at, a.ended_at, j.resources FROM vaesvc_attempts a JOIN vaesvc_jobs j ON j.id = a.job_id"
    changes = []
    for begin, end, text in sql(url, query):
        resources = Resources.model_validate_json(text)
        amount = resources.workers * resources.cpus_per_worker
        changes.append((begin, 1, amount))
        if end is not None:
            changes.append((end, 0, -amount))  # an end at the same moment comes first
    held = most = 0.0
    for _, _, amount in sorted(changes):
        held += amount
        most = max(most, held)
    return most
