"""--array: many jobs of one spec, each with overrides of its own."""

from __future__ import annotations

import hashlib
import re
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.errors import UsageError

if TYPE_CHECKING:
    from service.client import Client
    from service.queue.jobs import Job
    from service.specs.job import JobSpec

INDEX = "{index}"
LARGEST_FILE = 1 << 22  # bytes
PAGE = 1000  # jobs asked for at a time

Array = Annotated[
    str | None,
    typer.Option(
        "--array",
        metavar="0-99%10",
        help="One job for each of these numbers, at most 10 of them at once; they differ by --lines, or by {index} in "
        "--set.",
        show_default=False,
    ),
]
Lines = Annotated[
    Path | None,
    typer.Option(
        "--lines",
        metavar="FILE",
        help="Line I (from 0) has the overrides of job I: path=value path=value.",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Range:
    """indices: in the order of submission. at_most: of them at once; None: no limit."""

    indices: tuple[int, ...]
    at_most: int | None


def read(text: str) -> Range:
    """Return the numbers of `0-99`, `0-9,20,30-39`, `0-99%10`. Raises UsageError."""
    from service.specs.job import LARGEST_ARRAY

    written, percent, limit = text.partition("%")
    parts = [re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part) for part in written.split(",")]
    if None in parts or (percent and not re.fullmatch(r"[1-9][0-9]{0,4}", limit)):
        raise UsageError(f"--array {text}: it has the form 0-99, 0-9,20,30-39 or, for at most 10 at once, 0-99%10")
    bounds = [(int(part[1]), int(part[2] or part[1])) for part in parts if part is not None]
    last = max(high for _, high in bounds)
    if last >= LARGEST_ARRAY:
        raise UsageError(f"--array {text}: {last:,} is too large; the largest number is {LARGEST_ARRAY - 1:,}")
    indices = tuple(dict.fromkeys(index for low, high in bounds for index in range(low, high + 1)))
    if not indices:
        raise UsageError(f"--array {text}: no number lies in it")
    return Range(indices=indices, at_most=int(limit) if percent else None)


def overrides_of(range_: Range, lines: Path | None, overrides: Sequence[str]) -> Mapping[int, list[str]]:
    """Return the overrides of each job, by its number. Raises UsageError where all would be the same."""
    of_lines = _lines(lines) if lines is not None else {}
    if lines is None and not any(INDEX in each for each in overrides):
        raise UsageError(
            "--array: all of these jobs would be the same: name a file with --lines, or write --set seed={index}"
        )
    if lines is not None and (missing := [index for index in range_.indices if index not in of_lines]):
        raise UsageError(f"--array: {lines} has no line {missing[0]} (from 0); it has {len(of_lines)}")
    return {
        index: [each.replace(INDEX, str(index)) for each in (*overrides, *of_lines.get(index, ()))]
        for index in range_.indices
    }


def _lines(path: Path) -> dict[int, list[str]]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"--lines: {path} has more than {LARGEST_FILE:,} bytes")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--lines: {path} cannot be read: {error}") from None
    written = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    try:
        return {index: shlex.split(line) for index, line in enumerate(written)}
    except ValueError as error:
        raise UsageError(f"--lines: {path}: {error}") from None


def specs(range_: Range, resolve: Callable[[int], JobSpec], key: str | None) -> list[JobSpec]:
    """Return the jobs' specs, each with its number at the end of its name; their models are versions of one.

    key: of the submission: the same one again means the same array.
    """
    from service.queue.ids import ALPHABET
    from service.specs.job import ArrayPlace

    letters = hashlib.sha256(key.encode()).digest() if key is not None else secrets.token_bytes(32)
    array = "a-" + "".join(ALPHABET[byte & 31] for byte in letters[:13])
    made = []
    for index in range_.indices:
        place = ArrayPlace(id=array, index=index, size=len(range_.indices), at_most=range_.at_most)
        spec = resolve(index)
        made.append(spec.model_copy(update={"array": place, "name": f"{spec.name[:93]}/{index}"}))
    return made


def members(client: Client, job_id: str) -> list[Job]:
    """Return the jobs of an array, oldest first. Raises UsageError for one that is not there."""
    listed: list[Job] = []
    while page := client.jobs(array=job_id, limit=PAGE, before=listed[-1].id if listed else None):
        listed += page
    if not listed:
        raise UsageError(f"no array {job_id!r}; `vaesvc jobs` lists those there are")
    return listed[::-1]


def expanded(client: Client, job_ids: Sequence[str], wanted: Callable[[Job], bool]) -> list[str]:
    """Return the jobs, each array as those of its jobs for which `wanted` holds."""
    ids: list[str] = []
    for job_id in job_ids:
        ids += [job.id for job in members(client, job_id) if wanted(job)] if job_id.startswith("a-") else [job_id]
    return ids
