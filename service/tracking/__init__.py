"""Runs in MLflow. The only package that uses mlflow; importing it does not import mlflow.

describe.py     what a run is called and what it says about itself (pure): params, tags
notes.py        what it says in words (pure)
source.py       commit, branch and address of the code
dataset.py      what it trains on (pure)
server.py       calls to an MLflow server, with timeouts and plain errors
experiments.py  one experiment for what can be compared
runs.py         one run per job: open, find again, end
pictures.py     pictures under the names that MLflow's image grid reads
models.py       the run's logged model
evaluations.py  what evaluations find out, on the run of the model that they are about
reports.py      what `vaesvc report` reads, and leaves
system.py       how busy the machine was
spool.py        points and pictures in a file until the server has them
delivery.py     from there to the server
outbox.py       what is said, in memory, then in the spool, then sent, in threads
writer.py       RunWriter: logs without ever holding up the caller
pack_writer.py  PackWriter: the same for several runs of one process, by one spool
"""

from __future__ import annotations

from service.tracking.describe import TrialRun
from service.tracking.pack_writer import LaneWriter, PackWriter
from service.tracking.runs import end_run, end_trial, find_run, find_trial, open_run, open_trial, open_trials
from service.tracking.server import check
from service.tracking.system import SystemMonitor
from service.tracking.writer import RunWriter, send_spool

__all__ = [
    "LaneWriter",
    "PackWriter",
    "RunWriter",
    "SystemMonitor",
    "TrialRun",
    "check",
    "end_run",
    "end_trial",
    "find_run",
    "find_trial",
    "open_run",
    "open_trial",
    "open_trials",
    "send_spool",
]
