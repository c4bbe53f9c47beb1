"""An attempt names addresses of the bucket: the API takes, reads and presigns those of its own job alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import __version__, areas, wire
from service.artifacts import Artifacts
from service.client import AttemptClient
from service.errors import UntrustedError
from service.kinds.train.spec import resolve
from service.queue.jobs import Checkpoint
from tests.api_server import Api, running_api, settings_in

ELSEWHERE = [
    "s3://another/{folder}/{job}/x",
    "s3://vaesvc/{folder}/j-of-somebody-else/x",
    "s3://vaesvc/{folder}/{job}-2/x",
    "s3://vaesvc/{folder}/{job}/../j-of-somebody-else/x",
    "s3://vaesvc/{folder}/{job}/%2e%2e/x",
    "s3://vaesvc/{folder}/{job}//x",
    "s3://vaesvc/{folder}/{job}/x?versionId=1",
    "s3://vaesvc/{folder}/{job}/",
    "s3://vaesvc/{folder}/{job}",
    "s3://vaesvc/secrets/x",
    "s3://vaesvc/",
    "file:///etc/passwd",
    "",
]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(settings_in(tmp_path / "home")) as running:
        yield running


@pytest.fixture
def runner(api: Api) -> Iterator[tuple[str, AttemptClient]]:
    """A job, and the client of its claimed attempt."""
    with api.client() as client:
        job = client.submit(resolve("digits/beta-vae-mlp"))
    (attempt,) = api.admit()
    with api.attempt_client(attempt) as found:
        found.claim(wire.ClaimRequest(runner_id="r", version=__version__))
        yield job.id, found


@pytest.mark.parametrize("address", ELSEWHERE)
def test_fault_02_an_area_holds_what_lies_below_it(address: str) -> None:
    area = areas.log_area(Artifacts(wire.StorageSettings(bucket="vaesvc")), "j-1")
    assert area.address("s3://vaesvc/logs/j-1/1.log") == "s3://vaesvc/logs/j-1/1.log"
    wrong = address.format(folder="logs", job="j-1")
    for call in (area.address, area.presign, area.get_bytes):
        with pytest.raises(UntrustedError, match="not below s3://vaesvc/logs/j-1/"):
            call(wrong)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_fault_02_an_attempt_reports_addresses_of_its_own_job_only(
    runner: tuple[str, AttemptClient], address: str
) -> None:
    """They were taken as they came, and read with the service's keys."""
    job, client = runner
    checkpoint = Checkpoint(attempt=1, step=5, uri="", manifest_sha256="0" * 64, bytes=1)
    for folder in ("checkpoints", "studies"):
        if folder in address or "{folder}" not in address:
            with pytest.raises(UntrustedError, match="is not below"):
                client.commit_checkpoint(checkpoint.model_copy(update={"uri": address.format(folder=folder, job=job)}))
    words: list[dict[str, Any]] = [
        {"log_uri": address.format(folder="logs", job=job)},
        {"result": {"pictures": {"rates": address.format(folder="pictures", job=job)}}},
        {"result": {"pictures": [address]}},
    ]
    for word in words:
        with pytest.raises(UntrustedError):
            client.finish(wire.FinishRequest(runner_id="r", outcome="succeeded", **word))
    assert client.commit_checkpoint(checkpoint.model_copy(update={"uri": f"s3://vaesvc/checkpoints/{job}/1-5/"})).kept


def test_fault_02_an_address_that_is_in_the_database_already_is_not_read(api: Api) -> None:
    """Reported to a service of an earlier version, or written there by hand."""
    with api.client() as client:
        job = client.submit(resolve("digits/beta-vae-mlp"))
        (attempt,) = api.admit()
        api.store.claim(job.id, attempt.number, "r")
        elsewhere = "s3://vaesvc/checkpoints/j-of-somebody-else/5/config.json"
        word = wire.FinishRequest(runner_id="r", outcome="succeeded", log_uri=elsewhere)
        api.store.finish(job.id, attempt.number, word)
        with pytest.raises(UntrustedError, match=f"not below s3://vaesvc/logs/{job.id}/"):
            client.logs(job.id)
