"""How far a job is, as text: the same words for `submit --wait`, `watch`, `jobs` and `run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.cli.output import duration, number, whole

if TYPE_CHECKING:
    from service.queue.jobs import Job

_SHOWN = (("elbo", "ELBO"), ("rate", "rate"), ("distortion", "distortion"))  # nats per datum


def metric(metrics: Mapping[str, float], name: str) -> float | None:
    """The value on the validation split where there is one, else that of the last training batches."""
    return metrics.get(f"val/{name}", metrics.get(f"train/{name}"))


def pieces(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label with its unit, value) of everything that a progress report says."""
    if "trials" in progress:
        return _of_study(progress)
    metrics: Mapping[str, float] = progress.get("metrics") or {}
    step, total = progress.get("step"), progress.get("total_steps")
    found = [("step", "-" if step is None else f"{step:,}/{total:,}" if total else f"{step:,}")]
    found.append(("epoch", number(progress.get("epoch"))))
    for split in ("train", "val"):
        found += [
            (f"{split} {label} [nats]", number(metrics[f"{split}/{name}"]))
            for name, label in _SHOWN
            if f"{split}/{name}" in metrics
        ]
    found.append(("images/s", whole(progress.get("images_per_second"))))
    found.append(("left [h:mm:ss]", duration(progress.get("seconds_left"))))
    return found


def _of_study(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    step, total = progress.get("step", 0), progress.get("total_steps", 0)
    return [
        ("stage", str(progress.get("stage"))),
        ("trials ended", f"{progress.get('ended')}/{progress['trials']}"),
        ("steps of all", f"{step:,}/{total:,}"),
        ("images/s", whole(progress.get("images_per_second"))),
        ("left [h:mm:ss]", duration(progress.get("seconds_left"))),
    ]


def line(progress: Mapping[str, Any]) -> str:
    """One line: step 500/1,000  epoch 2.50  train ELBO -12.30 ..."""
    return "  ".join(f"{label.split(' [')[0]} {value}" for label, value in pieces(progress) if value != "-")


def state(job: Job) -> str:
    """A job's state with what is worth knowing about it."""
    if job.state.final:
        return f"{job.state.value}: {job.reason}" if job.reason else job.state.value
    where = f", position {job.position}" if job.position is not None else ""
    attempt = f", attempt {job.attempt}" if job.attempt > 1 else ""
    return f"{job.state.value}{where}{attempt}" + (f": {job.reason}" if job.reason else "")


def outcome(job: Job) -> list[str]:
    """What a job left behind: its final metrics and the model version that it became."""
    lines = [_stage(stage) for stage in job.result.get("stages", ())]
    lines += summary(job.result.get("metrics") or {})
    model = job.result.get("model")
    if isinstance(model, dict):
        aliases = "".join(f" @{alias}" for alias in model.get("aliases", ()))
        lines.append(f"{'model':<20} {model.get('name')} version {model.get('version')}{aliases}")
    return lines


def _stage(stage: Mapping[str, Any]) -> str:
    won = stage.get("winner")
    count = f"{stage['ended']}/{stage['trials']} trials" + (f", {stage['failed']} failed" if stage["failed"] else "")
    if not won:
        return f"{stage['name']:<20} {count}, no winner"
    error = won.get("standard_error")
    return f"{stage['name']:<20} {count}, winner {assignment(won['assignment'])}: {won['mean']:.6g}" + (
        "" if error is None else f" +- {error:.2g}"
    )


def assignment(values: Mapping[str, Any]) -> str:
    """What a trial tried: path=value, ..."""

    def short(value: Any) -> str:
        if isinstance(value, dict):
            inner = ", ".join(f"{k}={short(v)}" for k, v in value.items() if k != "kind")
            return f"{value.get('kind', '')}({inner})"
        return f"{value:g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{path}={short(value)}" for path, value in values.items())


def summary(metrics: Mapping[str, Any]) -> list[str]:
    """Final metrics, a line each, names as in MLflow."""
    return [
        f"{name:<20} {value:,.6g}" + (" nats" if name.rsplit("/")[-1] in {"elbo", "rate", "distortion"} else "")
        for name, value in sorted(metrics.items())
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
