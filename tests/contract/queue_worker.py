"""A process that works on the queue, for tests that race or kill it. Its arguments:

submit  URL FIRST LAST     submits jobs FIRST..LAST-1, each twice, with keys
race    URL JOBS SECONDS   submits jobs, runs attempts until none is left
churn   URL NAME           does everything, for ever; prints what was acknowledged
migrate URL

Each waits for a line on stdin before it begins, so that several begin together.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable

from service.errors import FencedError
from service.queue.jobs import Attempt
from service.queue.store import Store
from tests.contract.queue_checks import checkpoint, finish, spec


def say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def submit(store: Store, first: str, last: str) -> None:
    numbers = list(range(int(first), int(last)))
    random.shuffle(numbers)
    for number in numbers:
        for _ in range(2):
            say(number, store.submit(spec(f"job-{number}"), owner="me", key=f"key-{number}").id)


def run_attempt(store: Store, attempt: Attempt, runner: str) -> None:
    store.claim(attempt.job_id, attempt.number, runner)
    say("ran", attempt.submission_id)
    store.finish(attempt.job_id, attempt.number, finish(runner=runner))


def race(store: Store, jobs: str, seconds: str) -> None:
    """Priorities differ and jobs come in between, so that no two plans are alike: only the lock keeps them apart."""
    deadline = time.monotonic() + float(seconds)
    left = int(jobs)
    held: list[Attempt] = []
    while time.monotonic() < deadline:
        if left > 0:
            left -= 1
            workers = random.choice([1, 1, 2])
            say("submitted", store.submit(spec(priority=random.randint(0, 9), workers=workers), owner="me").id)
        held += store.admit()
        if held and (left == 0 or random.random() < 0.5):
            run_attempt(store, held.pop(0), f"runner-{random.random()}")
        status = store.cluster()
        if left == status.queued == status.running == 0:
            return
    raise TimeoutError(f"jobs are left after {seconds} s: {store.cluster()}")


def churn(store: Store, name: str) -> None:
    """Submits, admits, claims, commits, fails, finishes and cancels, in random order, until killed."""
    number = 0
    while True:
        number += 1
        say("submitted", store.submit(spec(f"{name}-{number}"), owner="me", key=f"{name}-{number}").id)
        for attempt in store.admit():
            try:
                store.claim(attempt.job_id, attempt.number, name)
                step = attempt.number * 10
                store.commit_checkpoint(attempt.job_id, attempt.number, checkpoint(attempt.number, step))
                say("committed", attempt.job_id, step)
                outcome = random.choice(["succeeded", "failed", "cancelled"])
                if outcome == "cancelled":
                    store.cancel(attempt.job_id, by=name)
                job = store.finish(attempt.job_id, attempt.number, finish(outcome, runner=name))
                if job.state.final:
                    say("over", job.id, job.state)
            except FencedError:
                pass
        # what a killed process before us held: its lease is short
        for job, attempt in store.open_attempts():
            store.attempt_lost(job.id, attempt.number, "its process was killed")


def main() -> None:
    what, url, *rest = sys.argv[1:]
    store = Store(url, lease_seconds=0.2)
    if what != "migrate":
        store.ping()
    say("ready")
    sys.stdin.readline()
    work: dict[str, Callable[..., None]] = {"submit": submit, "race": race, "churn": churn, "migrate": Store.migrate}
    work[what](store, *rest)
    store.close()
