"""What opening a run costs in a server with 30,000 runs, beside an empty one: `python -m tests.benchmarks.open_run`."""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from service.tracking import runs
from tests.jobs import make_job
from tests.servers import Mlflow, Swift

RUNS = 30_000
REPETITIONS = 15


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vaesvc-benchmark-") as folder:
        root = Path(folder)
        swift = Swift(root / "s3")
        mlflow = Mlflow(root / "mlflow", swift)
        try:
            swift.start()
            mlflow.start()
            empty = seconds(mlflow.uri)
            fill(root / "mlflow", RUNS)
            full = seconds(mlflow.uri)
        finally:
            mlflow.stop()
            swift.stop()
    print(f"opening a run, without the wait for others: {1e3 * empty:.0f} ms in an empty server")
    print(f"{1e3 * full:.0f} ms in one with {RUNS:,} runs: {full / empty:.2f} times as long")


def seconds(uri: str, repetitions: int = REPETITIONS) -> float:
    """The median for a new job's run, without the time in which it waits for other processes."""
    settle, runs.SETTLE, runs.SETTLE_TIMES = (runs.SETTLE, runs.SETTLE_TIMES), 0.0, 0
    try:
        runs.open_run(uri, make_job(), number=1)  # which makes the experiment
        taken = []
        for _ in range(repetitions):
            job = make_job()
            began = time.perf_counter()
            runs.open_run(uri, job, number=1)
            taken.append(time.perf_counter() - began)
    finally:
        runs.SETTLE, runs.SETTLE_TIMES = settle
    return statistics.median(taken)


def fill(server: Path, number: int) -> None:
    """Runs as jobs leave them, in 20 experiments of which one is the jobs' own, written behind the server's back."""
    (path,) = server.rglob("mlflow.db")
    database = sqlite3.connect(path, timeout=60)
    with database:
        (own,) = database.execute("select experiment_id from experiments where name = 'digits (density)'").fetchone()
        experiments = [own]
        for i in range(19):
            values = (f"data {i} (density)", "mlflow-artifacts:/x")
            made = database.execute(
                "insert into experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time, "
                "workspace) values (?, ?, 'active', 1, 1, 'default')",
                values,
            )
            experiments.append(made.lastrowid)
        for i in range(number):
            _run(database, i, experiments[0 if i % 2 else i % 20])
    database.close()


def _run(database: sqlite3.Connection, number: int, experiment: int) -> None:
    run, now = f"{number:032x}", int(time.time() * 1000)
    database.execute(
        "insert into runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, "
        "end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) "
        "values (?, ?, 'UNKNOWN', '', '', 'ada', 'FINISHED', ?, ?, '', 'active', 'mlflow-artifacts:/x', ?)",
        (run, f"job {number}", now - number, now, experiment),
    )
    tags = {
        "vaesvc.job_id": f"j-{number}",
        f"mlflow.vaesvc.j-{number}": "1",
        "vaesvc.spec": "x" * 2000,
        "mlflow.user": "ada",
    }
    database.executemany(
        "insert into tags (key, value, run_uuid) values (?, ?, ?)", [(*tag, run) for tag in tags.items()]
    )
    params = [(f"param{i}", "1", run) for i in range(20)]
    database.executemany("insert into params (key, value, run_uuid) values (?, ?, ?)", params)


if __name__ == "__main__":
    main()
