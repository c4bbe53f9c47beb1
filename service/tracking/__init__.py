"""Runs in MLflow. The only package that uses mlflow; importing it does not import mlflow.

describe.py  what a run is called and what it says about itself (pure)
server.py    calls to an MLflow server, with timeouts and plain errors
runs.py      one run per job: open, find again, end
spool.py     points and pictures in a file until the server has them
writer.py    RunWriter: logs without ever holding up the caller
"""

from __future__ import annotations

from service.tracking.describe import TrialRun
from service.tracking.runs import end_run, end_trial, open_run, open_trial, open_trials
from service.tracking.server import check
from service.tracking.writer import RunWriter, send_spool

__all__ = [
    "RunWriter",
    "TrialRun",
    "check",
    "end_run",
    "end_trial",
    "open_run",
    "open_trial",
    "open_trials",
    "send_spool",
]
