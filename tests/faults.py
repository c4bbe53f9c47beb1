"""Faults of an earlier version, probed there and here by the same command, where their tests cannot run there.

    python -m tests.faults [COMMIT]

Tests of these faults import modules that the earlier version has not, so their failing there says little. A probe
is a command line, or a few lines of Python that know the names of both versions; each prints what the version does. The
commit's files are laid out in a folder beside, and run with this environment's packages. Exit status 1: a fault is
here, or was not there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEFORE = "9d5392f"
SECONDS = 300
CLI = "import sys; from service.cli.main import main; sys.argv[0] = 'vaesvc'; main()"
GROUP = "base: digits/beta-vae-mlp\nstages: [{name: lr, space: {optimizer.lr: SPACE}, search: {kind: grid}}]\n"

STATE = """
import os, pathlib
from service.stack import state
folder = pathlib.Path("open"); folder.mkdir(); folder.chmod(0o755); (folder / "thesis.tex").touch()
make = getattr(state, "create", None) or (lambda path: path.mkdir(mode=0o700, parents=True, exist_ok=True))
try:
    make(folder)
    print("taken, mode", oct(folder.stat().st_mode & 0o777))
except Exception as error:
    print("refused:", str(error)[:60])
"""

MODE = """
from service.cli.main import main
import sys, yaml, io, contextlib
sys.argv = ["vaesvc", "submit", "digits/beta-vae-mlp", "--dry-run", "--set", "checkpoint.metric=val/distortion"]
text = io.StringIO()
with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
    main()
print("the", yaml.safe_load(text.getvalue())["train"]["checkpoint"]["mode"], "of val/distortion is the best")
"""

BRANCH = """
import subprocess
for command in (["init", "-q", "-b", "better-prior"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q",
                "--allow-empty", "-m", "m"]):
    subprocess.run(["git", *command], check=True)
try:
    from service.tracking import source
    from pathlib import Path
    print("branch:", source.read(Path.cwd()).branch)
except ImportError:
    from service.tracking import describe, runs
    said = [name for part in (describe, runs) for name in vars(part) if "branch" in name.lower()]
    print("branch:", said or "not read")
"""

OUTAGE = """
from service.wire import FinishRequest
print("a lost machine is", "told apart" if "outage" in FinishRequest.model_fields else "an attempt that failed")
"""

LONGER = """
import subprocess, sys
command = [sys.executable, "-c", "import sys; from service.cli.main import main; main()", "run", "digits/beta-vae-mlp",
           "--out", "run", "--set", "schedule.kind=constant", "--set"]
for epochs in ("1", "2"):
    ended = subprocess.run([*command, f"epochs={epochs}"], capture_output=True, text=True)
print("goes on" if ended.returncode == 0 else "refused: " + ended.stderr.strip().splitlines()[-1][:60])
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A probe's end. kib: the most memory that it had."""

    code: int
    out: str
    err: str
    kib: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """number: of the fault. arguments: of the command line, or `code`. files: written where it runs.
    says: what the version does, in words. faulty: whether that is the fault."""

    number: str
    what: str
    says: Callable[[Ended], str]
    faulty: Callable[[Ended], bool]
    arguments: tuple[str, ...] = ()
    code: str = CLI
    files: tuple[tuple[str, str], ...] = ()


def accepted(ended: Ended) -> str:
    return "accepted" if ended.code == 0 else f"refused, exit {ended.code}"


def dry(number: str, change: str) -> Probe:
    """A value that no machine can serve."""
    return Probe(
        number=number, what=f"--set {change}", says=accepted, faulty=lambda ended: ended.code == 0,
        arguments=("submit", "digits/beta-vae-mlp", "--dry-run", "--set", change),
    )  # fmt: skip


def printed(number: str, what: str, code: str, fault: str) -> Probe:
    """One that prints what the version does. fault: what it prints where the fault is."""
    return Probe(
        number=number, what=what, code=code, says=lambda ended: (ended.out or ended.err).strip().splitlines()[-1],
        faulty=lambda ended: fault in ended.out,
    )  # fmt: skip


def study(space: str) -> tuple[tuple[str, str], ...]:
    return (("study.yaml", GROUP.replace("SPACE", space)),)


UNKNOWN = json.dumps({"recipe": "digits/beta-vae-mlp"} | {f"unknown_{n}": 1 for n in range(3000)})
PROBES = (
    *(
        dry("05", change)
        for change in ("steps=1000000000000000000", "model.latent=1000000000")
    ),
    Probe(
        number="05", what="3,000 unknown fields", files=(("spec.json", UNKNOWN),),
        arguments=("submit", "spec.json", "--dry-run"),
        says=lambda ended: f"an answer of {len(ended.err):,} bytes", faulty=lambda ended: len(ended.err) > 10_000,
    ),
    Probe(
        number="05", what="a grid of 10,000,000 points", arguments=("submit", "study.yaml", "--dry-run"),
        files=study("{kind: log-uniform, low: 1.0e-5, high: 1, points: 10000000}"),
        says=lambda ended: f"{accepted(ended)}, {ended.kib >> 10:,} MiB", faulty=lambda ended: ended.kib > 500 << 10,
    ),
    printed("03", "a state folder open to others", STATE, "taken"),
    printed("07", "checkpoint.metric=val/distortion", MODE, "the max"),
    printed("13a", "a lost head or node", OUTAGE, "failed"),
    printed("13a", "more epochs of an ended run", LONGER, "refused"),
    Probe(
        number="13a", what="a study by train/typo", arguments=("submit", "study.yaml", "--dry-run"),
        files=(("study.yaml", GROUP.replace("SPACE", "[0.001, 0.002]").replace("{name", "{metric: train/typo, name")),),
        says=accepted, faulty=lambda ended: ended.code == 0,
    ),
    printed("13b", "git's branch, for MLflow", BRANCH, "not read"),
)  # fmt: skip


def run(probe: Probe, tree: Path) -> Ended:
    """Run the probe with this tree's packages, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="vaesvc-fault-") as name:
        folder = Path(name)
        for file, text in probe.files:
            (folder / file).write_text(text)
        environment = {**os.environ, "PYTHONPATH": str(tree), "HOME": name, "VAESVC_HOME": f"{name}/home"}
        command = ["timeout", str(SECONDS), sys.executable, "-c", probe.code, *probe.arguments]
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said = ((folder / file).read_text() for file in ("out", "err"))
        return Ended(code=process.returncode, out=next(said), err=next(said), kib=used.ru_maxrss)


def laid_out(commit: str, folder: Path) -> Path:
    """Lay the commit's files out in `folder`."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def main(commit: str = BEFORE) -> int:
    with tempfile.TemporaryDirectory(prefix="vaesvc-before-") as folder:
        trees = (laid_out(commit, Path(folder)), ROOT)
        wrong = 0
        print(f"{'FAULT':<6} {'PROBE':<36} {commit:<44} NOW")  # noqa: T201
        for probe in PROBES:
            then, now = (run(probe, tree) for tree in trees)
            wrong += probe.faulty(now) or not probe.faulty(then)
            mark = "" if probe.faulty(then) else "  (not seen there)"
            print(f"{probe.number:<6} {probe.what:<36} {probe.says(then)[:42]:<44} {probe.says(now)[:42]}{mark}")  # noqa: T201
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
