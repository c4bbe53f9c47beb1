"""What a report reads from runs, and leaves with them."""

from __future__ import annotations

from pathlib import Path

from service.tracking.runs import PATIENCE
from service.tracking.server import client, explained, patiently

FOLDER = "reports"  # of a run's artifacts
ASIDE = ("system/",)  # how the names of metrics begin that are about machines
Points = list[tuple[int, float]]


def histories(uri: str, run_id: str) -> dict[str, Points]:
    """Return every metric of the run, by name: (step, value), by step; of a step that was logged twice, the later."""
    server = client(uri)
    with explained(uri, f"read run {run_id}"):
        names = [name for name in server.get_run(run_id).data.metrics if not name.startswith(ASIDE)]
        return {name: _points(server.get_metric_history(run_id, name)) for name in names}


def has_ended(uri: str, run_id: str) -> bool:
    """Return whether the run is closed: everything is logged then."""
    with explained(uri, f"read run {run_id}"):
        return str(client(uri).get_run(run_id).info.status) != "RUNNING"


def _points(history: list[object]) -> Points:
    newest = {int(point.step): float(point.value) for point in sorted(history, key=lambda point: point.timestamp)}  # type: ignore[attr-defined]
    return sorted(newest.items())


def log_report(uri: str, run_id: str, page: Path) -> None:
    """Keep a report with the run, under reports/. The same name again takes its place. Raises UnavailableError where
    MLflow does not answer, AuthError where the login may not write.
    """

    def once() -> None:
        with explained(uri, f"keep a report with run {run_id}"):
            client(uri).log_artifact(run_id, str(page), FOLDER)

    patiently(once, PATIENCE)
