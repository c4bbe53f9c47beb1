"""All tests, in two processes at a time: those on the stack, which mostly wait, beside all others.

    python -m tests.run [arguments of pytest]

What the others print is seen as it comes, what those on the stack print when both have ended. The exit status is 0 if
both are; one of the two may have no tests where a path or an expression selects them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile

NO_TESTS = 5  # pytest's exit status
GRACE_SECONDS = 60.0  # for a stack to go down after Ctrl-C


def main(arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest", *arguments]
    # many processes share the cores, and two threads that wait for each other on a busy core cost ten times one
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    with tempfile.TemporaryFile() as printed:
        on_stack = subprocess.Popen([*pytest, "-m", "stack"], stdout=printed, stderr=subprocess.STDOUT, env=environment)
        others = subprocess.Popen([*pytest, "-m", "not stack"], env=environment)
        try:
            status = {others.wait(), on_stack.wait()}
        except KeyboardInterrupt:
            for process in (others, on_stack):
                process.send_signal(signal.SIGINT)
                process.wait(GRACE_SECONDS)
            status = {int(signal.SIGINT) + 128}
        printed.seek(0)
        sys.stdout.write("\nThe tests on the stack, which ran beside these:\n")
        sys.stdout.flush()
        shutil.copyfileobj(printed, sys.stdout.buffer)
    return max(status - {NO_TESTS}, default=NO_TESTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
