"""The first thing that every worker process of a job does: Ray calls it before it loads anything of the job's."""

from __future__ import annotations

from service.code import path
from service.collector import collect_rarely


def prepare_worker() -> None:
    """Look for garbage rarely, and end where the job's own package is not the one that was submitted."""
    collect_rarely()
    path.check_path()
