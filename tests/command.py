"""The real command, as processes."""

from __future__ import annotations

import signal
import subprocess

from tests.forked import VAESVC, Forker, suits

RECIPE = "digits/beta-vae-mlp"
_FORKER = Forker()


def vaesvc(
    env: dict[str, str], *arguments: str, code: int = 0, seconds: float = 180
) -> subprocess.CompletedProcess[str]:
    """Runs it to its end. No command may answer with a traceback."""
    return _checked(run(env, *arguments, seconds=seconds), code)


def run(env: dict[str, str], *arguments: str, seconds: float = 180) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, in a process of its own that has the slow imports behind it."""
    command = [str(argument) for argument in arguments]
    return _FORKER.run(command, env, seconds) if suits(env) else _run(env, *command, seconds=seconds)


def anew(env: dict[str, str], *arguments: str, code: int = 0, seconds: float = 180) -> subprocess.CompletedProcess[str]:
    """As `vaesvc`, in a process that begins from nothing: where what is imported, or when, is shown."""
    return _checked(_run(env, *arguments, seconds=seconds), code)


def _run(env: dict[str, str], *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VAESVC, *arguments], env=env, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
    )


def _checked(done: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    return done


def start(env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [VAESVC, *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_listen_to_ctrl_c,
    )


def _listen_to_ctrl_c() -> None:
    """Shells start what runs in the background with SIGINT ignored, and children inherit that: tests run there too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
