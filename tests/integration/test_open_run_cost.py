"""Opening a run costs the same however many runs the server has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.tracking import open_run
from tests.benchmarks import open_run as cost
from tests.jobs import make_job
from tests.servers import Mlflow, Swift

RUNS = 10_000
MOST_REQUESTS = 9
RATIO = 1.5


@pytest.fixture(scope="module")
def mlflow(swift: Swift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mlflow, Path]]:
    """One of its own: it is filled behind its back."""
    root = tmp_path_factory.mktemp("many") / "mlflow"
    server = Mlflow(root, swift)
    try:
        server.start()
        yield server, root
    finally:
        server.stop()


def test_fault_13b_opening_a_run_costs_the_same_among_many(
    mlflow: tuple[Mlflow, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, root = mlflow
    empty = cost.seconds(server.uri)
    cost.fill(root, RUNS)
    ratios = [cost.seconds(server.uri) / empty for _ in range(3)]  # others use the machine: the calmest counts
    assert min(ratios) < RATIO, ratios
    asked = _requests(monkeypatch)
    open_run(server.uri, make_job(), number=1)
    assert sum(asked.values()) <= MOST_REQUESTS, asked
    assert not [path for path in asked if "experiments/search" in path]


def _requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    import requests

    asked: Counter[str] = Counter()
    send = requests.Session.send

    def counted(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        asked[str(request.path_url).partition("?")[0]] += 1
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", counted)
    return asked
