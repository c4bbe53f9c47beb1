"""run: the same loop in this process. No queue, no servers."""

from __future__ import annotations

import json as json_module
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import output, own_data, progress
from service.cli.arguments import AsJson, Overrides, Source
from service.cli.code import Code, bring, ref, require
from service.cli.own_data import DataHere
from service.errors import ConflictError, StorageError, UsageError, VaesvcError

if TYPE_CHECKING:
    from service.code.reference import CodeRef
    from vae_models.config.train import TrainConfig
    from vae_models.records import Progress
    from vae_models.training.loop import Result

STOPPING = "Stopping after a checkpoint. Ctrl-C again aborts without one."
LINE_SECONDS = 2.0  # between two lines of progress, where they cannot overwrite each other
TTY_SECONDS = 0.2  # where they can
BEGUN = ("config.json", "study.json", "trained", "choices")  # of a run, a study, reproductions
CODE = "code.json"  # of a folder: the package of own code that the run was begun with


def run(
    source: Source,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the run is kept; default runs/NAME.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.")] = "auto",
    data: DataHere = None,
    code: Code = None,
    json: AsJson = False,
) -> None:
    """Train in this process, into a folder. Run again with the same --out, it goes on from its last checkpoint; also
    with more epochs or steps.

    The first Ctrl-C writes a checkpoint and stops, the second aborts.
    """
    own = ref(bring(code))
    from service import kinds
    from service.kinds.train import KIND

    with own_data.of_this_machine(data) as called:
        resolved = kinds.resolve_as(KIND, source, own_data.changes(called, overrides), code=own)
    require(resolved.code)
    folder = out or Path("runs") / resolved.name.replace("/", "-")
    with own_folder(folder):
        same_code(folder, own)
        _same_config(folder, resolved.train)
        with own_data.fetched(resolved.train.data.name, resolved.train.data.digest):
            result = _train(resolved.train, folder, device)
    if json:
        output.as_json({"out": str(folder), **asdict(result)})
    else:
        for line in progress.summary(result.metrics):
            output.data(line)
    if result.stopped:
        output.note(
            f"Stopped at step {result.steps:,}, checkpoint written. Go on with the same command and --out {folder}"
        )
        raise typer.Exit(output.INTERRUPTED)
    output.note(f"Done: {result.steps:,} steps. Checkpoints, pictures and metrics.jsonl are in {folder}")


def _train(config: TrainConfig, folder: Path, device: str) -> Result:
    from vae_models.data.errors import DataError
    from vae_models.parts import PartError
    from vae_models.training.errors import TrainingError

    data_folders()
    with stop_on_interrupt() as stop, _printer() as show:
        from vae_models.training.context import LocalContext  # torch: 2 s, in which Ctrl-C is heard already
        from vae_models.training.loop import train

        context = LocalContext(
            folder,
            device=chosen_device(device),
            keep_best=config.checkpoint.keep_best,
            goal=config.checkpoint.goal,
            on_progress=show,
            say=output.note,
            stop=stop,
        )
        try:
            return train(config, context)
        except (DataError, TrainingError) as error:
            raise VaesvcError(str(error)) from error
        except PartError as error:  # a part of somebody's own keeps no promise of its protocol: nothing was trained
            raise UsageError(str(error)) from error


def data_folders() -> None:
    """Set the settings' folders where vae_models looks for them."""
    from service import settings

    loaded = settings.load()
    os.environ["VAESVC_CACHE_DIR"] = str(loaded.cache_dir)
    if loaded.cache_bytes is not None:
        os.environ["VAESVC_CACHE_BYTES"] = str(loaded.cache_bytes)
    if loaded.data_dir is not None:
        os.environ["VAESVC_DATA_DIR"] = str(loaded.data_dir)


def chosen_device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: {first}; allowed here: cpu" + _cuda_names()) from error
    return device


def _cuda_names() -> str:
    import torch

    return "".join(f", cuda:{index}" for index in range(torch.cuda.device_count()))


