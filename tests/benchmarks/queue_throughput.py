"""How fast the queue is: jobs a second through submit, and through admit + claim + finish, on SQLite and PostgreSQL.

    python -m tests.benchmarks.queue_throughput [--jobs 300] [--writers 1 4]

Both databases are durable, as in production (SQLite synchronous=FULL, PostgreSQL fsync on). Each writer is a thread
with its own store. `p99` is that of one claim + finish, waiting for the others included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import quantiles

from service.kinds.train.spec import TrainSpec
from service.queue.jobs import Attempt, Capacity
from service.queue.store import Store
from service.wire import FinishRequest
from tests import postgres
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig

SPEC = TrainSpec(name="bench", register_as="bench", train=TrainConfig(data=DataConfig(name="digits"), steps=1))


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
    """Seconds and rates for `jobs` jobs over `writers` threads."""
    with ExitStack() as stack:
        stores = [Store(url) for _ in range(writers)]
        for store in stores:
            stack.callback(store.close)
        stores[0].observe_cluster(Capacity(nodes=({"CPU": float(jobs)},)), address="bench", ok=True)
        threads = stack.enter_context(ThreadPoolExecutor(writers))

        def submit(index: int) -> None:
            for _ in range(index, jobs, writers):
                stores[index].submit(SPEC, owner="bench")

        begin = time.perf_counter()
        list(threads.map(submit, range(writers)))
        submitted = time.perf_counter()
        attempts = stores[0].admit()
        admitted = time.perf_counter()
        assert len(attempts) == jobs

        def run(index: int) -> list[float]:
            return [run_one(stores[index], attempt) for attempt in attempts[index::writers]]

        taken = [seconds for found in threads.map(run, range(writers)) for seconds in found]
        ended = time.perf_counter()
    return {
        "submits": jobs / (submitted - begin),
        "admits": jobs / (admitted - submitted),
        "claim_finish": jobs / (ended - admitted),
        "p99": quantiles(taken, n=100)[98],
    }


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
    print(f"{'database':12}{'writers':>8}{'submit/s':>10}{'admit/s':>10}{'claim+finish/s':>16}{'p99 (s)':>10}")
    with databases() as found:
        for name, url in found:
            store = Store(url)
            store.migrate()
            store.close()
            for writers in arguments.writers:
                rates = measure(url, arguments.jobs, writers)
                speeds = f"{rates['submits']:>10.0f}{rates['admits']:>10.0f}{rates['claim_finish']:>16.0f}"
                print(f"{name:12}{writers:>8}{speeds}{rates['p99']:>10.3f}")


if __name__ == "__main__":
    main()
