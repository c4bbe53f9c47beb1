"""Real servers, started once for all tests that use them and ended with the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.artifacts import Artifacts
from tests.servers import Mlflow, Swift


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    server = Swift(tmp_path_factory.mktemp("servers") / "swift")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def artifacts(swift: Swift) -> Artifacts:
    return Artifacts(swift.storage)


@pytest.fixture(scope="session")
def mlflow_server(swift: Swift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    server = Mlflow(tmp_path_factory.mktemp("servers") / "mlflow", swift)
    try:
        server.start()
        yield server
    finally:
        server.stop()
