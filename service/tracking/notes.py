"""What MLflow's pages say in words, as Markdown: of a run, a trial, an experiment. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from service import __version__, kinds
from service.kinds.kind import Kind
from service.queue.jobs import Job
from service.tracking.source import source

NOTE = "mlflow.note.content"
SPEC = "vaesvc.spec"  # the tag with the whole of it


def run_note(job: Job, config: Mapping[str, Any], measured: str | None) -> str:
    """Return what a job is, who wants it, and the commands that get it back.

    config: the `TrainConfig` that it is about, as data; empty where it is about none. measured: on what, in which unit.
    """
    kind = kinds.named(job.kind)
    recipe = job.spec.get("recipe")
    rows = {"job": f"`{job.id}`", "recipe": f"`{recipe}`" if recipe else "none: a configuration of its own"}
    if measured is not None:
        rows["data"] = measured
    if config:
        rows["model"] = f"{config['model']['kind']}, {config['model']['likelihood']['kind']} likelihood"
    rows |= {"owner": job.owner, "workers": str(job.resources.workers), "code": code(), **kind.remarks}
    what = kind.called[:1].upper() + kind.called[1:]
    return f"{what} of **{job.name}**, by vaesvc.\n\n{_table(rows)}\n\nTo get it back:\n\n{_commands(job, kind)}\n"


def trial_note(job: Job, stage: str, number: int, assignment: Mapping[str, Any]) -> str:
    rows = {"study": f"`{job.id}`", "stage": stage, "trial": str(number), "owner": job.owner, "code": code()}
    rows |= {path: f"`{json.dumps(value)}`" for path, value in assignment.items()}
    command = f"    vaesvc study show {job.id}  # every trial, best first"
    return f"A trial of the study **{job.name}**, by vaesvc.\n\n{_table(rows)}\n\nTo get it back:\n\n{command}\n"


def experiment_note(kind: str, measured: str | None) -> str:
    if measured is None:
        return f"What jobs of kind {kind} logged."
    return f"{measured}. Comparable with each other."


def model_note(name: str) -> str:
    """Return what a registered model is, and how it is used."""
    return (
        f"A variational autoencoder, trained and registered by vaesvc: a version for each job with "
        f"`register_as: {name}`. `predict` gives E[x|z] at the posterior's mean.\n\n"
        f"    vaesvc models                        # versions, values, which is the best\n"
        f"    vaesvc pull {name} ./model\n\n"
        f"    import vaesvc\n"
        f'    model = vaesvc.load("{name}@best")   # verifies who made it; mlflow.pyfunc.load_model does not\n'
    )


def version_note(line: str, job: Job, data: str, measure: str, page: str | None) -> str:
    """Return a version's note. line: which checkpoint it is, and its value; page: of its run in MLflow."""
    recipe = job.spec.get("recipe")
    rows = {"job": f"`{job.id}` (`vaesvc show {job.id}`)", "data": f"{data}; nats per datum of a {measure}"}
    rows |= {"recipe": f"`{recipe}`"} if recipe else {}
    rows |= {"owner": job.owner, "code": code()}
    rows |= {"run": f"[{job.name}]({page})"} if page else {}
    return f"{line}\n\n{_table(rows)}\n"


def code() -> str:
    """Return version and commit, as far as they are known."""
    git = source()
    if git.commit is None:
        return f"vaesvc {__version__}"
    branch = f" on {git.branch}" if git.branch else ""
    changed = ", with changes that are not committed" if git.dirty else ""
    return f"vaesvc {__version__}, commit `{git.commit[:12]}`{branch}{changed}"


def _commands(job: Job, kind: Kind) -> str:
    lines = [
        (kind.shows.format(job=job.id), kind.shown),
        (f"vaesvc logs {job.id}", "what its processes printed"),
        (f"vaesvc retry {job.id}", "go on from the last checkpoint, where it did not succeed"),
    ]
    if name := job.spec.get("register_as"):
        lines.append((f"vaesvc pull {name} ./model", "the best registered model of this name"))
    if job.spec.get("recipe"):
        lines.append((f"vaesvc submit {job.spec['recipe']}", f"the same again; the tag {SPEC} has all that was set"))
    width = max(len(command) for command, _ in lines)
    return "\n".join(f"    {command:<{width}}  # {meaning}" for command, meaning in lines)


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {_cell(value)} |" for name, value in rows.items())])


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")
