"""Times as people write them."""

from __future__ import annotations

import re
import time
from datetime import datetime

from service.errors import UsageError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds(text: str, option: str) -> float:
    """Return a span in seconds: 90, 90s, 30m, 2h, 1d, 1h30m. Raises UsageError that names `option`."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"{option} {text}: a span of time has the form 90s, 30m, 2h, 1d, or 1h30m")
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def moment(text: str, option: str) -> float:
    """Return a moment in seconds since 1970: a date, with its time of day or not (local, unless it says its zone), or a
    span that ends now. Raises UsageError that names `option`."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - seconds(text, option)
    except UsageError:
        raise UsageError(
            f"{option} {text}: a moment has the form 2026-11-29, 2026-11-29T14:00, or 2h, 7d (so long ago)"
        ) from None
