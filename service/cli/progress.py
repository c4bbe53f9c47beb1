"""How far a job is, as text: the same words for `submit --wait`, `watch`, `jobs` and `run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.kinds import named
from service.kinds.kind import loaded

if TYPE_CHECKING:
    from service.queue.jobs import Job


def metric(metrics: Mapping[str, float], name: str) -> float | None:
    """Return the value on the validation split where there is one, else that of the last training batches."""
    from vae_models.measures import on_validation

    return metrics.get(on_validation(name), metrics.get(f"train/{name}"))


def pieces(kind: str, progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label with its unit, value) of everything that a progress report holds, as the job's kind words it."""
    return loaded(named(kind).progress)(progress)


def line(kind: str, progress: Mapping[str, Any]) -> str:
    """Return one line: step 500/1,000  epoch 2.50  train ELBO -12.30 ..."""
    return "  ".join(f"{label.split(' [')[0]} {value}" for label, value in pieces(kind, progress) if value != "-")


def state(job: Job) -> str:
    """Return a job's state with what is worth knowing about it."""
    if job.state.final:
        return f"{job.state.value}: {job.reason}" if job.reason else job.state.value
    where = f", position {job.position}" if job.position is not None else ""
    attempt = f", attempt {job.attempt}" if job.attempt > 1 else ""
    return f"{job.state.value}{where}{attempt}" + (f": {job.reason}" if job.reason else "")


def outcome(job: Job) -> list[str]:
    """Return what a job left behind: its final metrics and the model version that it became."""
    lines = list(loaded(named(job.kind).outcome)(job.result))
    model = job.result.get("model")
    if isinstance(model, dict):
        aliases = "".join(f" @{alias}" for alias in model.get("aliases", ()))
        lines.append(f"{'model':<20} {model.get('name')} version {model.get('version')}{aliases}")
    return lines


def summary(metrics: Mapping[str, Any]) -> list[str]:
    """Return final metrics, a line each, names as in MLflow."""
    return [
        f"{name:<20} {value:,.6g}" + (" nats" if name.rsplit("/")[-1] in {"elbo", "rate", "distortion"} else "")
        for name, value in sorted(metrics.items())
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
