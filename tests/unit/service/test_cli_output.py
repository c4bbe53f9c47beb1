"""What commands print."""

from __future__ import annotations

import json

import pytest

from service.cli import output, progress
from service.quantities import size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0:00:00"),
        (59.6, "0:01:00"),
        (3599, "0:59:59"),
        (86399, "23:59:59"),
        (90061, "1 d 1:01:01"),
        (-3, "0:00:00"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (5 * 2**40, "5.0 TiB")]
)
def test_sizes(amount: float, text: str) -> None:
    assert size(amount) == text


def test_columns_are_aligned_and_numbers_flush_right(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(
        ("NAME", "STEP", "AGE [h:mm:ss]"), [("a", "-", "0:00:01"), ("longer", "1,234", "10:00:00"), ("", "5", "-")]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "NAME     STEP  AGE [h:mm:ss]",
        "a           -        0:00:01",
        "longer  1,234       10:00:00",
        "            5              -",
    ]


def test_an_empty_table_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A", "B"), [])
    assert capsys.readouterr().out == "A  B\n"


def test_progress_in_one_line() -> None:
    report = {
        "step": 1500,
        "total_steps": 3000,
        "epoch": 2.345,
        "images_per_second": 12345.6,
        "seconds_left": 61,
        "metrics": {"train/elbo": -80.123, "train/rate": 20.0, "val/distortion": None, "train/lr": 1e-3},
    }
    assert progress.line("train", report) == (
        "step 1,500/3,000  epoch 2.35  train ELBO -80.12  train rate 20.00  images/s 12,346  left 0:01:01"
    )


def test_progress_that_says_nothing_yet() -> None:
    assert progress.line("train", {}) == ""
    assert progress.line("train", {"step": 3, "metrics": {}}) == "step 3"


def test_json_keeps_what_records_hold(capsys: pytest.CaptureFixture[str]) -> None:
    from service.queue.roles import Role, Scope
    from service.wire import Identity

    output.as_json({"who": Identity(owner="ann", role=Role.ADMIN, scopes=(Scope.READ,)), "list": (1, None, "x")})
    assert json.loads(capsys.readouterr().out) == {
        "who": {"owner": "ann", "role": "admin", "token": "main", "scopes": ["read"], "expires_at": None},
        "list": [1, None, "x"],
    }


def test_the_best_known_metric_is_that_of_the_validation_split() -> None:
    assert progress.metric({"val/elbo": -3.0, "train/elbo": -2.0}, "elbo") == -3.0
    assert progress.metric({"train/elbo": -2.0}, "elbo") == -2.0
    assert progress.metric({}, "elbo") is None
