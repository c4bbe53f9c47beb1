"""Times as people write them."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from service.cli.times import moment, seconds
from service.errors import UsageError


@pytest.mark.parametrize(("text", "span"), [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1.5d", 129_600)])
def test_spans(text: str, span: float) -> None:
    assert seconds(text, "--max-time") == span


@pytest.mark.parametrize("text", ["", "h", "1x", "-5m", "1h 30m", "m5"])
def test_what_is_no_span_says_what_is(text: str) -> None:
    with pytest.raises(UsageError, match=r"--max-time .*: a span of time has the form 90s, 30m, 2h"):
        seconds(text, "--max-time")


def test_moments() -> None:
    assert moment("2026-11-29T14:00:00+00:00", "--since") == 1_795_960_800
    assert moment("2026-11-29", "--since") == datetime(2026, 11, 29).timestamp()
    assert moment("2h", "--since") == pytest.approx(time.time() - 7200, abs=60)
    with pytest.raises(UsageError, match="--until tomorrow: a moment has the form"):
        moment("tomorrow", "--until")
