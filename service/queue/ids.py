"""Job ids: short, sortable by the time of submission, safe in Ray submission ids, S3 keys and DNS labels."""

from __future__ import annotations

import secrets

# Crockford's base 32 in lower case: no i, l, o, u; digits sort before letters in ASCII as they do here
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TICKS_PER_SECOND = 10_000
TIME_DIGITS = 9  # 45 bits of 100 microseconds: until the year 2081
RANDOM_DIGITS = 4  # 20 bits tell apart what was submitted within the same tick
ID_PATTERN = rf"^j-[{ALPHABET}]{{{TIME_DIGITS + RANDOM_DIGITS}}}$"


def _digits(number: int, count: int) -> str:
    return "".join(ALPHABET[(number >> 5 * place) & 31] for place in reversed(range(count)))


def new_job_id(now: float) -> str:
    """Return a new id. `now` is in seconds since 1970; ids of later ticks sort after earlier ones."""
    ticks = int(now * TICKS_PER_SECOND)
    return f"j-{_digits(ticks, TIME_DIGITS)}{_digits(secrets.randbits(5 * RANDOM_DIGITS), RANDOM_DIGITS)}"


def first_id(now: float) -> str:
    """Return the smallest id of the tick of `now`, in seconds since 1970: those of earlier ticks sort before it."""
    ticks = min(max(int(now * TICKS_PER_SECOND), 0), (1 << 5 * TIME_DIGITS) - 1)
    return f"j-{_digits(ticks, TIME_DIGITS)}{ALPHABET[0] * RANDOM_DIGITS}"