@contextmanager
def own_folder(folder: Path, *, by: str = "vaesvc run", mend: str = "name another --out") -> Iterator[None]:
    """Hold the folder for this process alone, inside the block. by: which command; mend: what else can be done."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise StorageError(f"{folder}: cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another `{by}` is at work in {folder}; {mend}") from None
        yield


def same_code(folder: Path, own: CodeRef | None) -> None:
    """Raise ConflictError if the folder was begun with other own code: it belongs to one package, or to none."""
    path = folder / CODE
    wanted = None if own is None else own.digest
    if not path.exists():
        if own is not None and any((folder / name).exists() for name in BEGUN):
            raise ConflictError(f"{folder} was begun without --code; name another --out")
        if own is not None:
            _write_config(path, own.model_dump(mode="json"))
        return
    try:
        begun = json_module.loads(path.read_text())
        name, version, digest = begun["name"], begun["version"], begun["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged ({error}); name another --out") from error
    if digest != wanted:
        raise ConflictError(
            f"{folder} was begun with the package {name} {version} (SHA-256 {digest[:12]}...): give that with --code, "
            "or name another --out"
        )


def _same_config(folder: Path, config: TrainConfig) -> None:
    """Check that the folder was begun with this configuration: it belongs to one, which may be given more epochs."""
    path = folder / "config.json"
    plain = config.model_dump(mode="json")
    if not path.exists():
        _write_config(path, plain)
        return
    try:
        begun = json_module.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} is damaged ({error}); name another --out") from error
    if begun == plain:
        return
    reason = _why_not_longer(begun, config)
    if reason is not None:
        changed = _differences(begun, plain)
        because = reason if {*changed} <= {"epochs", "steps"} else f"it differs in {', '.join(changed)}"
        raise ConflictError(f"{folder} was begun with another configuration ({because}); name another --out")
    _write_config(path, plain)
    output.note(f"{folder} is given more to do: it goes on from its last checkpoint.")


def _why_not_longer(begun: Any, config: TrainConfig) -> str | None:
    """Return why a run of `config` cannot go on from what was begun; None where it is the same for longer."""
    from pydantic import ValidationError

    from vae_models.config.longer import refusal
    from vae_models.config.train import TrainConfig
    from vae_models.measures import STORED

    try:
        return refusal(TrainConfig.model_validate(begun, context=STORED), config)
    except ValidationError:
        return "another version wrote it"


def _write_config(path: Path, plain: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json_module.dumps(plain, indent=2) + "\n")
    partial.replace(path)


def _differences(before: Any, after: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted({*before, *after})
        return [
            difference
            for name in names
            for difference in _differences(before.get(name), after.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if before == after else [path]


@contextmanager
def stop_on_interrupt(text: str = STOPPING) -> Iterator[Callable[[], bool]]:
    """Yield a check for whether Ctrl-C (or SIGTERM) was pressed once; the second time is a KeyboardInterrupt.

    text: what is said the first time
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        output.note(f"\n{text}")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _printer() -> Iterator[Callable[[Progress], None]]:
    """Yield a printer of progress on stderr: one line, overwritten, on a terminal, a line every few seconds
    elsewhere."""
    tty = sys.stderr.isatty()
    shown_at, newest, shown = float("-inf"), "", ""

    def write() -> None:
        nonlocal shown_at, shown
        shown_at, shown = time.monotonic(), newest
        sys.stderr.write(f"\r\033[K{newest}" if tty else f"{newest}\n")
        sys.stderr.flush()

    def show(now: Progress) -> None:
        nonlocal newest
        newest = progress.line("train", {**vars(now), "metrics": dict(now.metrics)})
        if time.monotonic() - shown_at >= (TTY_SECONDS if tty else LINE_SECONDS):
            write()

    try:
        yield show
    finally:
        if newest != shown:
            write()
        if tty and shown:
            output.note("")
