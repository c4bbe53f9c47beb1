"""What is left to be done in MLflow when a study is over: its trials' runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from service import tracking
from service.attempt.assignment import spool_uri_parts
from service.kinds.study.spec import StudySpec
from service.kinds.study.stage_ends import read
from service.queue.jobs import Job
from vae_models.measures import STORED

if TYPE_CHECKING:
    from service.kinds.house import House

SPOOL_SECONDS = 30.0  # to deliver one; what is left is tried again


def follow(uri: str, job: Job, house: House, folder: Path) -> None:
    """Deliver what its packs could not, and end the runs that were left open. Harmless to repeat.

    uri: MLflow's; folder: of this process, for files that a delivery reads.
    """
    artifacts = house.artifacts
    for stored in artifacts.list(artifacts.uri(*spool_uri_parts(job.id, trials=True))):
        if not stored.uri.endswith(".jsonl"):
            continue
        described = stored.uri.removesuffix(".jsonl") + ".run.json"
        run = tracking.TrialRun(**json.loads(artifacts.get_bytes(described)))
        path = folder / f"{job.id}-{stored.uri.rpartition('/')[2]}"
        path.write_bytes(artifacts.get_bytes(stored.uri))
        run_id = tracking.open_trial(uri, job, run, number=job.attempt)
        tracking.send_spool(uri, run_id, path, SPOOL_SECONDS)
        artifacts.delete_prefix(stored.uri)
        artifacts.delete_prefix(described)
    states = {
        (end.stage.name, end.trials[number].key): record.state
        for end in read(StudySpec.model_validate(job.spec, context=STORED), artifacts, job.id)
        for number, record in end.records.items()
    }
    for trial, run_id in tracking.open_trials(uri, job).items():
        tracking.end_trial(uri, run_id, states.get(trial, "stopped"))
