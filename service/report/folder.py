"""What is shown of a model in a folder of this machine, of `vaesvc run` or `vaesvc pull`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.directories import MANIFEST
from service.errors import StorageError, UsageError
from service.report.records import Curve, Evaluated, Reported
from service.tracking import describe

if TYPE_CHECKING:
    from vae_models.evaluation.findings import Picture

CONFIG, METRICS, PICTURES, EVALUATION = "config.json", "metrics.jsonl", "pictures", "evaluation"
DRAWN = re.compile(r"(?P<name>.+)-(?P<step>\d+)\.png")


def reported(folder: Path) -> Reported:
    """Return what there is of the folder's model. Raise UsageError where it holds none, StorageError for what is
    damaged.
    """
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder} holds no model: name the --out of `vaesvc run`, or the folder of `vaesvc pull`")
    spec = _spec(folder / CONFIG)
    weights = _weights(folder)
    evaluated, notes = _evaluated(folder / EVALUATION, weights)
    facts = {"folder": str(folder), "compared as": f"{describe.data_name(spec)} ({describe.measure(spec)})"}
    return Reported(
        name=folder.name or str(folder),
        facts=facts | ({} if weights is None else {"weights": weights[:12]}),
        spec=spec,
        curves=_curves(folder / METRICS),
        pictures=tuple(_pictures(folder / PICTURES)),
        evaluated=evaluated,
        notes=notes,
    )


def _spec(path: Path) -> dict[str, Any]:
    try:
        spec = json.loads(path.read_bytes())
        describe.data_name(spec), describe.measure(spec)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{path} is damaged: it is no run's specification ({error!r})") from error
    return dict(spec)


def _weights(folder: Path) -> str | None:
    """Return the sum of the manifest of the model that would be evaluated now; None where there is none yet."""
    from vae_models.trained import folders
    from vae_models.training.errors import CheckpointError

    try:
        place = folder if (folder / MANIFEST).is_file() else folders.chosen(folder)
        return hashlib.sha256((place / MANIFEST).read_bytes()).hexdigest()
    except (CheckpointError, OSError):
        return None


def _curves(path: Path) -> Mapping[str, Curve]:
    """Return what was measured, by metric; of a step that was trained twice, the later."""
    if not path.is_file():
        return {}
    curves: dict[str, dict[int, float]] = {}
    for line in path.read_text().splitlines():
        try:
            point = json.loads(line)
        except ValueError:
            continue  # a line that a kill cut off
        for name, value in point["metrics"].items():
            curves.setdefault(name, {})[int(point["step"])] = float(value)
    return {name: sorted(points.items()) for name, points in curves.items()}


def _pictures(folder: Path) -> Iterator[Picture]:
    from vae_models.evaluation.findings import Picture

    newest: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.glob("*.png")):
        if match := DRAWN.fullmatch(path.name):
            newest[match["name"]] = max(newest.get(match["name"], (-1, path)), (int(match["step"]), path))
    for name, (step, path) in newest.items():
        yield Picture(name=name, png=path.read_bytes(), caption=f"Step {step:,}.")


def _evaluated(folder: Path, weights: str | None) -> tuple[tuple[Evaluated, ...], tuple[str, ...]]:
    """Return what was found out about these weights, the older first, and a note if there is more about others."""
    from vae_models.evaluation.findings import FINDINGS, read
    from vae_models.evaluation.kept import about

    places = sorted((path.parent for path in folder.glob(f"*/{FINDINGS}")), key=lambda place: place.stat().st_mtime)
    evaluated, others = [], 0
    for place in places:
        said = about(place)
        findings = read(place) if said.get("weights") == weights else None
        if findings is None:
            others += 1
        else:
            evaluated.append(Evaluated(plan=said["plan"], findings=findings))
    note = f"{others} evaluations are of weights before the ones that are there now, and left out: evaluate it again"
    return tuple(evaluated), (note,) if others else ()
