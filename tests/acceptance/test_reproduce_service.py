"""`vaesvc reproduce --service` on the embedded stack: the runs are jobs, their numbers are collected into the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import real_jobs

if TYPE_CHECKING:
    from tests.conftest import Stack

BRIEF = """
from tuning.reproductions.changes import mlp, recipe
from tuning.reproductions.claims import Less
from tuning.reproductions.entry import Column, Reproduction, Setup
from tuning.reproductions.readings import Evaluated, Logged
from vae_models.evaluation.specs import EvaluationPlan

SHORT = {"model.backbone": mlp(32), "log_every_steps": 10, "checkpoint.every_steps": 1000}


def build(scale):
    runs = {name: recipe("digits/beta-vae-mlp", {**SHORT, "steps": steps}) for name, steps in STEPS.items()}
    bound = {name: Logged(run=name, metric="test/elbo", factor=-1.0) for name in runs}
    return Setup(
        rows={name: name for name in runs},
        runs=runs,
        cells={
            **{(name, "bound"): each for name, each in bound.items()},
            ("long", "first"): Logged(run="long", metric="train/elbo", epoch=0),
            ("long", "units"): Evaluated(run="long", value="active_units"),
        },
        claims=(Less(text="longer is better", place="table 1", low=("long", "bound"), high=("short", "bound")),),
        seeds=1,
        plans={"long": EvaluationPlan.model_validate({"evaluators": [{"kind": "latent"}], "limit": 100})},
    )


STEPS = {"short": 5, "long": 200}
BRIEF = Reproduction(
    name="brief/table-1",
    summary="Longer is better.",
    columns=(Column(name="bound", heading="-ELBO [nats]"), Column(name="units", heading="active units")),
    build=build,
)
"""


def test_a_reproduction_by_jobs(stack: Stack, tmp_path: Path) -> None:
    """Two trainings and an evaluation go through the queue; the same command again finds them, and submits nothing."""
    site = tmp_path / "site"
    (site / "brief-1.0.dist-info").mkdir(parents=True)
    (site / "brief-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: brief\nVersion: 1.0\n")
    (site / "brief-1.0.dist-info" / "entry_points.txt").write_text(
        "[vaesvc.parts]\nreproduction.brief/table-1 = brief:BRIEF\n"
    )
    (site / "brief.py").write_text(BRIEF)
    arguments = ("reproduce", "brief", "table-1", "--service", "--out", str(tmp_path / "out"))

    def reproduced() -> dict[str, Any]:
        real_jobs.ran(stack.vaesvc(*arguments, seconds=400, PYTHONPATH=str(site)))
        result: dict[str, Any] = json.loads((tmp_path / "out" / "brief-table-1-small" / "result.json").read_text())
        return result

    with real_jobs.client(stack) as client:
        before = {job.id for job in client.jobs(limit=1000)}
        result = reproduced()
        jobs = [job for job in client.jobs(limit=1000) if job.id not in before]
        assert sorted(job.kind for job in jobs) == ["evaluate", "train", "train"]
        metrics = {job.spec["train"]["steps"]: job.result["metrics"] for job in jobs if job.kind == "train"}
        cells = {(cell["row"], cell["column"]): cell["ours"] for cell in result["cells"]}
        assert cells["long", "bound"] == [-metrics[200]["test/elbo"]]
        assert cells["short", "bound"] == [-metrics[5]["test/elbo"]]
        assert cells["long", "units"][0] > 0
        assert cells["long", "first"][0] < cells["long", "bound"][0] * -1  # the history has more than its end
        assert [claim["verdict"] for claim in result["claims"]] == ["holds"]
        assert reproduced()["cells"] == result["cells"]
        assert len(client.jobs(limit=1000)) == len(before) + 3
