"""From a folder with a package, or a wheel, to the wheel in its canonical form. On the user's machine.

A folder is copied first, without what earlier builds left in it: setuptools would pack files that are long deleted.
Its build system is the environment's where that has it, which needs no network; else one that `uv` or `pip` fetches.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess  # nosec B404
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.code.wheel import MOST_BYTES, CodeError, Wheel, read

BUILD_SECONDS = 300.0
_SOURCE_BYTES = 256 << 20  # of the folder, where the limit of the wheel is lower
_EPOCH = "315532800"  # 1980, the first moment that a zip can hold
_LEFT_OUT = ("build", "dist", "*.egg-info", "__pycache__", "*.pyc", "node_modules", "venv")
_HOOK = (
    "import importlib, sys; sys.path[:0] = sys.argv[3:]; name, _, inner = sys.argv[1].partition(':'); "
    "found = importlib.import_module(name); "
    "found = getattr(found, inner) if inner else found; found.build_wheel(sys.argv[2])"
)


def built(path: Path, *, most_bytes: int = MOST_BYTES) -> Wheel:
    """Return the package at `path`: a `.whl`, or a folder with a pyproject.toml. Raises CodeError."""
    path = path.expanduser()
    if path.is_file() and path.suffix == ".whl":
        return read(_bytes(path, most_bytes), most_bytes=most_bytes, what=str(path))
    if not path.is_dir():
        what = "is no wheel (NAME.whl) and no folder" if path.exists() else "is not there"
        raise CodeError(f"{path} {what}; --code takes a folder with a pyproject.toml, or a wheel")
    if not (path / "pyproject.toml").is_file():
        raise CodeError(
            f"{path} has no pyproject.toml: it is no package. The smallest one is in docs/extending.md of vaesvc"
        )
    with tempfile.TemporaryDirectory(prefix="vaesvc-code-") as scratch:
        source, out = Path(scratch) / "source", Path(scratch) / "out"
        out.mkdir()
        _copy(path, source)
        _build(source, out, str(path))
        wheels = sorted(out.glob("*.whl"))
        if len(wheels) != 1:
            raise CodeError(f"{path} was built without an error, but there are {len(wheels)} wheels of it")
        return read(_bytes(wheels[0], most_bytes), most_bytes=most_bytes, what=f"the package in {path}")


def _bytes(path: Path, most_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most_bytes + 1)  # a byte more is too much, and said so
    except OSError as error:
        raise CodeError(f"{path} cannot be read: {error.strerror}") from error


def _copy(folder: Path, into: Path) -> None:
    total = 0

    def skip(place: str, names: list[str]) -> set[str]:
        nonlocal total
        skipped = shutil.ignore_patterns(*_LEFT_OUT, ".*")(place, names)
        for name in set(names) - skipped:
            path = Path(place) / name
            total += path.stat().st_size if path.is_file() else 0
        if total > _SOURCE_BYTES:
            raise CodeError(
                f"{folder} has more than {_SOURCE_BYTES >> 20} MiB of files: name the folder of the package alone, "
                "without data and runs"
            )
        return skipped

    try:
        shutil.copytree(folder, into, ignore=skip, ignore_dangling_symlinks=True)
    except shutil.Error as error:
        raise CodeError(f"{folder} cannot be read: {error.args[0][0][2]}") from error
    except OSError as error:
        raise CodeError(f"{folder} cannot be read: {error.strerror} ({error.filename})") from error


def _build(source: Path, out: Path, what: str) -> None:
    system = _system(source, what)
    backend = str(system.get("build-backend", "setuptools.build_meta:__legacy__"))
    beside = [str(source / str(place)) for place in system.get("backend-path", [])]
    if beside or importlib.util.find_spec(backend.partition(":")[0].partition(".")[0]) is not None:
        _run([sys.executable, "-c", _HOOK, backend, str(out), *beside], source, what)
        return
    needs = ", ".join(str(line) for line in system.get("requires", ["setuptools"]))
    if (uv := shutil.which("uv")) is not None:
        command = [uv, "build", "--wheel", "--python", sys.executable, "--out-dir", str(out), str(source)]
    elif importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(out), str(source)]
    else:
        raise CodeError(f"{what} is built with {needs}, which is not installed here, and neither is uv or pip")
    _run(command, source, f"{what} (with {needs}, fetched for it)")


def _system(source: Path, what: str) -> dict[str, Any]:
    try:
        project = tomllib.loads((source / "pyproject.toml").read_text())
    except (ValueError, OSError) as error:
        raise CodeError(f"{what}/pyproject.toml is not TOML: {error}") from None
    system = project.get("build-system", {})
    return system if isinstance(system, dict) else {}


def _run(command: Sequence[str], source: Path, what: str) -> None:
    hidden = ("PYTHONPATH", "VAESVC_TOKEN", "VAESVC_S3_SECRET_KEY")  # a build needs neither
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    try:
        ended = subprocess.run(
            command, cwd=source, env=env | {"SOURCE_DATE_EPOCH": _EPOCH}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BUILD_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CodeError(f"{what} was not built within {BUILD_SECONDS:.0f} s") from None
    if ended.returncode:
        lines = [line.strip() for line in ended.stdout.decode(errors="replace").splitlines() if line.strip()]
        raise CodeError(f"{what} cannot be built: {' | '.join(lines[-3:])[-1000:]}")
