"""Several real processes on one database: racing, and killed in the middle of what they do."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from service.queue.jobs import JobState
from service.queue.store import Store
from tests.contract.queue_checks import check_database, cluster, most_cpus_at_once, spec, sql
from tests.forked import Forked, Forker

FORKER = Forker("tests.contract.queue_worker:main")
SECONDS = 120.0  # a loaded machine is slow; nothing here needs more than a few seconds on a quiet one


@contextmanager
def processes(*commands: tuple[str, ...]) -> Iterator[list[Forked]]:
    """Workers that have connected and begin together. Whatever is left of them is killed at the end."""
    begun: list[Forked] = []
    try:
        for command in commands:
            arguments = ["queue_worker", *command]
            begun.append(FORKER.start(arguments, os.environ, stdin=subprocess.PIPE, stderr=None))
        for process in begun:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in begun:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        yield begun
    finally:
        for process in begun:
            process.kill()
            process.communicate(timeout=10)


def outputs(running: list[Forked]) -> list[list[list[str]]]:
    """The words of each process's lines, once all have ended well."""
    with ThreadPoolExecutor(len(running)) as threads:
        texts = list(threads.map(lambda process: process.communicate(timeout=SECONDS)[0], running))
    assert [process.returncode for process in running] == [0] * len(running)
    return [[line.split() for line in text.splitlines()] for text in texts]


def test_200_jobs_submitted_twice_by_8_processes_and_threads_are_200_jobs(database: str, store: Store) -> None:
    commands = [("submit", database, str(first), str(first + 50)) for first in (0, 50, 100, 150)]

    def again(numbers: range) -> set[tuple[str, str]]:
        return {(str(n), store.submit(spec(f"job-{n}"), owner="me", key=f"key-{n}").id) for n in numbers}

    with processes(*commands) as running, ThreadPoolExecutor(4) as threads:
        # the threads submit the same jobs in another order, while the processes do
        mine = list(threads.map(again, [range(199 - first, 149 - first, -1) for first in (0, 50, 100, 150)]))
        told = {(number, job_id) for lines in outputs(running) for number, job_id in lines}
    assert told == set().union(*mine)
    assert len(told) == len({job_id for _, job_id in told}) == 200
    assert {job.id for job in store.jobs(limit=1000)} == {job_id for _, job_id in told}
    check_database(database)


def test_dispatchers_that_race_start_each_job_once_and_never_too_many(database: str, store: Store) -> None:
    store.observe_cluster(cluster(2, 1), address="ray", ok=True)
    with processes(*[("race", database, "25", str(SECONDS)) for _ in range(3)]) as running:
        said = [words for lines in outputs(running) for words in lines]
    submitted = [f"{job_id}-1" for kind, job_id in said if kind == "submitted"]
    assert sorted(attempt for kind, attempt in said if kind == "ran") == sorted(submitted)
    assert len(submitted) == 75
    assert {job.state for job in store.jobs(limit=1000)} == {JobState.SUCCEEDED}
    check_database(database, cpus=3)
    assert most_cpus_at_once(database) > 1  # there was something to race for


def test_a_process_killed_at_any_moment_leaves_a_whole_database(database: str, store: Store) -> None:
    store.observe_cluster(cluster(2), address="ray", ok=True)
    said: dict[str, list[list[str]]] = {"submitted": [], "committed": [], "over": []}
    for turn in range(30):
        with processes(("churn", database, f"a{turn}"), ("churn", database, f"b{turn}")) as running:
            time.sleep((0.3 + 0.5 * random.random()) * (1 + turn // 4))  # longer where the machine is slow
            for process in running:
                process.kill()  # SIGKILL: whatever it was doing
            for process in running:
                # the last line may be cut short; what was said whole was acknowledged
                text = process.communicate(timeout=10)[0]
                for line in text.splitlines(keepends=True):
                    if line.endswith("\n"):
                        said[line.split()[0]].append(line.split())
        check_database(database, cpus=2)
        if turn >= 3 and all(said.values()):
            break
    jobs = {job.id: job for job in store.jobs(limit=100_000)}
    assert all(said.values()), "the processes were killed before they did anything"
    assert {words[1] for words in said["submitted"]} <= set(jobs)
    steps = set(sql(database, "SELECT job_id, step FROM vaesvc_checkpoints"))
    assert {(words[1], int(words[2])) for words in said["committed"]} <= steps
    assert all(jobs[words[1]].state == words[2] for words in said["over"])


def test_processes_that_migrate_at_once_make_the_tables_once(empty_database: str) -> None:
    with processes(*[("migrate", empty_database) for _ in range(4)]) as running:
        outputs(running)
    store = Store(empty_database)
    assert store.submit(spec(), owner="me").position == 1
    assert sql(empty_database, "SELECT version_num FROM vaesvc_version") != []
    store.close()
