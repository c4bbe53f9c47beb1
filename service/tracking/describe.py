"""What a run is called, and what it says about itself. Pure functions of the job."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from service.queue.jobs import Job
from vae_models.config import LikelihoodConfig

JOB_ID = "vaesvc.job_id"
PARAM_LENGTH = 6000  # MLflow's limits, characters
TAG_LENGTH = 8000
GIT_SECONDS = 5.0

# The result does not depend on these: they would only blur a comparison. The tag vaesvc.spec has them, too.
ASIDE = frozenset({"log_every_steps", "evaluation", "checkpoint"})


def data_name(spec: Mapping[str, Any]) -> str:
    """The data as the model sees them: `mnist`, `mnist-dynamic` where they are binarized, noise where there is some."""
    data = spec["train"]["data"]
    binarize, noise = data.get("binarize", "none"), data.get("noise", {"kind": "none"})
    name = str(data["name"]) if binarize == "none" else f"{data['name']}-{binarize}"
    return name if noise["kind"] == "none" else f"{name}-{noise['pattern']}-{noise['variance']:g}"


def measure(spec: Mapping[str, Any]) -> str:
    """What log p(x|z) is: "density", "mass" (of two levels), "mass of 256 levels". Their nats are never compared."""
    kind = spec["train"]["model"]["likelihood"]["kind"]
    config = next(each for each in get_args(get_args(LikelihoodConfig)[0]) if each.model_fields["kind"].default == kind)
    return str(config.measure) if config.levels in (None, 2) else f"{config.measure} of {config.levels} levels"


def experiment_name(spec: Mapping[str, Any]) -> str:
    """One experiment per data and measure, because exactly within one are the nats of two runs comparable."""
    return f"{data_name(spec)} ({measure(spec)})"


def run_name(job: Job) -> str:
    return f"{job.name} {job.id}"


def flatten(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted paths and texts. A part's kind stands for the part: {"beta": {"kind": "warmup", "epochs": 10.0}} gives
    beta = warmup and beta.epochs = 10.0."""
    for key, value in config.items():
        where = path if key == "kind" and path else f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from flatten(value, where)
        else:
            yield where, _text(value)


def params(job: Job) -> dict[str, str]:
    """The resolved config, what was chosen to run it with, and where it came from."""
    train = {key: value for key, value in job.spec["train"].items() if key not in ASIDE}
    found = dict(flatten(train))
    found["workers"] = str(job.resources.workers)
    if job.spec.get("recipe"):
        found["recipe"] = str(job.spec["recipe"])
    return {key: value[:PARAM_LENGTH] for key, value in found.items()}


def tags(job: Job, epoch: int) -> dict[str, str]:
    found = {
        JOB_ID: job.id,
        "vaesvc.epoch": str(epoch),
        "vaesvc.owner": job.owner,
        "vaesvc.data": data_name(job.spec),
        "vaesvc.measure": measure(job.spec),
        "vaesvc.seed": _text(job.spec["train"].get("seed")),
        "vaesvc.workers": str(job.resources.workers),
        "mlflow.user": job.owner,
        "mlflow.source.name": "vaesvc",
        "mlflow.source.type": "JOB",
        **{f"version.{name}": version for name, version in versions().items()},
    }
    spec = json.dumps(job.spec, sort_keys=True)
    if len(spec) <= TAG_LENGTH:  # half a JSON text would help nobody
        found["vaesvc.spec"] = spec
    if commit := git_commit():
        found["mlflow.source.git.commit"] = commit
    return found


def versions() -> dict[str, str]:
    """Of what computes: read from the installed packages, nothing is imported."""
    found = {"python": platform.python_version()}
    for name in ("vaesvc", "torch", "ray", "mlflow"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            try:
                found[name] = importlib.metadata.version(f"{name}-skinny")
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


@functools.cache
def git_commit() -> str | None:
    """The commit of this package where it runs from a checkout, else VAESVC_GIT_COMMIT, else None."""
    if commit := os.environ.get("VAESVC_GIT_COMMIT"):
        return commit
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed: a repository around site-packages would be somebody else's
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        reply = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return reply.stdout.strip() or None if reply.returncode == 0 else None


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
