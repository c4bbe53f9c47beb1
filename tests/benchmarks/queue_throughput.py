"""How fast the queue is: jobs a second through submit, and through admit + claim + finish, on SQLite and PostgreSQL.

    python -m tests.benchmarks.queue_throughput [--jobs 300] [--writers 1 4] [--rounds 3]

Both databases are durable, as in production (SQLite synchronous=FULL, PostgreSQL fsync on). The writers are threads of
one process, as in the API. `p99` is that of one claim + finish, waiting for the others included. `batch`: the same,
100 in a call. `of bare`: the rate beside that of bare inserts of the same rows (job and event) into the same tables in
the same run: one job a transaction from as many threads, and for `batch` 100 jobs a transaction. Rates are medians of
`--rounds`, ratios of the pairs of each round. The second table is of the API over HTTP, in a process of its own beside
the clients', with both databases: POST /v1/jobs from one client and from as many as there are writers, and
/v1/jobs:batch of 1,000 jobs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles

import sqlalchemy as sa

from service.client import Client
from service.kinds.train.spec import TrainSpec
from service.queue.jobs import Attempt, Capacity, JobState
from service.queue.store import Store
from service.wire import MAX_BATCH, FinishRequest
from tests import postgres
from tests.api_server import running_api, settings_in
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
        (sa.text(f"INSERT INTO {table} ({_quoted(row)}) VALUES ({', '.join(':' + name for name in row)})"), row)
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


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def run_one(store: Store, attempt: Attempt) -> float:
    begin = time.perf_counter()
    store.claim(attempt.job_id, attempt.number, "bench")
    store.finish(attempt.job_id, attempt.number, FinishRequest(runner_id="bench", outcome="succeeded"))
    return time.perf_counter() - begin


def serve(url: str, folder: str, pipe: Connection) -> None:
    """Run an API until somebody says something."""
    with running_api(settings_in(Path(folder), database_url=url)) as api:
        pipe.send((api.url, api.token))
        pipe.recv()


@contextmanager
def served(url: str) -> Iterator[tuple[str, str]]:
    """An API in a process of its own: its address, and a user's token."""
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(url, folder, theirs), daemon=True)
        process.start()
        try:
            yield ours.recv()
        finally:
            ours.send(None)
            process.join(30)


def asked(address: str, token: str, jobs: int, clients: int) -> tuple[float, float]:
    """Return the jobs a second of so many clients at once: one in a call, and MAX_BATCH in a call."""
    data = SPEC.model_dump(mode="json")
    with ExitStack() as stack:
        all_clients = [stack.enter_context(Client(address, token)) for _ in range(clients)]
        threads = stack.enter_context(ThreadPoolExecutor(clients))
        for client in all_clients:
            client.submit(data)
        begin = time.perf_counter()
        list(threads.map(lambda i: all_clients[i % clients].submit(data), range(jobs)))
        ended = time.perf_counter()
        list(threads.map(lambda client: client.submit_all([data] * MAX_BATCH), all_clients))
        return jobs / (ended - begin), clients * MAX_BATCH / (time.perf_counter() - ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'database':12}{'writers':>8}{'submit/s':>10}{'of bare':>9}{'batch/s':>9}{'of bare':>9}", end="")
    print(f"{'admit/s':>9}{'claim+finish/s':>16}{'p99 (s)':>9}")
    with databases() as found:
        for name, url in found:
            store = Store(url)
            store.migrate()
            store.close()
            for writers in arguments.writers:
                rounds = [measure(url, arguments.jobs, writers) for _ in range(arguments.rounds)]
                rates = {key: median(each[key] for each in rounds) for key in rounds[0]}
                submits = f"{rates['submits']:>10.0f}{rates['of_bare']:>9.2f}"
                batches = f"{rates['batch']:>9.0f}{rates['batch_of_bare']:>9.2f}"
                ends = f"{rates['admits']:>9.0f}{rates['claim_finish']:>16.0f}{rates['p99']:>9.3f}"
                print(f"{name:12}{writers:>8}{submits}{batches}{ends}", flush=True)
        print(f"\n{'API':12}{'clients':>8}{'submit/s':>10}{'batch/s':>9}")
        for name, url in found:
            with served(url) as (address, token):
                for clients in arguments.writers:
                    single, batch = asked(address, token, arguments.jobs, clients)
                    print(f"{name:12}{clients:>8}{single:>10.0f}{batch:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
