"""How fast the queue is: jobs a second through submit, and through admit + claim + finish, on SQLite and PostgreSQL.

    python -m tests.benchmarks.queue_throughput [--jobs 300] [--writers 1 4 16] [--rounds 3] [--processes 1 2]

Both databases are durable, as in production (SQLite synchronous=FULL, PostgreSQL fsync on). The writers are threads of
one process, as in the API, each of which asks again when it has been answered. `p99` is that of one claim + finish,
waiting for the others included. `batch`: 100 jobs in a call, of one spec; `differ`: of specs that differ. `of bare`:
the rate beside that of bare inserts of the same rows (job and event) into the same tables in the same run: one job a
transaction from as many threads, and for batches 100 jobs a transaction. `bare/s` is that rate: what the disk and the
database allow to who shares no transaction. Rates are medians of `--rounds`, ratios of the pairs of each round.

The second table is of the API over HTTP, as `vaesvc serve --processes P` runs it, beside the clients, with both
databases: POST /v1/jobs from as many clients as there are writers (medians of `--rounds`), and /v1/jobs:batch of 1,000
jobs from up to 4 of them: of one spec, and of specs that differ. These clients are `service.client.Client`, in threads
of one process, which share its interpreter with each other. `plain/s`: POST /v1/jobs again, from as many callers that
are processes of their own and do nothing but what HTTP needs (`plain_caller`): what the server is capable of beside
them.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles
from subprocess import PIPE
from urllib.parse import urlsplit

import sqlalchemy as sa

from service import auth
from service.client import Client
from service.kinds.train.spec import TrainSpec
from service.queue.jobs import Attempt, Capacity, JobState
from service.queue.schema import jobs as table
from service.queue.store import Store
from service.wire import MAX_BATCH, FinishRequest
from tests import postgres
from tests.command import VAESVC
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig

SPEC = TrainSpec(name="bench", register_as="bench", train=TrainConfig(data=DataConfig(name="digits"), steps=1))

BATCH = 100  # jobs of a batch
BATCH_CLIENTS = 4
SPECS = [SPEC.model_copy(update={"name": f"bench-{index}"}) for index in range(MAX_BATCH)]


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
        rates = {
            "submits": jobs / (submitted - begin),
            "bare": plain,
            "of_bare": jobs / (submitted - begin) / plain,
            "admits": jobs / (admitted - submitted),
            "claim_finish": jobs / (ended - admitted),
            "p99": quantiles(taken, n=100)[98],
            "bare_batch": plain_batch,
        }
        for name, specs in (("batch", [SPEC] * BATCH), ("differ", SPECS[:BATCH])):
            some = [(spec, None) for spec in specs]
            batched = time.perf_counter()
            list(threads.map(lambda _, some=some: store.submit_all(some, owner="bench"), range(10)))
            rates[name] = 10 * BATCH / (time.perf_counter() - batched)
            rates[f"{name}_of_bare"] = rates[name] / plain_batch
        empty_the_line(store)
    return rates


def empty_the_line(store: Store) -> None:
    """Take all jobs out of the line at once: no dispatcher runs here, whose plans keep places cheap to count."""
    with store._database.write() as connection:
        queued = sa.update(table).where(table.c.state == JobState.QUEUED.value)
        connection.execute(queued.values(state=JobState.CANCELLED.value))


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


@contextmanager
def served(url: str, processes: int) -> Iterator[tuple[str, str]]:
    """Run `vaesvc serve` over the database, in so many processes: its address, and a user's token."""
    token = auth.new_token()
    store = Store(url)
    store.add_token(f"bench-{secrets.token_hex(4)}", token)
    store.close()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("VAESVC_")}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        of_its_own = {"VAESVC_DATABASE_URL": url, "VAESVC_HOME": folder, "VAESVC_CONFIG": ""}
        command = [VAESVC, "serve", "--port", "0", "--processes", str(processes)]
        process = subprocess.Popen(command, stdout=PIPE, stderr=log, text=True, env=plain | of_its_own)
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                log.seek(0)
                raise RuntimeError(f"the API does not start: {log.read()}")
            yield address, token
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def calling(address: str, token: str, clients: int) -> Iterator[tuple[list[Client], ThreadPoolExecutor]]:
    """So many clients, each of which has called once, and threads for them."""
    with ExitStack() as stack:
        all_clients = [stack.enter_context(Client(address, token)) for _ in range(clients)]
        for client in all_clients:
            client.submit(SPEC)
        yield all_clients, stack.enter_context(ThreadPoolExecutor(clients))


def singly(address: str, token: str, jobs: int, clients: int) -> float:
    """Return the jobs a second of so many clients at once, one in a call."""
    data = SPEC.model_dump(mode="json")
    with calling(address, token, clients) as (all_clients, threads):
        begin = time.perf_counter()
        list(threads.map(lambda i: all_clients[i % clients].submit(data), range(jobs)))
        return jobs / (time.perf_counter() - begin)


