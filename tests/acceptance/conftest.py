"""A user's shell: a home of its own, and a service to talk to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_server import Api, running_api, settings_in


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A home of its own, no settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAESVC_", "AWS_"))}
    return kept | {"VAESVC_HOME": str(tmp_path / "home"), "VAESVC_CONFIG": "", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(settings_in(tmp_path / "service")) as running:
        yield running


@pytest.fixture
def online(env: dict[str, str], api: Api) -> dict[str, str]:
    return env | {"VAESVC_API_URL": api.url, "VAESVC_TOKEN": api.token}
