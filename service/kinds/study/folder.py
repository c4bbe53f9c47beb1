"""A study in a folder of this machine: begun, gone on with, read again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli import local, output
from service.errors import StorageError, UsageError, VaesvcError

if TYPE_CHECKING:
    from tuning.local import StageResult, StudyProgress
    from tuning.study import StudyConfig

FILE = "study.json"
LINE_SECONDS = 5.0  # between two lines of progress


def train(study: StudyConfig, folder: Path, device: str, lanes: int | None) -> list[StageResult]:
    from tuning.local import run_study
    from vae_models.data.errors import DataError
    from vae_models.training.errors import TrainingError

    local.data_folders()
    with local.stop_on_interrupt() as stop:
        try:
            return run_study(
                study, folder, device=local.chosen_device(device), width=lanes, stop=stop, say=output.note,
                on_progress=_Printer(),
            )  # fmt: skip
        except (DataError, TrainingError) as error:
            raise VaesvcError(str(error)) from error


class _Printer:
    """A line on stderr every few seconds."""

    def __init__(self) -> None:
        self._shown = float("-inf")

    def __call__(self, now: StudyProgress) -> None:
        if time.monotonic() - self._shown < LINE_SECONDS:
            return
        self._shown = time.monotonic()
        width = f", {now.width} at a time" if now.width else ""
        output.note(
            f"{now.stage}: {now.ended} of {now.trials} trials ended, step {now.steps:,}/{now.total_steps:,} of all"
            f"{width}, left {output.duration(now.seconds_left)} [h:mm:ss]"
        )


def same_study(folder: Path, study: StudyConfig) -> None:
    path = folder / FILE
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(study.model_dump_json(indent=2) + "\n")
        partial.replace(path)
    elif read(folder) != study:
        raise UsageError(f"{folder} was begun with another study; name another --out")


def read(folder: Path) -> StudyConfig:
    from tuning.study import StudyConfig
    from vae_models.measures import STORED

    try:
        return StudyConfig.model_validate_json((folder / FILE).read_text(), context=STORED)
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {FILE}: it is not the folder of a study") from None
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise StorageError(f"{folder / FILE} is damaged ({why}); name another --out") from error
