"""Pieces of an attempt's log, as text."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from service import areas, wire
from service.errors import NotFoundError

if TYPE_CHECKING:
    from service.artifacts import Artifacts

LOG_CHUNK_BYTES = 1 << 20


def log_chunk(artifacts: Artifacts, detail: wire.JobDetail, number: int | None, offset: int) -> wire.LogChunk:
    """Return a piece of an attempt's log, from byte `offset`. number: which attempt; None: the newest."""
    if number is None:
        number = detail.job.attempt
        if number == 0:  # nothing ran yet
            return wire.LogChunk(text="", offset=0, attempt=0, complete=detail.job.state.final)
    attempt = next((each for each in detail.attempts if each.number == number), None)
    if attempt is None:
        raise NotFoundError(f"job {detail.job.id} has no attempt {number}: it has {detail.job.attempt}")
    area = areas.log_area(artifacts, detail.job.id)
    try:
        data = area.get_bytes(attempt.log_uri or f"{area.uri}/{number}.log", start=offset)
    except NotFoundError:
        data = b""  # not written yet, or lost with its attempt
    more = len(data) > LOG_CHUNK_BYTES
    ended = not attempt.state.open and not more
    text, used = decode_prefix(data[:LOG_CHUNK_BYTES], final=ended)
    return wire.LogChunk(text=text, offset=offset + used, attempt=number, complete=ended)


def decode_prefix(data: bytes, *, final: bool) -> tuple[str, int]:
    """Return UTF-8 text and its bytes: unless `final`, a character cut off at the end waits for the next read."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, final)
    return text, len(data) - len(decoder.getstate()[0])
