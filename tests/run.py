"""All tests, in five processes at a time: jobs and studies on a stack and, in three, the services', which often wait,
and the models', which fill the cores meanwhile: they are nicer, so that all end at about one time.

    python -m tests.run [--quick] [options of pytest]

What the models' print is seen as it comes, what the others print when all have ended. After an hour and a quarter, or
when it is told to end, all are interrupted, so that pytest says where each was and what had failed. The exit status is
0 if all are; a process may have no tests where an expression selects none. Named files or folders run in one process.
--quick: the unit tests that do not take minutes, without the check of every shape, the models' beside the others.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

NO_TESTS = 5  # pytest's exit status
LIMIT_SECONDS = 75 * 60.0  # twice what they take
GRACE_SECONDS = 60.0  # for a stack to go down after Ctrl-C
LIMIT_STATUS = 124  # as timeout(1)'s
MODELS = ("tests/unit", "tests/numerics")
SERVICES = ("tests/acceptance", "tests/contract", "tests/integration")
NICE = ("nice", "-n", "12")  # where Linux shares the cores out by session, a session of its own has its share besides
# Freed memory is kept. A step of two images with the published CNN, 17.5 million weights, spends half of its time on
# fresh pages otherwise. For a run that lasts months it is no good: what memalign leaves between blocks adds up.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**28), "MALLOC_TRIM_THRESHOLD_": str(2**29)}  # bytes; glibc's


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # and pytest's, where a shell in the background ignores it
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    pytest = [sys.executable, "-m", "pytest", *arguments]
    # many processes share the cores, and two threads that wait for each other on a busy core cost ten times one
    environment = {"OMP_NUM_THREADS": "1"} | ALLOCATOR | os.environ
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes read the same modules
    if any(Path(argument.partition("::")[0]).exists() for argument in arguments):
        return subprocess.run(pytest, env=environment, check=False).returncode
    if "--quick" in arguments:
        return _quick([one for one in arguments if one != "--quick"], environment | {"JAXTYPING_DISABLE": "1"})
    behind = {
        "on a stack": [*pytest, "-m", "stack", *SERVICES],
        **{f"of {folder}": [*pytest, "-m", "not stack", folder] for folder in SERVICES},
    }
    models = dict(environment)
    environment["RAY_worker_niceness"] = "0"  # they are waited for
    environment["JAXTYPING_DISABLE"] = "1"  # every shape is checked in the models' tests
    with ExitStack() as files:
        printed = {name: files.enter_context(tempfile.TemporaryFile()) for name in behind}
        processes = {
            name: subprocess.Popen(command, stdout=printed[name], stderr=subprocess.STDOUT, env=environment)
            for name, command in behind.items()
        }
        front = subprocess.Popen([*NICE, *pytest, "-m", "not stack", *MODELS], env=models, start_new_session=True)
        every = [front, *processes.values()]
        deadline = time.monotonic() + LIMIT_SECONDS
        try:
            # negative: ended by a signal
            status = {abs(process.wait(max(0.0, deadline - time.monotonic()))) for process in every}
        except KeyboardInterrupt:
            status = {_interrupt(every)}
        except subprocess.TimeoutExpired:
            print(f"\nThe tests go on after {LIMIT_SECONDS:.0f} s, and are interrupted.", flush=True)  # noqa: T201
            _interrupt(every)
            status = {LIMIT_STATUS}
        for name, file in printed.items():
            file.seek(0)
            sys.stdout.write(f"\nThe tests {name}, which ran beside these:\n")
            sys.stdout.flush()
            shutil.copyfileobj(file, sys.stdout.buffer)
    return max(status - {NO_TESTS}, default=NO_TESTS)


def _interrupt(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Interrupt those that go on, and kill them after their grace. Return the exit status."""
    going = [process for process in processes if process.poll() is None]
    for process in going:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    for process in going:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return int(signal.SIGINT) + 128


def _quick(arguments: list[str], environment: dict[str, str]) -> int:
    pytest = [sys.executable, "-m", "pytest", "-m", "not slow", "--durations=5", *arguments]
    models = subprocess.Popen([*pytest, "tests/unit/models"], env=environment)
    others = subprocess.run([*pytest, "tests/unit", "--ignore=tests/unit/models"], env=environment, check=False)
    return max({models.wait(), others.returncode} - {NO_TESTS}, default=NO_TESTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
