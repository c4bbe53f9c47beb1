"""The real command, as processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

VAESVC = Path(sys.executable).parent / "vaesvc"
RECIPE = "digits/beta-vae-mlp"


def vaesvc(
    env: dict[str, str], *arguments: str, code: int = 0, seconds: float = 180
) -> subprocess.CompletedProcess[str]:
    """Runs it to its end. No command may answer with a traceback."""
    done = subprocess.run(
        [VAESVC, *arguments], env=env, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
    )
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
