"""The processes of a storm: clients, dispatchers, and attempts that cost next to nothing but go the real way. Their
arguments:

submit URL TOKEN FIRST LAST RING  submits jobs FIRST..LAST-1 modulo RING, several at a time
dispatch FOLDER FILE              a dispatcher; of the local cluster in FOLDER, of Ray if FOLDER is -
attempt FILE                      claims, renews and finishes; a line in FILE when it starts
agent FOLDER                      of the local cluster, with all loaded that an attempt needs
"""

from __future__ import annotations

import os
import random
import shlex
import sys
import time
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCAL_NODES = ({"CPU": 3.0}, {"CPU": 3.0})
THREADS = 4  # of one client process
PATIENCE = 120.0


def job(number: int) -> tuple[dict[str, Any], str]:
    """Spec and key of a storm's job: gangs of one to three, some of them urgent."""
    resources = {"workers": 1 + number % 3, "cpus_per_worker": 1.0 if number % 3 < 2 else 0.5}
    return {"recipe": "digits/beta-vae-mlp", "resources": resources, "priority": number % 5 // 4}, f"storm-{number}"


def submit(url: str, token: str, first: str, last: str, ring: str) -> None:
    """Prints `<number> <job id>` for each."""
    from concurrent.futures import ThreadPoolExecutor

    from service.client import Client
    from service.kinds.train import spec

    numbers = [number % int(ring) for number in range(int(first), int(last))]
    random.shuffle(numbers)
    specs = {number: spec.resolve(job(number)[0]) for number in numbers}
    say("ready")
    sys.stdin.readline()

    def one(number: int) -> str:
        with Client(url, token, retry_seconds=PATIENCE) as client:
            return client.submit(specs[number], key=job(number)[1]).id

    with ThreadPoolExecutor(THREADS) as pool:
        for number, job_id in zip(numbers, pool.map(one, numbers), strict=True):
            say(number, job_id)


def dispatch(folder: str, starts: str) -> None:
    """Until killed."""
    import logging

    from service import auth, settings
    from service.code.shelf import Shelf
    from service.dispatch.decisions import Limits
    from service.dispatch.dispatcher import Dispatcher, attempt_access
    from service.dispatch.ray_jobs import RayCluster
    from service.queue.store import Store
    from tests.local_cluster import LocalCluster, NoDrains

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    loaded = settings.load()
    cluster: Any = LocalCluster(Path(folder), LOCAL_NODES)
    if folder == "-":
        assert loaded.ray_address is not None
        cluster = RayCluster(loaded.ray_address, loaded.ray_token())

    def unused(code: object) -> Any:
        raise AssertionError(f"no job of this has code of its own: {code}")

    dispatcher = Dispatcher(
        Store(loaded.database_url, lease_seconds=loaded.lease_seconds),
        cluster,
        attempt_access(loaded, auth.read_secret(loaded.secret_file)),
        limits=Limits(),
        shelf=Shelf(unused),
        notices=NoDrains(),
        entry_point=shlex.join([sys.executable, str(Path(__file__).resolve()), "attempt", starts]),
    )
    say("ready")
    while True:
        dispatcher.tick()
        time.sleep(loaded.poll_seconds)


def attempt(starts: str) -> None:
    """The line is written before the claim: a second start would be seen even if it were refused then."""
    from service import __version__, wire
    from service.attempt.assignment import access_from_environment

    access = access_from_environment()
    descriptor = os.open(starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, f"{access.name}\n".encode())
    runner = uuid.uuid4().hex
    with access.client(retry_seconds=PATIENCE) as client:
        client.claim(wire.ClaimRequest(runner_id=runner, version=__version__))
        client.heartbeat(runner)
        client.progress(wire.ProgressReport(progress={"step": 1, "total_steps": 1}))
        client.finish(wire.FinishRequest(runner_id=runner, outcome="succeeded", result={"pid": os.getpid()}))


def agent(folder: str) -> None:
    import service.attempt.assignment
    import service.wire  # noqa: F401
    from tests.local_cluster import Agent

    def run(entrypoint: str) -> None:
        _, _, command, starts = shlex.split(entrypoint)
        assert command == "attempt"
        attempt(starts)

    Agent(Path(folder), run).run()


def say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def main() -> None:
    commands: dict[str, Any] = {"submit": submit, "dispatch": dispatch, "attempt": attempt, "agent": agent}
    commands[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