def plainly(address: str, token: str, jobs: int, clients: int) -> float:
    """Return the jobs a second of so many callers at once, each in a process of its own, one job in a call."""
    spec, at = SPEC.model_dump(mode="json"), urlsplit(address)
    order = {"host": at.hostname, "port": at.port, "token": token, "spec": spec, "jobs": jobs // clients}
    command = [sys.executable, "-m", "tests.benchmarks.plain_caller"]
    with ExitStack() as stack:
        callers = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(clients)]
        for caller in callers:
            stack.callback(caller.wait, 60)
            stack.callback(caller.kill)
        for caller in callers:
            _say(caller, json.dumps(order))
        for caller in callers:
            _hear(caller, "ready")
        begin = time.perf_counter()
        for caller in callers:
            _say(caller, "go")
        for caller in callers:
            _hear(caller, "done")
        return clients * order["jobs"] / (time.perf_counter() - begin)


def _say(caller: subprocess.Popen[str], text: str) -> None:
    assert caller.stdin is not None
    caller.stdin.write(f"{text}\n")
    caller.stdin.flush()


def _hear(caller: subprocess.Popen[str], word: str) -> None:
    """Wait for the word. Raises RuntimeError when the caller says something else, or has ended."""
    assert caller.stdout is not None
    if (heard := caller.stdout.readline().strip()) != word:
        raise RuntimeError(f"a caller said {heard!r} in place of {word!r}")


def in_batches(address: str, token: str, clients: int, specs: Sequence[TrainSpec]) -> float:
    """Return the jobs a second of so many clients at once, all of the specs in a call."""
    data = [spec.model_dump(mode="json") for spec in specs]
    with calling(address, token, clients) as (all_clients, threads):
        begin = time.perf_counter()
        list(threads.map(lambda client: client.submit_all(data), all_clients))
        return clients * len(data) / (time.perf_counter() - begin)


def over_http(
    url: str, processes: int, arguments: argparse.Namespace
) -> Iterator[tuple[int, tuple[float, float, float, float]]]:
    """Yield each number of clients, and the jobs a second: of clients, of plain callers, in batches of one spec and of
    specs that differ."""
    found: dict[int, list[tuple[float, float]]] = {clients: [] for clients in arguments.writers}
    with ExitStack() as stack:
        store = Store(url)
        stack.callback(store.close)
        address, token = stack.enter_context(served(url, processes))
        for _ in range(arguments.rounds):
            for clients, rates in found.items():
                rates.append(
                    (
                        singly(address, token, arguments.jobs, clients),
                        plainly(address, token, arguments.jobs, clients),
                    )
                )
                empty_the_line(store)
        for clients, rates in found.items():
            several = min(clients, BATCH_CLIENTS)
            batches = [in_batches(address, token, several, specs) for specs in ([SPEC] * MAX_BATCH, SPECS)]
            single, plain = (median(each) for each in zip(*rates, strict=True))
            empty_the_line(store)
            yield clients, (single, plain, batches[0], batches[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="that serve the API")
    arguments = parser.parse_args()
    print(f"{'database':12}{'writers':>8}{'submit/s':>10}{'bare/s':>8}{'of bare':>9}", end="")
    print(f"{'batch/s':>9}{'differ/s':>9}{'bare/s':>8}{'of bare':>9}{'of bare':>9}", end="")
    print(f"{'admit/s':>9}{'claim+finish/s':>16}{'p99 (s)':>9}")
    with databases() as found:
        for name, url in found:
            store = Store(url)
            store.migrate()
            store.close()
            for writers in arguments.writers:
                rounds = [measure(url, arguments.jobs, writers) for _ in range(arguments.rounds)]
                rates = {key: median(each[key] for each in rounds) for key in rounds[0]}
                submits = f"{rates['submits']:>10.0f}{rates['bare']:>8.0f}{rates['of_bare']:>9.2f}"
                batches = f"{rates['batch']:>9.0f}{rates['differ']:>9.0f}{rates['bare_batch']:>8.0f}"
                batches += f"{rates['batch_of_bare']:>9.2f}{rates['differ_of_bare']:>9.2f}"
                ends = f"{rates['admits']:>9.0f}{rates['claim_finish']:>16.0f}{rates['p99']:>9.3f}"
                print(f"{name:12}{writers:>8}{submits}{batches}{ends}", flush=True)
        print(f"\n{'API':12}{'processes':>10}{'clients':>8}{'submit/s':>10}{'plain/s':>9}{'batch/s':>9}{'differ/s':>9}")
        for name, url in found:
            for processes in arguments.processes:
                for clients, rates in over_http(url, processes, arguments):
                    shown = "".join(f"{rate:>{width}.0f}" for rate, width in zip(rates, (10, 9, 9, 9), strict=True))
                    print(f"{name:12}{processes:>10}{clients:>8}{shown}", flush=True)


if __name__ == "__main__":
    main()
