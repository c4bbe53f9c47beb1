"""How fast the queue is: jobs a second through submit, and through admit + claim + finish, on SQLite and PostgreSQL.

    python -m tests.benchmarks.queue_throughput [--jobs 300] [--writers 1 4]

Both databases are durable, as in production (SQLite synchronous=FULL, PostgreSQL fsync on). The writers are threads of
one process, as in the API. `p99` is that of one claim + finish, waiting for the others included. `batch`: the same,
100 in a call. `of bare`: the rate beside that of bare inserts of the same rows (job and event) into the same tables in
the same run: one job a transaction from as many threads, and for `batch` 100 jobs a transaction.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import quantiles

import sqlalchemy as sa

from service.kinds.train.spec import TrainSpec
from service.queue.jobs import Attempt, Capacity, JobState
from service.queue.store import Store
from service.wire import FinishRequest
from tests import postgres
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig

SPEC = TrainSpec(name="bench", register_as="bench", train=TrainConfig(data=DataConfig(name="digits"), steps=1))

BATCH = 100  # jobs of a batch


@contextmanager
def databases() -> Iterator[list[tuple[str, str]]]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        found = [("sqlite", f"sqlite:///{folder}/queue.db")]
        if reason := postgres.missing():
            print(f"postgresql: left out: {reason}")
        else:
            found.append(("postgresql", stack.enter_context(postgres.server(durable=True))))
        yield found


def measure(url: str, jobs: int, writers: int) -> dict[str, float]:
    """Rates for `jobs` jobs over `writers` threads."""
    with ExitStack() as stack:
        store = Store(url)
        stack.callback(store.close)
        store.observe_cluster(Capacity(nodes=({"CPU": float(jobs)},)), address="bench", ok=True)
        threads = stack.enter_context(ThreadPoolExecutor(writers))
        plain = bare(store, writers, jobs, 1)
        begin = time.perf_counter()
        list(threads.map(lambda _: store.submit(SPEC, owner="bench"), range(jobs)))
        submitted = time.perf_counter()
        attempts = store.admit()
        admitted = time.perf_counter()
        assert len(attempts) == jobs
        taken = list(threads.map(lambda attempt: run_one(store, attempt), attempts))
        ended = time.perf_counter()
        plain_batch = bare(store, writers, 10 * BATCH, BATCH)
        batched = time.perf_counter()
        list(threads.map(lambda _: store.submit_all([(SPEC, None)] * BATCH, owner="bench"), range(10)))
        rates = {
            "submits": jobs / (submitted - begin),
            "admits": jobs / (admitted - submitted),
            "claim_finish": jobs / (ended - admitted),
            "p99": quantiles(taken, n=100)[98],
            "batch": 10 * BATCH / (time.perf_counter() - batched),
        }
        for job in store.jobs(states=[JobState.QUEUED], limit=10 * BATCH):
            store.cancel(job.id, by="bench")
    return rates | {"of_bare": rates["submits"] / plain, "batch_of_bare": rates["batch"] / plain_batch}


def bare(store: Store, writers: int, jobs: int, size: int) -> float:
    """Return the jobs a second of inserts of rows that are there already but for their ids, `size` a transaction."""
    job_id = store.submit(SPEC, owner="bench").id
    store.cancel(job_id, by="bench")
    engine = store._database._engine
    with engine.connect() as connection:
        job = dict(
            connection.execute(sa.text("SELECT * FROM vaesvc_jobs WHERE id = :id"), {"id": job_id}).mappings().one()
        )
        event = dict(
            connection.execute(sa.text("SELECT * FROM vaesvc_events WHERE job_id = :id LIMIT 1"), {"id": job_id})
            .mappings()
            .one()
        )
    event.pop("id")
    statements = [
        (sa.text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(':' + name for name in row)})"), row)
        for table, row in (("vaesvc_jobs", job), ("vaesvc_events", event))
    ]

    def insert(index: int) -> None:
        ids = [f"b-{secrets.token_hex(10)}" for _ in range(size)]
        with store._database.write() as connection:
            for (statement, row), name in zip(statements, ("id", "job_id"), strict=True):
                connection.execute(statement, [row | {name: new} for new in ids])

    with ThreadPoolExecutor(writers) as threads:
        begin = time.perf_counter()
        list(threads.map(insert, range(jobs // size)))
        return jobs / (time.perf_counter() - begin)


def run_one(store: Store, attempt: Attempt) -> float:
    begin = time.perf_counter()
    store.claim(attempt.job_id, attempt.number, "bench")
    store.finish(attempt.job_id, attempt.number, FinishRequest(runner_id="bench", outcome="succeeded"))
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 4])
    arguments = parser.parse_args()
    print(f"{'database':12}{'writers':>8}{'submit/s':>10}{'of bare':>9}{'batch/s':>9}{'of bare':>9}", end="")
    print(f"{'admit/s':>9}{'claim+finish/s':>16}{'p99 (s)':>9}")
    with databases() as found:
        for name, url in found:
            store = Store(url)
            store.migrate()
            store.close()
            for writers in arguments.writers:
                rates = measure(url, arguments.jobs, writers)
                submits = f"{rates['submits']:>10.0f}{rates['of_bare']:>9.2f}"
                batches = f"{rates['batch']:>9.0f}{rates['batch_of_bare']:>9.2f}"
                ends = f"{rates['admits']:>9.0f}{rates['claim_finish']:>16.0f}{rates['p99']:>9.3f}"
                print(f"{name:12}{writers:>8}{submits}{batches}{ends}", flush=True)


if __name__ == "__main__":
    main()
