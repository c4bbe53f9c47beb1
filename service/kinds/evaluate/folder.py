"""A model in a folder of this machine, of `vaesvc run` or `vaesvc pull`, evaluated there: no queue, no servers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cli import local, output, own_data
from service.errors import UsageError, VaesvcError
from service.kinds.evaluate import plans
from service.kinds.evaluate.pace import Pace, Standing, pieces
from service.kinds.evaluate.storage import SUMMARY
from service.kinds.evaluate.weights import Weights, load

if TYPE_CHECKING:
    from vae_models.evaluation.findings import Findings
    from vae_models.evaluation.specs import EvaluationPlan

FOLDER = "evaluation"
SAMPLERS = "samplers"  # beside the model: `vae_models.trained` finds them there


def evaluated(folder: Path, fields: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return what was found out about the model in `folder`, kept there; what was found out before is read.

    fields: of an `EvaluationPlan`. Raise UsageError for what does not suit, and where nobody can be asked; Interrupted
    where Ctrl-C came before the end.
    """
    local.data_folders()
    plan = plans.read(fields)
    with local.stop_on_interrupt("Stopping. Ctrl-C again aborts.") as stop:
        _need_code(folder)
        weights = load(folder)
        plans.fitting(plan, weights.config)
        with local.own_folder(folder / FOLDER, by="vaesvc evaluate", mend="wait for it"):
            data = weights.config.data
            with own_data.fetched(data.name, data.digest):
                findings = _evaluate(weights, plan, folder / FOLDER, device, stop)
            summary = {
                "model": {"place": str(weights.place), "manifest_sha256": weights.manifest_sha256},
                "plan": plan.model_dump(mode="json"),
                "findings": {key: each.plain() for key, each in findings.items()},
            }
            _write(folder / FOLDER / SUMMARY, summary)
    return summary


def plan(folder: Path, fields: Mapping[str, Any]) -> None:
    """Print what would be found out about the folder's model, and what is left out and why."""
    from service.kinds.evaluate.plan import show

    _need_code(folder)
    show(plans.read(fields), load(folder).config)


class Interrupted(Exception):  # noqa: N818 - says what is the case
    """Ctrl-C: what had been found out is kept."""


def _need_code(folder: Path) -> None:
    """Raise UsageError unless this process has the package of own code that a run was begun with, if it was."""
    from service.cli.code import require
    from service.code.reference import CodeRef

    for run in (folder, *folder.parents[:2]):  # the folder may be a checkpoint in the run's
        if (run / local.CODE).is_file():
            require(CodeRef.model_validate_json((run / local.CODE).read_bytes()))


def _evaluate(
    weights: Weights, plan: EvaluationPlan, folder: Path, device: str, stop: Callable[[], bool]
) -> dict[str, Findings]:
    from vae_models import data
    from vae_models.data.errors import DataError
    from vae_models.evaluation.findings import NotFinite
    from vae_models.evaluation.kept import FolderKept
    from vae_models.evaluation.run import evaluate
    from vae_models.evaluation.subject import Inapplicable, Stopped, Subject
    from vae_models.trained.folders import owner
    from vae_models.training import history

    evaluators = plans.fitting(plan, weights.config)
    try:
        with _printer() as show:
            kept = FolderKept(folder, weights=weights.manifest_sha256, plan=plan, evaluators=evaluators)
            pace = Pace(kept, evaluators, show=show, stopping=lambda: stop)
            subject = Subject(
                weights.model, weights.config, data.load(weights.config.data), plan,
                device=local.chosen_device(device), tick=pace.tick, history=history.read(owner(weights.place)),
                samplers=owner(weights.place) / SAMPLERS,
            )  # fmt: skip
            try:
                subject.count()
                return evaluate(subject, kept=pace, say=output.note)
            finally:
                subject.close()
    except Inapplicable as error:
        raise UsageError(str(error)) from error
    except Stopped:
        raise Interrupted from None
    except (DataError, NotFinite) as error:
        raise VaesvcError(str(error)) from error


@contextmanager
def _printer() -> Iterator[Callable[[Standing], None]]:
    """Yield a printer of progress on stderr: one line, overwritten, on a terminal, one every few seconds elsewhere."""
    tty, shown_at = sys.stderr.isatty(), time.monotonic()
    every = local.TTY_SECONDS if tty else local.LINE_SECONDS

    def show(now: Standing) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at < every:
            return
        shown_at = time.monotonic()
        line = "  ".join(f"{label.split(' [')[0]} {value}" for label, value in pieces(asdict(now)) if value != "-")
        sys.stderr.write(f"\r\033[K{line}" if tty else f"{line}\n")
        sys.stderr.flush()

    try:
        yield show
    finally:
        if tty:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _write(path: Path, summary: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(summary, indent=1) + "\n")
    partial.replace(path)
