"""The real command, as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.forked import COMMANDS, VAESVC, Forked, Forker, Stream, suits

RECIPE = "digits/beta-vae-mlp"
Process = Forked | subprocess.Popen[str]
_FORKER = Forker("_vaesvc:main", COMMANDS)


def vaesvc(
    env: dict[str, str], *arguments: str, code: int = 0, seconds: float = 180
) -> subprocess.CompletedProcess[str]:
    """Runs it to its end. No command may answer with a traceback."""
    return _checked(run(env, *arguments, seconds=seconds), code)


def run(env: dict[str, str], *arguments: str, seconds: float = 180) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, in a process of its own that has the slow imports behind it."""
    command = [str(VAESVC), *(str(argument) for argument in arguments)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = start(env, *arguments, stdout=out, stderr=err)
        try:
            code = process.wait(seconds)
        except BaseException:
            process.kill()
            raise
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return subprocess.CompletedProcess(command, code, *texts)


def anew(env: dict[str, str], *arguments: str, code: int = 0, seconds: float = 180) -> subprocess.CompletedProcess[str]:
    """As `vaesvc`, in a process that begins from nothing: where what is imported, or when, is shown."""
    done = subprocess.run(
        [VAESVC, *arguments], env=env, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
    )
    return _checked(done, code)


def _checked(done: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    return done


def start(
    env: dict[str, str],
    *arguments: str,
    stdout: Stream = subprocess.PIPE,
    stderr: Stream = subprocess.PIPE,
    anew: bool = False,
) -> Process:
    """Starts it, in a process of its own that has the slow imports behind it; Ctrl-C reaches it. anew: in one that
    begins from nothing."""
    command = [str(VAESVC), *(str(argument) for argument in arguments)]
    if suits(env) and not anew:
        return _FORKER.start(command, env, stdout=stdout, stderr=stderr)
    return subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True,
        preexec_fn=_listen_to_ctrl_c,
    )  # fmt: skip


def python(
    code: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> Forked:
    """Starts `python -c CODE ARGUMENTS` in a process of its own that has the slow imports behind it."""
    env = os.environ if env is None else env
    assert suits(env)
    return _FORKER.start(["-c", *arguments], env, stdout=stdout, stderr=stderr, folder=folder, code=code)


def _listen_to_ctrl_c() -> None:
    """Shells start what runs in the background with SIGINT ignored, and children inherit that: tests run there too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
